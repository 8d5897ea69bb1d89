"""How large the objects of a class are in an image, and how they stand out from their surroundings."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import label as components

from unet_lowlevel.config import IGNORED

# How far from an outline its surroundings reach, in pixels.
BAND = 5
# The share of a class's surroundings from which another class is a neighbour.
NEIGHBOUR = 0.1
# Of larger labels every second, third, ... pixel is measured.
LARGEST_SIDE = 2048
# Larger images are subsampled to this side, which is enough to see whether a mask fits.
SMALL_SIDE = 512
# Side of the grid of pixels that tells where in an image a class is.
PLACES = 32


@dataclass(frozen=True, eq=False)
class Shapes:
    """The objects of one class in an image: those of the instance labels, else components connected by edges.

    Attributes:
        areas: of each object in pixels, float [N].
        extents: the longer side of the box around it, in pixels, float [N].
        widths: the diameter of the largest disc in it, in pixels, float [N].
        thickness: four times the mean distance of the class's pixels from all others: the width of a stripe, two thirds
            of the diameter of a disc.
        contrast: |2 P - 1|, P the probability that a pixel of the class is brighter than one of a neighbouring class,
            both near the outline; 0: no difference, 1: all are brighter, or all are darker. Of several neighbours the
            least. See `probability_of_greater`.
        places: where it is, on a grid of `PLACES` x `PLACES` pixels over the whole image, bool [PLACES^2] in bytes.
    """

    areas: np.ndarray
    extents: np.ndarray
    widths: np.ndarray
    thickness: float
    contrast: float
    places: np.ndarray


def shapes_of(image: np.ndarray, label: np.ndarray, objects: np.ndarray | None = None) -> dict[int, Shapes]:
    """{class: its `Shapes`} of the classes in class indices [H,W], the background 0 among them.

    Args:
        image: gray [H,W].
        label: uint8 [H,W]; pixels without a label belong to no class.
        objects: the number of the object of each pixel [H,W], of instance labels; None: there are none.
    """
    step = -(-max(label.shape) // LARGEST_SIDE)
    image, label = image[::step, ::step], label[::step, ::step]
    found = {}
    for index in np.unique(label[label != IGNORED]).tolist():
        own = label == index
        distances = ndimage.distance_transform_edt(np.pad(own, 1, mode="edge"))[1:-1, 1:-1]
        if own.all():
            distances = np.full(own.shape, max(own.shape) / 4)  # as thick as the image
        numbers = components(own, connectivity=1)
        if objects is not None and index:
            numbers = np.where(own, objects[::step, ::step], 0)
        boxes = [(n, box) for n, box in enumerate(ndimage.find_objects(numbers), start=1) if box]
        inside = [(box, numbers[box] == n) for n, box in boxes]
        found[index] = Shapes(
            step**2 * np.array([mask.sum() for _, mask in inside], float),
            step * np.array([max(mask.shape) for _, mask in inside], float),
            step * np.array([2 * distances[box][mask].max() for box, mask in inside], float),
            step * 4 * float(distances[own].mean()),
            contrast_of(image, label, index),
            places_of(own),
        )
    return found


def places_of(own: np.ndarray) -> np.ndarray:
    """See `Shapes.places`; `own` is bool [H,W]."""
    rows, columns = ((2 * np.arange(PLACES) + 1) * length // (2 * PLACES) for length in own.shape)
    return np.packbits(own[np.ix_(rows, columns)])


def contrast_of(image: np.ndarray, label: np.ndarray, index: int) -> float:
    """See `Shapes.contrast`; 0 where the class has no neighbours."""
    image, label = reduced(image, SMALL_SIDE), reduced(label, SMALL_SIDE)
    own = label == index
    near = beside_outline(own, BAND)
    values, around = image[near], label[near]
    others = np.bincount(around, minlength=IGNORED + 1)
    others[[index, IGNORED]] = 0
    found = []
    for other in np.flatnonzero(others > NEIGHBOUR * others.sum()):
        both = (around == index) | (around == other)
        found.append(abs(2 * probability_of_greater(values[both], around[both] == index) - 1))
    return min(found, default=0.0)


def beside_outline(marked: np.ndarray, distance: int) -> np.ndarray:
    """Where a pixel is so near to the outline of what is marked, in steps along edges: bool [H,W]."""
    # The distance of a pixel from the outline is the number of erosions or dilations that reach it.
    return ndimage.binary_dilation(marked, iterations=distance) & ~ndimage.binary_erosion(
        marked, iterations=distance, border_value=1
    )


def touching(numbers: np.ndarray) -> np.ndarray:
    """The numbers of the objects in instance labels [H,W] that share an edge with another object."""
    found = []
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        meet = (one != other) & (one > 0) & (other > 0)
        found += [one[meet], other[meet]]
    return np.unique(np.concatenate(found))


def reduced(array: np.ndarray, side: int) -> np.ndarray:
    """[H,W,...] subsampled, so that both sides have at most `side` pixels."""
    step = -(-max(array.shape[:2]) // side)
    return array[::step, ::step]


def gray(image: np.ndarray) -> np.ndarray:
    """The mean of the channels, float32 [H,W]."""
    return image.mean(axis=-1, dtype=np.float32)


def probability_of_greater(values: np.ndarray, chosen: np.ndarray) -> float:
    """P(a > b) + P(a = b) / 2 for a among the `chosen` values and b among the others (Mann and Whitney 1947).

    Computed from a histogram of 256 bins, which is exact for uint8.
    """
    low, high = np.percentile(values, [0.1, 99.9]) if values.dtype != np.uint8 else (0, 255)
    bins = np.clip((values - low) * (255 / max(high - low, 1e-12)) + 0.5, 0, 255).astype(np.intp)
    inside = np.bincount(bins[chosen], minlength=256).astype(np.float64)
    outside = np.bincount(bins[~chosen], minlength=256).astype(np.float64)
    below = np.cumsum(outside) - outside
    return float((inside * (below + outside / 2)).sum() / max(inside.sum() * outside.sum(), 1.0))
