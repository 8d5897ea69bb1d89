"""Single objects in an image: which pixel belongs to which object."""

import numpy as np
from skimage.measure import label

from unet_lowlevel.config import Config
from unet_lowlevel.data.files import Pair, read_pixels
from unet_lowlevel.data.masks import read_label, read_mask
from unet_lowlevel.errors import UserError


def read_instances(pair: Pair, size: tuple[int, int], config: Config) -> np.ndarray:
    """The number of the object that each pixel belongs to, int32 [H,W], 0 for the background.

    Taken from the pair's instance labels if there are any; else from the masks of its objects, one number each; else
    from its one mask: each component of one class, connected by edges, is an object.

    Raises:
        UserError: when a file cannot be used, or the objects are not of the image's `size`.
    """
    instances = _objects(pair, config)
    if instances.shape != size:
        sizes = ["x".join(map(str, shape)) for shape in (size, instances.shape)]
        raise UserError(
            f"{pair.image} is {sizes[0]} pixels (height x width), but its instance labels {pair.instances} are "
            f"{sizes[1]}: replace them by those of the image."
        )
    return instances


def _objects(pair: Pair, config: Config) -> np.ndarray:
    """`read_instances` without the check of the size."""
    classes, data = config.model.classes, config.data
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
        return label(read_label(pair.masks, classes, data), connectivity=1).astype(np.int32)
    numbers = np.zeros(read_mask(pair.masks[0], classes, data).shape, np.int32)
    for number, mask in enumerate(pair.masks, start=1):
        numbers[read_mask(mask, classes, data) > 0] = number
    return numbers
