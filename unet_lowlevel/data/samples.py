"""Images with their labels: read, checked against each other, measured, normalized."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unet_lowlevel.config import IGNORED, Config, DataConfig
from unet_lowlevel.data.files import Pair, read_image
from unet_lowlevel.data.formats.volumes import Slice, check_same_place
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.data.packed import Part
from unet_lowlevel.data.resolution import resized_image, resized_label, working_size
from unet_lowlevel.errors import UserError

# Statistics take so many pixels at a time, so that they need only a few MiB beside an image of any size.
STRIP = 2**18


@dataclass(frozen=True)
class Normalization:
    """(x - shift) / scale in float64, then clipped to 0..1 if `clipped`; for a whole image or any part of it."""

    shift: float = 0.0
    scale: float = 1.0
    clipped: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of any shape and dtype -> float32."""
        x = np.array(pixels, np.float64)
        x -= self.shift
        x /= self.scale
        if self.clipped:
            np.clip(x, 0.0, 1.0, out=x)
        return x.astype(np.float32)


@dataclass(eq=False)
class Sample:
    """A decoded pair.

    Attributes:
        stem: of both files.
        image: [H,W,C] as stored, uint8, uint16 or float32.
        label: [H,W] uint8 class indices, and `IGNORED`.
        normalization: turns the image, or a window of it, into the input of the network.
        target: [H,W] uint8, learned instead of the label: the label with background between objects that touch (see
            `weight_maps.py`); or None.
        weights: [H,W] float32, added to the weight of a pixel's class (see there); or None.
        original_label: the label at the size as stored, of a sample that is resized; else None.
    """

    stem: str
    image: np.ndarray
    label: np.ndarray
    normalization: Normalization = Normalization()
    target: np.ndarray | None = None
    weights: np.ndarray | None = None
    original_label: np.ndarray | None = None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.label.shape

    @property
    def labels(self) -> list[np.ndarray]:
        """The label and, of a sample that is resized, that of the size as stored."""
        return [label for label in (self.label, self.original_label) if label is not None]

    @property
    def truth(self) -> np.ndarray:
        """The label that scores compare with, of the size as stored."""
        return self.labels[-1]

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class of the label, up to the highest that occurs: int64 [K]."""
        pixels = self.label.reshape(-1)
        # In strips, because bincount converts its input to int64.
        strips = (pixels[start : start + STRIP] for start in range(0, pixels.size, STRIP))
        return np.trim_zeros(sum(np.bincount(strip, minlength=256) for strip in strips)[:IGNORED], "b")

    def normalized(self) -> np.ndarray:
        """The whole image float32 [H,W,C]."""
        return self.normalization(self.image)

    def window(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
        """Reads the pixels at `rows` [h] and `columns` [w], and no others, for training.

        Returns:
            image float32 [h,w,C], target (or label) uint8 [h,w] and, of a sample that has them, weights float32 [h,w].
        """
        place = rows[:, np.newaxis], columns
        target, weights = self.target, self.weights
        parts = self.normalization(self.image[place]), (self.label if target is None else target)[place]
        return parts if weights is None else (*parts, weights[place])


def decoded(pairs: Iterable[Pair], config: Config) -> Iterator[Sample]:
    """Each of the `pairs` decoded, one at a time.

    Args:
        pairs: in any order.
        config: says what channels and masks mean.

    Raises:
        UserError: when a mask and its image differ in size or place, or the images differ in their channels.
    """
    kinds: dict[int, list[Path | Slice | Part]] = {}
    for pair in pairs:
        label = label_of(pair, config)
        image = read_image(pair.image, config.data, label)
        check_sizes(pair, image, label)
        if isinstance(pair.image, Slice) and isinstance(pair.masks[0], Slice):
            check_same_place(pair.image.volume, pair.masks[0].volume, label.shape)
        kinds.setdefault(image.shape[2], []).append(pair.image)
        yield Sample(pair.stem, image, label)
        del image, label  # frees their memory before the next is decoded
    check_channels(kinds)


def check_channels(kinds: dict[int, list[Path | Slice | Part]]) -> None:
    """Raises a `UserError` unless all images have equally many channels, from {channels: images}."""
    if len(kinds) > 1:
        found = [f"{len(paths)} with {count} (as {paths[0]})" for count, paths in sorted(kinds.items())]
        raise UserError(
            f"The images differ in their channels, {' and '.join(found)}: add --channels gray or --channels rgb."
        )


def label_of(pair: Pair, config: Config) -> np.ndarray:
    """The class indices of a pair; see `read_label`. Where images and masks are exchanged, the error says so."""
    try:
        return read_label(pair.masks, config.model.classes, config.data)
    except UserError:
        if not fits_as_mask(pair.image, config):
            raise
        raise UserError(
            f"{pair.image} looks like a mask, and {pair.masks[0]} like an image: exchange images and masks."
        ) from None


def fits_as_mask(image: Path | Slice, config: Config) -> bool:
    """Whether an image could be read as a mask in which something is marked."""
    try:
        return bool(read_label((image,), config.model.classes, config.data).any())
    except UserError:
        return False


def check_sizes(pair: Pair, image: np.ndarray, label: np.ndarray) -> None:
    """Raises a `UserError` unless the label [H,W] has the size of the image [H,W,C]."""
    if image.shape[:2] != label.shape:
        sizes = ["x".join(map(str, array.shape[:2])) for array in (image, label)]
        raise UserError(
            f"{pair.image} is {sizes[0]} pixels (height x width), but its mask {pair.masks[0]} is {sizes[1]}: "
            "replace the mask by one of the image's size, or resize it with nearest neighbour."
        )


def at_working_size(sample: Sample, data: DataConfig) -> Sample:
    """`sample` with image and label resized, see `resolution.py`; itself if it has that size."""
    size = working_size(sample.size, data)
    if size == sample.size:
        return sample
    image, label = resized_image(sample.image, size), resized_label(sample.label, size)
    return Sample(sample.stem, image, label, original_label=sample.label)


def with_normalization(sample: Sample, data: DataConfig) -> Sample:
    """`sample` with the normalization that the configuration asks for."""
    return dataclasses.replace(sample, normalization=normalization(sample.image, data))


def normalization(image: np.ndarray, data: DataConfig) -> Normalization:
    """How to normalize `image` [H,W,C] by `data.normalization`, with statistics in float64.

    All pixels and channels together, so that colours keep their ratio:

        standard:  (x - mean(x)) / sqrt(mean((x - mean(x))^2))
        minmax:    (x - min(x)) / (max(x) - min(x))
        range:     clip((x - low) / (high - low), 0, 1),  low, high = data.normalization_range

    `standard` and `minmax` map a constant image to 0. No rule depends on whether a pixel exceeds 1 or on the file's
    bits: dark images and 16-bit images are treated like any other.
    """
    if data.normalization == "range":
        low, high = data.normalization_range
        return Normalization(low, high - low, clipped=True)
    low, high = float(image.min()), float(image.max())
    if low == high:  # compared exactly: rounding leaves the deviation of a constant image just above 0
        return Normalization(low)
    if data.normalization == "minmax":
        return Normalization(low, high - low)
    pixels = image.reshape(-1)
    mean = pairwise_sum(pixels, lambda x: x) / pixels.size
    return Normalization(mean, math.sqrt(pairwise_sum(pixels, lambda x: (x - mean) ** 2) / pixels.size))


def pairwise_sum(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> float:
    """sum(change(pixels)) in float64 over `pixels` [n] of any dtype, of which only `STRIP` are float64 at a time.

    The pixels are halved where NumPy's pairwise sum halves them, so that the result equals NumPy's sum bit for bit.
    """
    if pixels.size <= STRIP:
        return float(change(pixels.astype(np.float64)).sum())
    half = pixels.size // 2
    half -= half % 8
    return pairwise_sum(pixels[:half], change) + pairwise_sum(pixels[half:], change)
