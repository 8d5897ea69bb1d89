"""Single objects in an image: which pixel belongs to which object."""

import numpy as np
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from unet_lowlevel.config import IGNORED, Config
from unet_lowlevel.data.files import Pair, read_pixels
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.errors import UserError


def read_objects(pair: Pair, classes: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """`read_instances` numbered from 1 without gaps, and the class of each object, int [N].

    It is the class of most of its pixels, those of background left out; the lowest among equals.

    Args:
        pair: the files.
        classes: the class of each pixel [H,W], from the mask of the pair.
        config: of the run.

    Raises:
        UserError: also when an object lies in the background, and there are several classes that it could be of.
    """
    numbers, _, original = relabel_sequential(read_instances(pair, classes, config))
    count, kinds = int(numbers.max()), max(config.model.classes, 2)
    cells = numbers.astype(np.int64) * kinds + np.where(classes == IGNORED, 0, classes)
    votes = np.bincount(cells.reshape(-1), minlength=(count + 1) * kinds)
    votes = votes.reshape(-1, kinds)[1:, 1:]
    lost = np.flatnonzero(~votes.any(-1)) + 1
    if kinds > 2 and lost.size:
        raise UserError(
            f"{pair.instances} has the object {original[lost[0]]}, which lies in the background of {pair.masks[0]}, so "
            "that it is of no class: mend one of them."
        )
    return numbers, 1 + votes.argmax(-1)


def read_instances(pair: Pair, classes: np.ndarray, config: Config) -> np.ndarray:
    """The number of the object that each pixel belongs to, int32 [H,W], 0 for the background and what does not count.

    Taken from the pair's instance labels if there are any; else from the masks of its objects, one number each; else
    from its one mask: each component of one class, connected by edges, is an object.

    Args:
        pair, classes, config: see `read_objects`.

    Raises:
        UserError: when a file cannot be used, or the objects are not of the image's size.
    """
    instances = _objects(pair, classes, config)
    if instances.shape != classes.shape:
        sizes = ["x".join(map(str, array.shape)) for array in (classes, instances)]
        raise UserError(
            f"{pair.image} is {sizes[0]} pixels (height x width), but its instance labels {pair.instances} are "
            f"{sizes[1]}: replace them by those of the image."
        )
    instances[classes == IGNORED] = 0
    return instances


def _objects(pair: Pair, classes: np.ndarray, config: Config) -> np.ndarray:
    """`read_instances` without the check of the size, and with numbers also where nothing counts."""
    data = config.data
    if pair.instances is not None:
        pixels = read_pixels(pair.instances, data)
        with np.errstate(invalid="ignore"):  # a value too large for int32 fails the comparison below
            numbers = pixels[..., 0].astype(np.int32)
        if pixels.shape[-1] != 1 or (numbers != pixels[..., 0]).any() or numbers.min() < 0:
            raise UserError(
                f"{pair.instances} is no image of instance labels, which are whole numbers in gray, 0 for the "
                "background: save it as 16-bit PNG or TIFF."
            )
        return numbers
    if len(pair.masks) == 1:
        return label(np.where(classes == IGNORED, 0, classes), connectivity=1).astype(np.int32)
    numbers = np.zeros(classes.shape, np.int32)
    for number, mask in enumerate(pair.masks, start=1):
        numbers[read_mask(mask, config.model.classes, data) > 0] = number
    return numbers
