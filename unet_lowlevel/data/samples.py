"""Images with their labels: read, checked against each other, measured, normalized."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unet_lowlevel.config import Config, DataConfig
from unet_lowlevel.data.files import Pair, read_image
from unet_lowlevel.data.formats.volumes import Slice, check_same_place, open_volume
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.errors import UserError

# Pixels that statistics take at a time, so that an image of any size costs a few MiB beside itself.
STRIP = 2**18


@dataclass(frozen=True)
class Normalization:
    """(x - shift) / scale in float64, then cut to 0..1 if `clipped`: of a whole image, or of any part of it."""

    shift: float = 0.0
    scale: float = 1.0
    clipped: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of any shape and kind -> float32."""
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
        label: [H,W] uint8 class indices.
        normalization: what makes of the image, or of a window of it, what the network takes.
        target: [H,W] uint8, what the network is to learn where it is not the label: objects that touch are parted
            (see `weight_maps.py`), or None.
        weights: [H,W] float32, what pixels weigh beside their class (the same), or None.
    """

    stem: str
    image: np.ndarray
    label: np.ndarray
    normalization: Normalization = Normalization()
    target: np.ndarray | None = None
    weights: np.ndarray | None = None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.label.shape

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class of the label, up to the highest that occurs: int64 [K]."""
        pixels = self.label.reshape(-1)
        # In strips, for bincount makes int64 of what it counts.
        strips = (pixels[start : start + STRIP] for start in range(0, pixels.size, STRIP))
        return np.trim_zeros(sum(np.bincount(strip, minlength=256) for strip in strips), "b")

    def normalized(self) -> np.ndarray:
        """The whole image float32 [H,W,C]."""
        return self.normalization(self.image)

    def window(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
        """The pixels at `rows` [h] and `columns` [w], and no others, to train on.

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
        UserError: when a mask is not as large as its image, or the images differ in their channels.
    """
    kinds: dict[int, list[Path | Slice]] = {}
    for pair in pairs:
        image, label = read_image(pair.image, config.data), read_label(pair.masks, config.model.classes, config.data)
        if image.shape[:2] != label.shape:
            sizes = ["x".join(map(str, array.shape[:2])) for array in (image, label)]
            raise UserError(
                f"{pair.image} is {sizes[0]} pixels (height x width), but its mask {pair.masks[0]} is {sizes[1]}: "
                "replace the mask by one of the image's size, or resize it with nearest neighbour."
            )
        if isinstance(pair.image, Slice) and isinstance(pair.masks[0], Slice):
            check_same_place(open_volume(pair.image.path), open_volume(pair.masks[0].path), label.shape)
        kinds.setdefault(image.shape[2], []).append(pair.image)
        yield Sample(pair.stem, image, label)
        del image, label  # so that they do not lie beside the next
    if len(kinds) > 1:
        found = [f"{len(paths)} with {count} (as {paths[0]})" for count, paths in sorted(kinds.items())]
        raise UserError(
            f"The images differ in their channels, {' and '.join(found)}: add --channels gray or --channels rgb."
        )


def with_normalization(sample: Sample, data: DataConfig) -> Sample:
    """`sample` with the normalization that the configuration asks for."""
    return dataclasses.replace(sample, normalization=normalization(sample.image, data))


def normalization(image: np.ndarray, data: DataConfig) -> Normalization:
    """How to normalize `image` [H,W,C] by `data.normalization`, with statistics in float64.

    All pixels and channels together, so that colours keep their ratio:

        standard:  (x - mean(x)) / sqrt(mean((x - mean(x))^2))
        minmax:    (x - min(x)) / (max(x) - min(x))
        range:     clip((x - low) / (high - low), 0, 1),  low, high = data.normalization_range

    `standard` and `minmax` make a constant image 0. No rule asks whether a pixel exceeds 1 or how many bits the file
    has: a dark image, or one of 16 bits, is treated like any other.
    """
    if data.normalization == "range":
        low, high = data.normalization_range
        return Normalization(low, high - low, clipped=True)
    low, high = float(image.min()), float(image.max())
    if low == high:  # asked of the pixels: rounding leaves the deviation of a constant image just above 0
        return Normalization(low)
    if data.normalization == "minmax":
        return Normalization(low, high - low)
    pixels = image.reshape(-1)
    mean = pairwise_sum(pixels, lambda x: x) / pixels.size
    return Normalization(mean, math.sqrt(pairwise_sum(pixels, lambda x: (x - mean) ** 2) / pixels.size))


def pairwise_sum(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> float:
    """sum(change(pixels)) in float64 over `pixels` [n] of any kind, of which only `STRIP` are float64 at a time.

    Halved where NumPy halves in its own pairwise sum, so that the bits are those of NumPy's sum over everything.
    """
    if pixels.size <= STRIP:
        return float(change(pixels.astype(np.float64)).sum())
    half = pixels.size // 2
    half -= half % 8
    return pairwise_sum(pixels[:half], change) + pairwise_sum(pixels[half:], change)
