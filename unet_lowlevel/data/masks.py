"""From mask files to labels: which value, colour or file stands for which class."""

import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_lowlevel.config import IGNORED, DataConfig
from unet_lowlevel.data.files import DEFAULTS, read_pixels
from unet_lowlevel.data.formats.decoding import is_jpeg
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.packed import Part
from unet_lowlevel.errors import UserError, listed, shown

# The share of a mask that may have values which --mask-values does not name, where a drawing program blurred an edge.
STRAY = 0.005
# In --mask-values, all values that it does not name: of an image with a number for each object those of the objects.
OTHER = "other"


def read_label(masks: tuple[Path | Slice, ...], classes: int, data: DataConfig = DEFAULTS) -> np.ndarray:
    """The class indices [H,W] uint8 of an image, from its mask or from the masks of its objects together.

    label[y, x] = the highest class that any of the masks has there; `IGNORED` if any says so

    Raises:
        UserError: see `read_mask`; or when the masks differ in size, or no pixel counts.
    """
    label = read_mask(masks[0], classes, data)
    for mask in masks[1:]:
        part = read_mask(mask, classes, data)
        if part.shape != label.shape:
            sizes = ["x".join(map(str, array.shape)) for array in (label, part)]
            raise UserError(
                f"{masks[0]} is {sizes[0]} pixels (height x width), but {mask}, of the same image, is {sizes[1]}: "
                "replace the one that does not belong there."
            )
        np.maximum(label, part, out=label)
    if (label == IGNORED).all():
        raise UserError(f"{masks[0]} has no pixel with a label: label some, or take it out with its image.")
    return label


def read_mask(mask: Path | Slice | str, classes: int, data: DataConfig = DEFAULTS) -> np.ndarray:
    """The class indices [H,W] uint8 of a mask, and `IGNORED` where --ignore-value or :ignore says so.

    --mask-values and --mask-colors say which gray value or colour is which class. A few pixels may have `stray_values`
    between those named; they are of the class of the nearest, unless `OTHER` has one. Without the two, one or two
    classes: the file may hold only 0 and 1, or 0 and 255 (in 16 bits also 0 and 65535); 0 is class 0, the other value
    class 1. With K >= 3 classes it may hold only the indices 0..K-1. A palette of colours is read as its indices, other
    colours as gray if their channels are equal. The rest is refused: a guessed threshold would make wrong labels of a
    wrong file.
    """
    if isinstance(mask, Part):
        return _packed_label(mask, classes, data)
    if data.mask_colors:
        return _labels_of_colors(mask, _mapping("--mask-colors", data.mask_colors, max(classes, 2)), data)
    pixels = read_pixels(mask, data, indices=True)
    if (pixels != pixels[..., :1]).any():
        colors = [tuple(color) for color in np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0).tolist()]
        raise _refusal(
            mask,
            f"has {len(colors)} distinct colours ({listed(colors, 3)})",
            "say with --mask-colors which class each is, or save the mask in gray with the class index of each pixel "
            "as its value, or with 0 and 255 for background and foreground",
        )
    pixels = pixels[..., 0]
    if data.mask_values:
        classes_of = _mapping("--mask-values", data.mask_values, max(classes, 2))
        for value in data.ignore_value:
            if classes_of.get(value, IGNORED) != IGNORED:
                raise UserError(
                    f"--ignore-value is {value:g}, but --mask-values makes that class {classes_of[value]}: leave it "
                    "out of one of them."
                )
        return _labels_of_values(mask, pixels, classes_of | dict.fromkeys(data.ignore_value, IGNORED))
    if not data.ignore_value:
        return _labels_of_indices(mask, pixels, classes)
    labelled = ~np.isin(pixels, data.ignore_value)
    label = np.full(pixels.shape, IGNORED, np.uint8)
    label[labelled] = _labels_of_indices(mask, pixels[labelled], classes)
    return label


def _packed_label(mask: Part, classes: int, data: DataConfig) -> np.ndarray:
    """The class indices that packing has made of a mask."""
    label = mask.read(data.max_megapixels)
    allowed = {*range(max(classes, 2)), *([] if data.ignored is None else [IGNORED])}
    strange = set(np.unique(label).tolist()) - allowed
    if strange:
        raise UserError(f"{mask} has class {min(strange)}, which its index does not name: pack the data anew.")
    return label


def _labels_of_indices(mask, pixels: np.ndarray, classes: int) -> np.ndarray:
    """The class indices of pixels without --mask-values; see `read_mask`."""
    values = np.unique(pixels)
    tops = (1, 255, 65535) if pixels.dtype == np.uint16 else (1, 255)
    if classes > 2 and np.isin(values, np.arange(classes)).all():
        return pixels.astype(np.uint8)
    if classes <= 2 and any(np.isin(values, (0, top)).all() for top in tops):
        return (pixels != 0).astype(np.uint8)
    kind = f"the class indices 0..{classes - 1}" if classes > 2 else "the two values 0 and 255"
    hint = ", or say with --mask-values which class each is"
    objects = f"--mask-values 0:0,{OTHER}:1 if they are numbers of objects"
    if classes > 2 and np.isin(values, (0, 255)).all():
        hint = ", or give --classes 1 if 255 is the one kind of foreground"
    elif classes <= values[-1] < 64 and np.isin(values, np.arange(64)).all():  # gray edges have higher values
        hint = f", or give --classes {int(values[-1]) + 1} if the values are class indices, {objects}"
    elif len(values) > 32:  # too many values to map; gray edges leave more of them out, or end with white
        hint = f", or give {objects}" if values[-1] < 2 * len(values) and values[-1] not in tops else ""
    raise _refusal(
        mask,
        f"has {len(values)} distinct values ({listed(f'{value:g}' for value in values)}), which does not fit --classes "
        f"{classes}",
        f"save it as PNG with {kind}, resized with nearest neighbour{hint}",
    )


def _refusal(mask: Path | Slice | str, what: str, remedy: str) -> UserError:
    """The error that `mask` has values or colours of no class; of JPEG the cause is known, and another remedy."""
    if not isinstance(mask, Slice) and is_jpeg(mask):
        what, remedy = f"{what}, because JPEG changes values", "export it anew as PNG from where it was drawn"
    return UserError(f"{mask} {what}: {remedy}.")


def _labels_of_values(mask, pixels: np.ndarray, classes_of: dict[float, int]) -> np.ndarray:
    values, inverse, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    if OTHER in classes_of:
        label = np.array([classes_of.get(value, classes_of[OTHER]) for value in values.tolist()], np.uint8)
        return label[inverse].reshape(pixels.shape)
    named = np.array(sorted(classes_of))
    unknown = ~np.isin(values, named)
    between = (values > named[0]) & (values < named[-1])
    if not between[unknown].all() or counts[unknown].sum() > STRAY * pixels.size:
        what = f"has the values {listed(values[unknown].tolist())}, which --mask-values does not name"
        raise _refusal(mask, what, f"add {values[unknown][0]:g}:CLASS")
    nearest = named[np.abs(values[:, np.newaxis] - named).argmin(1)]
    return np.array([classes_of[value] for value in nearest.tolist()], np.uint8)[inverse].reshape(pixels.shape)


def stray_values(values: Sequence, classes: int, data: DataConfig) -> list:
    """Those of the values in a mask that --mask-values does not name."""
    if not data.mask_values:
        return []
    named = {*_mapping("--mask-values", data.mask_values, max(classes, 2)), *data.ignore_value}
    return [value for value in values if value not in named and OTHER not in named]


def _labels_of_colors(mask, classes_of: dict[int, int], data: DataConfig) -> np.ndarray:
    pixels = read_pixels(mask, data)
    if pixels.dtype != np.uint8 or pixels.shape[-1] not in (1, 3):
        raise UserError(
            f"{mask} has {pixels.shape[-1]} channels of {pixels.dtype}, but --mask-colors needs gray or RGB of 8 bits: "
            "convert it."
        )
    red, green, blue = np.moveaxis(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint32), -1, 0)
    codes, inverse = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    unknown = [f"{code:06x}" for code in codes.tolist() if code not in classes_of]
    if unknown:
        what = f"has the colours {listed(unknown)}, which --mask-colors does not name"
        raise _refusal(mask, what, f"add {unknown[0]}:CLASS")
    return np.array([classes_of[code] for code in codes.tolist()], np.uint8)[inverse].reshape(pixels.shape[:2])


@functools.lru_cache
def _mapping(flag: str, text: str, classes: int) -> dict:
    """{value, `OTHER` or colour: class} of "0:0,128:1,254:ignore" or "000000:0,ff0000:1"; a colour is its number."""
    found = {}
    for part in text.split(","):
        key, _, index = part.strip().removeprefix("#").partition(":")
        try:
            if flag == "--mask-colors" and not re.fullmatch("[0-9a-fA-F]{6}", key):
                raise ValueError
            key = int(key, 16) if flag == "--mask-colors" else key if key == OTHER else float(key)
            index = IGNORED if index == "ignore" else int(index)
            if key != OTHER and not math.isfinite(key):
                raise ValueError
        except ValueError:
            example = "000000:0,ff0000:1" if flag == "--mask-colors" else "0:0,128:1"
            raise UserError(f"{flag} has {shown(part.strip())}, but needs pairs as in {example}.") from None
        if found.setdefault(key, index) != index:
            raise UserError(f"{flag} has {shown(part.strip())}, but names another class for it before: leave one out.")
        if not 0 <= index < classes and not part.endswith(":ignore"):
            raise UserError(
                f"{flag} names class {shown(index)}, but there are the classes 0..{classes - 1}: mend it, or raise "
                "--classes."
            )
    return found
