"""Where the foreground of an image is, so that crops can be drawn there."""

from collections.abc import Sequence

import numpy as np

from unet_lowlevel.config import IGNORED
from unet_lowlevel.geometry import range_of_starts

# Side in pixels of the squares that an image is searched by: small beside a crop, and few even in a large image.
SQUARE = 16


def foreground_squares(label: np.ndarray) -> list[np.ndarray]:
    """In which squares of an image each of its foreground classes is: first row and column of each, int32 [n,2].

    Args:
        label: uint8 [H,W], also in a file; `SQUARE` rows are read at a time.
    """
    found: dict[int, list[np.ndarray]] = {}
    for row in range(0, label.shape[0], SQUARE):
        strip = label[row : row + SQUARE]
        for k in np.setdiff1d(strip, (0, IGNORED)).tolist():
            columns = np.unique(np.flatnonzero((strip == k).any(0)) // SQUARE) * SQUARE
            found.setdefault(k, []).append(np.stack([np.full(len(columns), row), columns], 1))
    return [np.concatenate(found[k]).astype(np.int32) for k in sorted(found)]


def start_on_foreground(
    start: np.ndarray,
    squares: Sequence[np.ndarray],
    size: tuple[int, int],
    crop: int,
    margin: int,
    uniform: np.ndarray,
) -> np.ndarray:
    """The first pixel of a crop that shows foreground: a random class of the image, one of its squares, and the square
    anywhere in what the network puts out of the crop.

    As a random crop it stays within `range_of_starts`.

    Args:
        start: int32 [2], that of a random crop, which stays without foreground, and along an axis without choice.
        squares: `foreground_squares` of the image.
        size: height and width of the image.
        crop: side of the crop.
        margin: pixels that a valid network loses per axis.
        uniform: float32 [4], at least 0 and below 1.
    """
    if not squares:
        return start
    of_class = squares[int(uniform[0] * len(squares))]
    square = of_class[int(uniform[1] * len(of_class))]
    first, last = range_of_starts(np.array(size), crop, margin)
    wanted = square + first - (uniform[2:] * max(crop - margin - SQUARE + 1, 1)).astype(np.int32)
    return np.where(last >= first, np.clip(wanted, first, last), start).astype(np.int32)
