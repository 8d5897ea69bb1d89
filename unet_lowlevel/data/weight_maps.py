"""What the loss is told of objects that should be kept apart, as in the paper.

Where they touch, a border of background is put between them (`separation_border`), for the network to learn. And pixels
weigh more the nearer they are to such a border, or to any narrow gap, and so that classes are balanced:

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1 and d2 are the distances to the nearest and to the second nearest object. The second term depends on the objects
alone: it is computed once for each mask (`separation`), and moves with the mask from then on. The first is looked up in
a table by the class of each pixel (`class_balance`), whenever a crop is ready.

Reference: Ronneberger et al. 2015, section 3 and equation 2.
"""

import math

import numpy as np
from scipy import ndimage

# Where d1 + d2 is so many sigma or more, the term is below 2e-8 w0: nothing, beside a weight near 1 in float32.
REACH = 6.0


def separation_border(instances: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Pixels of objects that have a pixel of another object of the same class among their eight neighbours.

    Taken from the objects, they leave two pixels of background where two of them touch. (The paper computes its
    borders "using morphological operations", and says no more.) Objects of different classes may touch: the network
    tells them apart by their classes.

    Args:
        instances: whole numbers [H,W], one for each object, 0 the background.
        label: class indices [H,W].

    Returns:
        bool [H,W].
    """
    height, width = instances.shape
    border = np.zeros((height, width), bool)
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):  # and, from the other side, their opposites
        here = slice(0, height - down), slice(max(-right, 0), width - max(right, 0))
        there = slice(down, height), slice(max(right, 0), width - max(-right, 0))
        touch = (instances[here] != instances[there]) & (instances[here] > 0) & (instances[there] > 0)
        touch &= label[here] == label[there]
        border[here] |= touch
        border[there] |= touch
    return border


def separation(instances: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """How much a pixel of the background weighs because it lies between objects: w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are Euclidean distances between the centers of pixels: to the nearest pixel of the nearest object, and to
    that of the second nearest. From 6 sigma on, and with fewer than two objects, the weight is 0. So it is in objects,
    of which the paper's equation does not speak apart, but its figure 3d shows none of the weight there: weighing both
    sides of a border alike would not help the thin one.

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
        # What lies farther away is not changed by this object.
        around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(numbers[around] != number).astype(np.float32)
        nearer, farther = first[around], second[around]
        np.minimum(farther, np.maximum(nearer, distance), out=farther)
        np.minimum(nearer, distance, out=nearer)
    weights = np.float32(w0) * np.exp(-((first + second) ** 2) / np.float32(2 * sigma**2))
    return np.where(instances == 0, weights, np.float32(0))


def class_balance(frequencies: np.ndarray) -> np.ndarray:
    """w_c: the weight of a pixel of each class, such that all classes together weigh the same.

    w_c[k] = 1 / (K frequencies[k]) with K the number of classes that occur; 0 for the others

    Over the pixels that were counted the mean of the weights is 1.

    Args:
        frequencies: float64 [classes], shares that add up to 1.

    Returns:
        float64 [classes].
    """
    occurs = frequencies > 0
    return np.where(occurs, 1 / np.where(occurs, np.count_nonzero(occurs) * frequencies, 1.0), 0.0)
