"""Images with their labels in memory: read, checked against each other, normalized."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data.files import Pair, read_image, read_mask
from unet_lowlevel.errors import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """A decoded pair: `image` [H,W,C] as stored (uint8, uint16 or float32), `label` [H,W] uint8 class indices."""

    stem: str
    image: np.ndarray
    label: np.ndarray


def read_samples(pairs: list[Pair], classes: int, progress=lambda items: items) -> list[Sample]:
    """All `pairs` decoded, masks as large as their images, images of one channel count; `progress` may be tqdm."""
    samples = []
    kinds: dict[int, list[Path]] = {}
    for pair in progress(pairs):
        image, label = read_image(pair.image), read_mask(pair.mask, classes)
        if image.shape[:2] != label.shape:
            sizes = ["x".join(map(str, array.shape[:2])) for array in (image, label)]
            raise UserError(
                f"{pair.image} is {sizes[0]} pixels (height x width), but its mask {pair.mask} is {sizes[1]}: replace "
                "the mask by one of the image's size, or resize it with nearest neighbour."
            )
        kinds.setdefault(image.shape[2], []).append(pair.image)
        samples.append(Sample(pair.stem, image, label))
    if len(kinds) > 1:
        found = [f"{len(paths)} with {count} (as {paths[0]})" for count, paths in sorted(kinds.items())]
        raise UserError(
            f"The images differ in their channels, {' and '.join(found)}: convert all to gray or all to colour, or "
            "keep each kind in a folder of its own."
        )
    return samples


def normalize(image: np.ndarray, data: DataConfig) -> np.ndarray:
    """`image` [H,W,C] of any kind as float32, by `data.normalization` with statistics in float64.

    All pixels and channels together, so that colours keep their ratio:

        standard:  (x - mean(x)) / sqrt(mean((x - mean(x))^2))
        minmax:    (x - min(x)) / (max(x) - min(x))
        range:     clip((x - low) / (high - low), 0, 1),  low, high = data.normalization_range

    `standard` and `minmax` make a constant image 0. No rule asks whether a pixel exceeds 1 or how many bits the file
    has: a dark image, or one of 16 bits, is treated like any other.
    """
    x = image.astype(np.float64)
    if data.normalization == "range":
        low, high = data.normalization_range
        return np.clip((x - low) / (high - low), 0.0, 1.0).astype(np.float32)
    low, high = x.min(), x.max()
    if low == high:  # asked of the pixels: rounding leaves the deviation of a constant image just above 0
        return np.zeros(x.shape, np.float32)
    if data.normalization == "minmax":
        return ((x - low) / (high - low)).astype(np.float32)
    return ((x - x.mean()) / x.std()).astype(np.float32)


def fingerprint(samples: list[Sample]) -> str:
    """SHA-256 over stems, shapes, kinds and pixels of images and labels, in whatever order the samples come."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.stem):
        digest.update(repr(sample.stem).encode())
        for array in (sample.image, sample.label):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
