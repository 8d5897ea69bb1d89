"""Collects small facts about every pair of a data set in one pass. `findings.py` judges them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from unet_lowlevel.config import IGNORED, Config, DataConfig
from unet_lowlevel.data.check.shapes import (
    BAND,
    SMALL_SIDE,
    Shapes,
    beside_outline,
    gray,
    probability_of_greater,
    reduced,
    shapes_of,
    touching,
)
from unet_lowlevel.data.files import Pair, find_pairs, read_image, read_pixels
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.packed import Part
from unet_lowlevel.data.samples import check_sizes, label_of
from unet_lowlevel.errors import UserError
from unet_lowlevel.terminal import Progress

SIGNATURE_SIDE = 32
MOST_VALUES = 256
FRAME = 16


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """A readable image.

    Attributes:
        size: height and width.
        channels: after --channels.
        dtype: "uint8", "uint16" or "float32".
        low, high: the range of its values.
        nbytes: of its pixels.
        digest: equal for equal pixels.
        signature: float32 [SIGNATURE_SIDE^2], see `signature`.
    """

    size: tuple[int, int]
    channels: int
    dtype: str
    low: float
    high: float
    nbytes: int
    digest: bytes
    signature: np.ndarray


@dataclass(frozen=True, eq=False)
class MaskFacts:
    """The readable mask of an image, or its masks together.

    Attributes:
        size: height and width.
        counts: labelled pixels of each class, int64 [K].
        values: the values or colours in its files, `MOST_VALUES` at most.
        digest: equal for equal labels.
    """

    size: tuple[int, int]
    counts: np.ndarray
    values: tuple
    digest: bytes

    @property
    def labelled(self) -> float:
        """The share of the pixels that have a label."""
        return float(self.counts.sum() / (self.size[0] * self.size[1]))

    @property
    def foreground(self) -> float:
        """The share of all classes but the background among them."""
        return 1 - float(self.counts[0] / self.counts.sum())


@dataclass(frozen=True)
class Traits:
    """How a mask lies on its image, in numbers that are similar over a set of similar images.

    Attributes:
        foreground: marked share of the image, or of its labelled pixels.
        brightness: probability that a marked pixel is brighter than an unmarked one, both at most `BAND` pixels from
            the outline (the Mann-Whitney statistic, which no monotone change of the gray values alters).
        edges: probability that a pixel at the outline has a steeper gradient than another pixel; 0.5 is chance.
        border: marked share of a frame along the image's borders, a `FRAME`-th of a side wide.
    """

    foreground: float
    brightness: float
    edges: float
    border: float

    def inverted(self) -> "Traits":
        """The traits with foreground and background exchanged; the outline stays the same."""
        return Traits(1 - self.foreground, 1 - self.brightness, self.edges, 1 - self.border)


@dataclass(frozen=True)
class Mistake:
    """Something that cannot be used.

    Attributes:
        kind: "files" (which files there are), "image", "gray_edges", "mask", "size" or
            "instances".
        error: what training would raise.
        stem: of the pair, if the mistake belongs to one.
    """

    kind: str
    error: UserError
    stem: str = ""


@dataclass(frozen=True, eq=False)
class Measurement:
    """The facts about a pair; None for what cannot be read, and for traits that `traits_of` cannot tell.

    Attributes:
        shapes: of each class in the mask.
        touching: how many of the objects touch another, where instance labels tell.
    """

    pair: Pair
    image: ImageFacts | None = None
    mask: MaskFacts | None = None
    traits: Traits | None = None
    shapes: Mapping[int, Shapes] = field(default_factory=dict)
    touching: int | None = None

    @property
    def stem(self) -> str:
        return self.pair.stem

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size


def inspect(config: Config, progress: Progress = lambda items: items) -> tuple[list[Measurement], list[Mistake]]:
    """Reads every pair once, one at a time in memory; mistakes in one pair do not stop the others.

    Args:
        config: where the data is, and what channels and masks mean.
        progress: may be tqdm.

    Returns:
        the pairs, sorted by stem, and what cannot be used.

    Raises:
        UserError: when there are no folders to look into, or a setting is mistaken.
    """
    mistakes: list[Mistake] = []
    pairs = find_pairs(config.data, lambda error: mistakes.append(Mistake("files", error)))
    return [measure(pair, config, mistakes) for pair in progress(pairs)], mistakes


def measure(pair: Pair, config: Config, mistakes: list[Mistake]) -> Measurement:
    """The facts about a pair; what is wrong with it is added to `mistakes`."""
    image = label = None
    values: tuple = ()
    try:
        label = label_of(pair, config)
        values = values_of(pair.masks, config.data)
    except UserError as error:
        kind = "gray_edges" if any(has_gray_edges(mask, config.data) for mask in pair.masks) else "mask"
        mistakes.append(Mistake(kind, error, pair.stem))
    objects = None
    try:
        image = read_image(pair.image, config.data, label)
    except UserError as error:
        mistakes.append(Mistake("image", error, pair.stem))
    if image is not None and label is not None:
        try:
            check_sizes(pair, image, label)
            objects = objects_of(pair, label, config)
        except UserError as error:
            kind = "size" if image.shape[:2] != label.shape else "instances"
            mistakes.append(Mistake(kind, error, pair.stem))
    return measurement(pair, image, label, objects, values)


def objects_of(pair: Pair, label: np.ndarray, config: Config) -> np.ndarray | None:
    """The number of the object of each pixel [H,W], where instance labels or a mask for each object tell; else None."""
    return read_objects(pair, label, config)[0] if pair.tells_objects else None


def measurement(
    pair: Pair,
    image: np.ndarray | None,
    label: np.ndarray | None,
    objects: np.ndarray | None = None,
    values: tuple = (),
) -> Measurement:
    """The facts about an image [H,W,C] and its class indices [H,W] uint8, of those that could be read.

    Args:
        objects: what `objects_of` gives.
        values: the values or colours in the files of the mask.
    """
    facts = None if image is None else facts_of_image(image)
    if image is None or label is None or image.shape[:2] != label.shape:
        return Measurement(pair, facts, None if label is None else facts_of_mask(label, values))
    return Measurement(
        pair,
        facts,
        facts_of_mask(label, values),
        traits_of(image, label),
        shapes_of(gray(image), label, objects),
        None if objects is None else len(touching(objects)),
    )


def facts_of_image(image: np.ndarray) -> ImageFacts:
    """The facts about an image [H,W,C]."""
    height, width, channels = image.shape
    return ImageFacts(
        (height, width),
        channels,
        str(image.dtype),
        float(image.min()),
        float(image.max()),
        image.nbytes,
        digest(image),
        signature(image),
    )


def facts_of_mask(label: np.ndarray, values: tuple) -> MaskFacts:
    """The facts about class indices [H,W] uint8."""
    counts = np.bincount(label[label != IGNORED], minlength=2)
    return MaskFacts(label.shape, counts, values, digest(label))


def digest(array: np.ndarray) -> bytes:
    """A hash, equal for arrays of equal dtype, shape and content."""
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).data).digest()


def values_of(masks: tuple[Path | Slice, ...], data: DataConfig) -> tuple:
    """The values of gray masks, the colours of others, sorted: `MOST_VALUES` at most; of packed masks none is known."""
    found = set()
    for mask in masks:
        if isinstance(mask, Part):
            continue
        pixels = read_pixels(mask, data, indices=not data.mask_colors)
        if (pixels == pixels[..., :1]).all():
            values = np.unique(pixels[..., 0])[:MOST_VALUES].tolist()
            found.update(int(value) if value == int(value) else value for value in values)
        else:
            found.update(map(tuple, np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)[:MOST_VALUES].tolist()))
    return tuple(sorted(found, key=str)[:MOST_VALUES])


def has_gray_edges(mask: Path | Slice, data: DataConfig) -> bool:
    """Whether a mask has two main values and others along their border, as after smoothing or JPEG."""
    try:
        pixels = read_pixels(mask, data, indices=True)
    except UserError:
        return False
    pixels = gray(pixels)
    low, high = pixels.min(), pixels.max()
    if len(np.unique(pixels)) < 4:
        return False
    # Values near a main value, as JPEG makes them, count as that value.
    between = np.abs((pixels - low) / (high - low) - 0.5) < 0.4
    marked = pixels > (low + high) / 2
    near = ndimage.grey_dilation(marked, (5, 5)) != ndimage.grey_erosion(marked, (5, 5))
    return bool(between.mean() < 0.5 and (near & between).sum() >= 0.9 * between.sum())


def signature(image: np.ndarray) -> np.ndarray:
    """The means of the image [H,W,C] over the cells of a grid, scaled to mean 0 and length 1: float32.

    The dot product of two signatures is the correlation of the reduced images. A constant image has the signature 0.
    """
    pixels = gray(reduced(image, 8 * SIGNATURE_SIDE))
    for axis in (0, 1):
        length = pixels.shape[axis]
        starts = np.arange(SIGNATURE_SIDE) * length // SIGNATURE_SIDE
        ends = np.maximum(starts + 1, np.append(starts[1:], length))
        sums = np.cumsum(pixels, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
        shape = (-1, 1) if axis == 0 else (1, -1)
        pixels = (np.take(sums, ends, axis) - np.take(sums, starts, axis)) / (ends - starts).reshape(shape)
    pixels = pixels.reshape(-1) - pixels.mean()
    length = np.linalg.norm(pixels)
    return (pixels / length if length > 1e-6 * max(1.0, np.abs(pixels).max()) else 0 * pixels).astype(np.float32)


def traits_of(image: np.ndarray, label: np.ndarray) -> Traits | None:
    """`Traits` of an image [H,W,C] and class indices [H,W]; None if it is constant, or all or no pixels are marked.

    At the border of what is labelled an outline may end that goes on: pixels within `BAND` of it tell nothing.
    """
    pixels, small = gray(reduced(image, SMALL_SIDE)), reduced(label, SMALL_SIDE)
    known, marked = small != IGNORED, (small > 0) & (small != IGNORED)
    if not known.all():
        known = ndimage.binary_erosion(known, iterations=BAND, border_value=1)
    if marked[known].all() or not marked[known].any() or pixels.min() == pixels.max():
        return None
    beside, outline = beside_outline(marked, BAND), beside_outline(marked, 1)
    steepness = ndimage.gaussian_gradient_magnitude(pixels, 1.0, output=np.float64)  # whose squares do not overflow
    rows, columns = (max(length // FRAME, 1) for length in marked.shape)
    frame = known.copy()
    frame[rows:-rows, columns:-columns] = False
    return Traits(
        float((label[label != IGNORED] > 0).mean()),
        probability_of_greater(pixels[beside & known], marked[beside & known]),
        probability_of_greater(steepness[known], outline[known]),
        float(marked[frame].mean()) if frame.any() else 0.0,
    )
