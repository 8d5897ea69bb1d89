"""Collects small facts about every pair of a data set in one pass. `findings.py` judges them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from unet_lowlevel.config import IGNORED, Config, DataConfig
from unet_lowlevel.data.files import Pair, find_pairs, read_image, read_pixels
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.samples import check_sizes, label_of
from unet_lowlevel.errors import UserError

SIGNATURE_SIDE = 32
# Larger images are subsampled to this side, which is enough to see whether a mask fits.
LARGEST_SIDE = 512
MOST_VALUES = 256
BAND, FRAME = 5, 16


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
        kind: "files" (which files there are), "image", "gray_edges", "mask" or "size".
        error: what training would raise.
        stem: of the pair, if the mistake belongs to one.
    """

    kind: str
    error: UserError
    stem: str = ""


@dataclass(frozen=True, eq=False)
class Measurement:
    """The facts about a pair; None for what cannot be read, and for traits that `traits_of` cannot tell."""

    pair: Pair
    image: ImageFacts | None = None
    mask: MaskFacts | None = None
    traits: Traits | None = None

    @property
    def stem(self) -> str:
        return self.pair.stem

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size


def inspect(
    config: Config, progress: Callable[[Iterable], Iterable] = lambda items: items
) -> tuple[list[Measurement], list[Mistake]]:
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
        image = read_image(pair.image, config.data)
    except UserError as error:
        mistakes.append(Mistake("image", error, pair.stem))
    try:
        label = label_of(pair, config)
        values = values_of(pair.masks, config.data)
    except UserError as error:
        kind = "gray_edges" if any(has_gray_edges(mask, config.data) for mask in pair.masks) else "mask"
        mistakes.append(Mistake(kind, error, pair.stem))
    if image is not None and label is not None:
        try:
            check_sizes(pair, image, label)
        except UserError as error:
            mistakes.append(Mistake("size", error, pair.stem))
    return measurement(pair, image, label, values)


def measurement(pair: Pair, image: np.ndarray | None, label: np.ndarray | None, values: tuple = ()) -> Measurement:
    """The facts about an image [H,W,C] and its class indices [H,W] uint8, of those that could be read.

    Args:
        values: the values or colours in the files of the mask.
    """
    same_size = image is not None and label is not None and image.shape[:2] == label.shape
    return Measurement(
        pair,
        None if image is None else facts_of_image(image),
        None if label is None else facts_of_mask(label, values),
        traits_of(image, label) if same_size else None,
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
    """The values of gray masks, the colours of others, sorted: `MOST_VALUES` at most."""
    found = set()
    for mask in masks:
        pixels = read_pixels(mask, data, indices=not (data.mask_values or data.mask_colors))
        if (pixels == pixels[..., :1]).all():
            found.update(np.unique(pixels[..., 0])[:MOST_VALUES].tolist())
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


def reduced(array: np.ndarray, side: int) -> np.ndarray:
    """[H,W,...] subsampled, so that both sides have at most `side` pixels."""
    step = -(-max(array.shape[:2]) // side)
    return array[::step, ::step]


def gray(image: np.ndarray) -> np.ndarray:
    """The mean of the channels, float32 [H,W]."""
    return image.mean(axis=-1, dtype=np.float32)


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
    pixels, small = gray(reduced(image, LARGEST_SIDE)), reduced(label, LARGEST_SIDE)
    known, marked = small != IGNORED, (small > 0) & (small != IGNORED)
    if not known.all():
        known = ndimage.binary_erosion(known, iterations=BAND, border_value=1)
    if marked[known].all() or not marked[known].any() or pixels.min() == pixels.max():
        return None
    # The distance of a pixel from the outline is the number of erosions or dilations that reach it.
    beside = ndimage.binary_dilation(marked, iterations=BAND) & ~ndimage.binary_erosion(
        marked, iterations=BAND, border_value=1
    )
    outline = ndimage.binary_dilation(marked) & ~ndimage.binary_erosion(marked, border_value=1)
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
