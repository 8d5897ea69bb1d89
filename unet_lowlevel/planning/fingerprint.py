"""The fingerprint of a data set: all that a plan knows of it, in a few numbers."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_lowlevel.data.check.inspection import SIGNATURE_SIDE, Measurement
from unet_lowlevel.data.check.shapes import Shapes

# Shares of the images in which a class is at a place (0: everywhere), and how many images `place_of` looks at.
LEVELS = tuple(k / 10 for k in range(10))
PLACED = 1000
# Small, usual and large, in percent of the pixels.
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class ClassFingerprint:
    """A class, the background 0 included.

    Lengths and areas are percentiles (5, 50, 95) over the pixels of the class, each of which counts with the size of
    its object: specks hardly matter. See `shapes.Shapes` for what they are.

    Attributes:
        share: of the labelled pixels.
        images: in how many images it occurs.
        objects: how many there are.
        area, extent, width: of objects, in pixels.
        thickness: of the class in an image, in pixels: percentiles over images.
        contrast: the median over images, 0 to 1.
        place: how well its place in other images tells where it is, 0 to 1; see `place_of`.
    """

    share: float
    images: int
    objects: int
    area: tuple[float, ...]
    extent: tuple[float, ...]
    width: tuple[float, ...]
    thickness: tuple[float, ...]
    contrast: float
    place: float


@dataclass(frozen=True)
class Layout:
    """Whether images show the same in the same place, and what mirroring does to that.

    s[n] is the signature of image n, a grid of 32x32 means with mean 0 and length 1, and m their mean:

    common     = (N |m|^2 - 1) / (N - 1),  the mean of s[i] . s[j] over pairs of images: 0: nothing in common, 1: all
    left_right = m . mirrored(m) / |m|^2,  1: the mean image is its own mirror image, -1: its negative

    Attributes:
        common: see above.
        left_right, up_down: correlation of the mean image with it mirrored.
        transposed: that with rows and columns exchanged.
    """

    common: float
    left_right: float
    up_down: float
    transposed: float


@dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers.

    Attributes:
        images, groups: how many; images of one group (a patient) resemble each other.
        channels: of the images.
        dtype: the most frequent of "uint8", "uint16" and "float32".
        gray: the lowest and the highest value of all images.
        height, width: the least, the median and the greatest, in pixels.
        labelled: the share of the pixels that have a label.
        classes: background first.
        touching: the share of the objects of instance labels that touch another; None without such labels.
        layout: see `Layout`.
    """

    images: int
    groups: int
    channels: int
    dtype: str
    gray: tuple[float, float]
    height: tuple[float, ...]
    width: tuple[float, ...]
    labelled: float
    classes: tuple[ClassFingerprint, ...]
    touching: float | None
    layout: Layout

    @property
    def foreground(self) -> list[ClassFingerprint]:
        """The classes that occur, without the background."""
        return [found for found in self.classes[1:] if found.objects]

    def to_json(self) -> dict[str, Any]:
        """As `json.dump` takes it, with four significant digits."""
        return rounded(dataclasses.asdict(self))


def rounded(value):
    """Numbers in nested dictionaries and sequences with four significant digits; the rest as it is."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def fingerprint(measurements: Sequence[Measurement], groups: int, classes: int) -> Fingerprint:
    """The fingerprint of measured pairs.

    Args:
        measurements: of pairs whose image and mask could be read, at least one.
        groups: how many groups they are of.
        classes: of the network; see `ModelConfig.classes`.
    """
    images = [m.image for m in measurements if m.image]
    masks = [m.mask for m in measurements if m.mask]
    counts = sum(np.pad(mask.counts, (0, 256 - len(mask.counts))) for mask in masks)
    of_classes = [[m.shapes[k] for m in measurements if k in m.shapes] for k in range(max(classes, 2))]
    told = [m for m in measurements if m.touching is not None]
    objects = sum(len(shapes.areas) for m in told for k, shapes in m.shapes.items() if k)
    return Fingerprint(
        images=len(images),
        groups=groups,
        channels=Counter(image.channels for image in images).most_common(1)[0][0],
        dtype=Counter(image.dtype for image in images).most_common(1)[0][0],
        gray=(min(image.low for image in images), max(image.high for image in images)),
        height=spread([image.size[0] for image in images]),
        width=spread([image.size[1] for image in images]),
        labelled=float(counts.sum() / sum(mask.size[0] * mask.size[1] for mask in masks)),
        classes=tuple(of_class(found, counts[k] / counts.sum()) for k, found in enumerate(of_classes)),
        touching=sum(m.touching or 0 for m in told) / max(objects, 1) if told else None,
        layout=layout_of(np.stack([image.signature for image in images])),
    )


def spread(values: Sequence[float]) -> tuple[float, ...]:
    """The least, the median and the greatest."""
    return tuple(float(f(values)) for f in (np.min, np.median, np.max))


def of_class(found: Sequence[Shapes], share: float) -> ClassFingerprint:
    """The fingerprint of a class from its shapes in each image that shows it."""
    areas = np.concatenate([np.zeros(0), *(shapes.areas for shapes in found)])
    extents = np.concatenate([np.zeros(0), *(shapes.extents for shapes in found)])
    widths = np.concatenate([np.zeros(0), *(shapes.widths for shapes in found)])
    return ClassFingerprint(
        share=float(share),
        images=len(found),
        objects=len(areas),
        area=weighted_percentiles(areas, areas),
        extent=weighted_percentiles(extents, areas),
        width=weighted_percentiles(widths, areas),
        thickness=tuple(np.percentile([shapes.thickness for shapes in found] or [0], PERCENTILES).tolist()),
        contrast=float(np.median([shapes.contrast for shapes in found] or [0])),
        place=place_of(found),
    )


def place_of(found: Sequence[Shapes]) -> float:
    """How good a prediction is that looks at the masks of the other images only. A tumour can be anywhere, a lung not.

    place = (D - E) / (1 - E),  0 for an image alone

    D is the Dice, the mean over images, of predicting a class where it is in a share t or more of the others, for the
    best t of `LEVELS`; E that of predicting it everywhere, which is high for a class that fills most of an image. Of
    more than `PLACED` images every second, third, ... counts.
    """
    if len(found) < 2:
        return 0.0
    found = found[:: -(-len(found) // PLACED)]
    places = np.unpackbits(np.stack([shapes.places for shapes in found]), axis=1)
    others = (places.sum(0, dtype=np.int32) - places) / np.float32(len(found) - 1)
    dice = [
        float(np.mean(2 * (places & predicted).sum(1) / np.maximum(places.sum(1) + predicted.sum(1), 1)))
        for predicted in (others >= level for level in LEVELS)
    ]
    everywhere = dice[0]
    return (max(dice) - everywhere) / max(1 - everywhere, 1e-9)


def weighted_percentiles(values: np.ndarray, weights: np.ndarray) -> tuple[float, ...]:
    """The least of the values such that it and lesser ones have 5, 50 and 95 % of the weight; 0 for no values."""
    if not values.size:
        return (0.0,) * len(PERCENTILES)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(reached, np.array(PERCENTILES) / 100)
    return tuple(values[order][np.minimum(places, values.size - 1)].tolist())


def layout_of(signatures: np.ndarray) -> Layout:
    """`Layout` from signatures [N, 32^2]; one image has nothing in common with others."""
    count, mean = len(signatures), signatures.mean(0, dtype=np.float64)
    length = float(mean @ mean)
    if count < 2 or not length:
        return Layout(0.0, 0.0, 0.0, 0.0)
    grid = mean.reshape(SIGNATURE_SIDE, SIGNATURE_SIDE)
    changed = grid[:, ::-1], grid[::-1], grid.T
    return Layout((count * length - 1) / (count - 1), *(float((grid * other).sum()) / length for other in changed))
