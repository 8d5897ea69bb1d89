"""Targets and pixel weights that teach the network to separate objects, as in the paper.

Objects that touch get a border of background between them (`separation_border`), which the network learns. A pixel has
a weight that balances the classes, and weighs more in a narrow gap between objects:

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1 and d2 are the distances to the nearest and to the second nearest object. The second term depends only on the
objects: it is computed once per mask (`separation`), then cropped and augmented with the mask. The first is looked up
by the class of each pixel (`class_balance`) when a crop is ready.

Reference: Ronneberger et al. 2015, section 3 and equation 2.
"""

import math

import numpy as np
from scipy import ndimage

# Where d1 + d2 is at least so many sigma, the term is below 2e-8 w0: float32 loses it beside a weight near 1.
REACH = 6.0


def separation_border(instances: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Pixels of objects that share an edge with a pixel of another object of the same class.

    Removing them leaves two pixels of background where objects touch. (The paper says only that it computes borders
    "using morphological operations".) Corners do not touch, as everywhere where objects are connected components.
    Objects of different classes may touch: their classes separate them.

    Args:
        instances: whole numbers [H,W], one for each object, 0 the background.
        label: class indices [H,W].

    Returns:
        bool [H,W].
    """
    height, width = instances.shape
    border = np.zeros((height, width), bool)
    for down, right in ((0, 1), (1, 0)):  # `there` covers the opposite two
        here = slice(0, height - down), slice(0, width - right)
        there = slice(down, height), slice(right, width)
        touch = (instances[here] != instances[there]) & (instances[here] > 0) & (instances[there] > 0)
        touch &= label[here] == label[there]
        border[here] |= touch
        border[there] |= touch
    return border


def separation(instances: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """The weight of a background pixel for lying between objects: w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are Euclidean distances between pixel centers: to the nearest pixel of the nearest object, and of the
    second nearest. The weight is 0 or negligible from 6 sigma on, 0 with fewer than two objects, and 0 in objects. The
    paper's equation does not exclude objects, but its figure 3d shows no weight there; the same weight on both sides of
    a border would not help the thin border.

    Args:
        instances: whole numbers [H,W], one for each object, 0 the background.
        w0: 0 or more.
        sigma: in pixels, above 0.

    Returns:
        float32 [H,W] in 0..w0.
    """
    values, numbers = np.unique(instances, return_inverse=True)
    numbers = numbers.reshape(instances.shape) + 1
    reach = math.ceil(REACH * sigma)
    first, second = np.full((2, *instances.shape), np.inf, np.float32)
    for number, (value, box) in enumerate(zip(values, ndimage.find_objects(numbers), strict=True), start=1):
        if value == 0:
            continue
        # This object changes nothing farther away.
        around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(numbers[around] != number).astype(np.float32)
        nearer, farther = first[around], second[around]
        np.minimum(farther, np.maximum(nearer, distance), out=farther)
        np.minimum(nearer, distance, out=nearer)
    weights = np.float32(w0) * np.exp(-((first + second) ** 2) / np.float32(2 * sigma**2))
    return np.where(instances == 0, weights, np.float32(0))


def class_balance(frequencies: np.ndarray) -> np.ndarray:
    """w_c: the pixel weight of each class, so that the pixels of each class have the same total weight.

    w_c[k] = 1 / (K frequencies[k]) with K the number of classes that occur; 0 for the others

    The mean weight of the counted pixels is 1.

    Args:
        frequencies: float64 [classes], shares that add up to 1.

    Returns:
        float64 [classes].
    """
    occurs = frequencies > 0
    return np.where(occurs, 1 / np.where(occurs, np.count_nonzero(occurs) * frequencies, 1.0), 0.0)
