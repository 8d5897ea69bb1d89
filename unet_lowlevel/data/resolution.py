"""Images and labels in the size that the network works at, and its probabilities in that of the image again.

See `DataConfig.resolution` and `image_size`. Both ways are linear along each axis, a matrix for the rows and one for
the columns:

    result = below @ values @ beside^T

Both matrices are sparse, because a pixel of the result depends only on pixels around it.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from unet_lowlevel.config import DataConfig

Size = tuple[int, int]
# So many pixels of the larger image are worked on at a time.
STRIP = 2**20


def working_size(size: Size, data: DataConfig) -> Size:
    """Height and width that the network works at: `image_size`, or max(1, round(side * resolution)) of each side."""
    height, width = (data.image_size or max(1, round(side * data.resolution)) for side in size)
    return height, width


def resized_image(image: np.ndarray, size: Size) -> np.ndarray:
    """The image [H,W,C] as float32 [h,w,C], whose pixels are means over their area; itself if it has that size.

    Sums of integers are exact, so that the means are the same on every machine.
    """
    if image.shape[:2] == size:
        return image
    found = np.empty((*size, image.shape[2]), np.float32)
    for rows, part, below, beside in covered(image, size):
        found[rows] = resampled(part, below, beside) / image[..., 0].size
    return found


def resized_label(label: np.ndarray, size: Size) -> np.ndarray:
    """The label [H,W] as [h,w] of the same dtype: the class with most of each pixel's area, the lowest among equals.

    `IGNORED`, the highest label, is one of them. A label of that size is returned itself.
    """
    if label.shape == size:
        return label
    found, most = np.zeros(size, label.dtype), np.zeros(size)
    for rows, part, below, beside in covered(label, size):
        for k in np.unique(part):
            area = resampled(part[..., np.newaxis] == k, below, beside)[..., 0]
            found[rows][area > most[rows]] = k
            np.maximum(most[rows], area, out=most[rows])
    return found


def resized_numbers(numbers: np.ndarray, size: Size) -> np.ndarray:
    """The numbers of objects [H,W] as [h,w]: that of the pixel in which the middle of each lies."""
    sides = zip(numbers.shape, size, strict=True)
    rows, columns = ((2 * np.arange(working) + 1) * length // (2 * working) for length, working in sides)
    return numbers[rows[:, np.newaxis], columns]


def resized_values(values: np.ndarray, size: Size, rows: slice = slice(None)) -> np.ndarray:
    """Rows of the values [h,w,K] at a larger or smaller size [H,W], by linear interpolation: float32 [rows,W,K].

    The middle of pixel i lies at (i + 0.5) h / H - 0.5 in pixels of `values`; beyond the outermost middles their values
    continue. At the size of `values` these are the values themselves.
    """
    if values.shape[:2] == size:
        return values[rows]
    below, beside = (linear(working, length) for working, length in zip(values.shape[:2], size, strict=True))
    return resampled(values, below[rows], beside)


def strips(size: Size) -> Iterator[slice]:
    """The rows of an image of this size, about `STRIP` pixels at a time."""
    height, width = size
    step = max(STRIP // width, 1)
    yield from (slice(start, min(start + step, height)) for start in range(0, height, step))


def covered(pixels: np.ndarray, size: Size) -> Iterator[tuple[slice, np.ndarray, csr_array, csr_array]]:
    """Rows of the image resized to `size`, the rows of `pixels` [H,W,...] that they cover, and `overlaps` of both axes.

    If the pixels are mapped from a file, they are read once and only some of them are in memory.
    """
    height, width = pixels.shape[:2]
    below, beside = overlaps(height, size[0]), overlaps(width, size[1])
    step = max(STRIP * size[0] // (height * width), 1)
    for start in range(0, size[0], step):
        stop = min(start + step, size[0])
        first, last = start * height // size[0], -(-stop * height // size[0])
        yield slice(start, stop), pixels[first:last], below[start:stop, first:last], beside


def overlaps(length: int, working: int) -> csr_array:
    """How much of each of `working` pixels lies in each of `length` pixels that span the same axis.

    In units in which a pixel of the larger image is `working` long, and one of the smaller `length`: whole numbers.

    Returns:
        float64 [working, length]; each row adds up to `length`.
    """
    edges = np.union1d(np.arange(length + 1) * working, np.arange(working + 1) * length)
    return csr_array((np.diff(edges).astype(np.float64), (edges[:-1] // length, edges[:-1] // working)))


def linear(working: int, length: int) -> csr_array:
    """The weights of `working` pixels in each of `length` pixels; see `resized_values`. float32 [length, working]."""
    places = np.maximum((np.arange(length) + 0.5) * working / length - 0.5, 0)
    low = np.floor(places).astype(int)
    columns = np.concatenate([low, np.minimum(low + 1, working - 1)])
    weights = np.concatenate([low + 1 - places, places - low]).astype(np.float32)
    return csr_array((weights, (np.tile(np.arange(length), 2), columns)), (length, working))


def resampled(values: np.ndarray, below: csr_array, beside: csr_array) -> np.ndarray:
    """below @ values @ beside^T in each channel: [H,W,C], [h,H], [w,W] -> [h,w,C]."""
    height, width, channels = values.shape
    found = (below @ values.reshape(height, width * channels)).reshape(-1, width, channels).swapaxes(0, 1)
    return (beside @ found.reshape(width, -1)).reshape(beside.shape[0], -1, channels).swapaxes(0, 1)
