"""Views of an image (mirrored, transposed, rotated) whose predictions are averaged.

Most images have no preferred direction, but a network learns each direction separately, and not equally well. It makes
different errors in different views, and the mean of the probabilities has fewer.

Every view can show any part of an image, so that large images need no more memory than without views.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unet_lowlevel.config import AugmentationConfig

Size = tuple[int, int]
Part = tuple[slice, slice]


@dataclass(frozen=True)
class Flip:
    """One of the eight symmetries of the square, without interpolation.

    Attributes:
        exchanged: first rows and columns are exchanged.
        upside_down: then the rows are reversed.
        left_right: then the columns are reversed.
    """

    exchanged: bool
    upside_down: bool
    left_right: bool

    def of(self, image: np.ndarray) -> np.ndarray:
        """The view of an image [H, W, C]; it shares the image's memory."""
        return self._reversed(image.swapaxes(0, 1) if self.exchanged else image)

    def part(self, rows: slice, columns: slice, size: Size) -> Part:
        """The part of the view that shows rows and columns of an image of this size."""
        parts = [(rows, size[0]), (columns, size[1])]
        below, beside = reversed(parts) if self.exchanged else parts
        return _mirrored(*below, self.upside_down), _mirrored(*beside, self.left_right)

    def back(self, found: np.ndarray, rows: slice, columns: slice, size: Size) -> np.ndarray:
        """What was found for `part(rows, columns, size)` of the view, as that of the image: [rows, columns, K]."""
        found = self._reversed(found)
        return found.swapaxes(0, 1) if self.exchanged else found

    def _reversed(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1]


def _mirrored(part: slice, length: int, mirrored: bool) -> slice:
    """The part of an axis of `length` pixels, counted from its other end if `mirrored`."""
    return slice(length - part.stop, length - part.start) if mirrored else part


@dataclass(frozen=True)
class Rotation:
    """The image rotated counterclockwise about its middle, into a view just large enough for all of it.

    A pixel p of the image is at q in the view:

        q - middle of the view = [[cos, -sin], [sin, cos]] (p - middle of the image)

    Values between pixels are interpolated linearly. Beyond the image the view shows it mirrored.

    Attributes:
        angle: in radians.
    """

    angle: float

    @property
    def matrix(self) -> np.ndarray:
        # Rounded, so that the cosine of a quarter turn is 0: its pixels then fall onto pixels.
        cos, sin = round(math.cos(self.angle), 15), round(math.sin(self.angle), 15)
        return np.array([[cos, -sin], [sin, cos]])

    def size(self, size: Size) -> Size:
        """The size of the view of an image of this size."""
        height, width = np.ceil(np.abs(self.matrix) @ (np.array(size) - 1) - 1e-9).astype(int) + 1
        return int(height), int(width)

    def of(self, image: np.ndarray) -> "RotatedImage":
        """The view of an image [H, W, C]."""
        return RotatedImage(image, self)

    def part(self, rows: slice, columns: slice, size: Size) -> Part:
        """The rectangle of the view that holds rows and columns of an image of this size."""
        corners = np.array(list(itertools.product((rows.start, rows.stop - 1), (columns.start, columns.stop - 1))))
        places = (corners - _middle(size)) @ self.matrix.T + _middle(self.size(size))
        first = np.floor(places.min(0)).astype(int)
        last = np.floor(places.max(0)).astype(int) + 1  # interpolation needs one pixel more
        limits = zip(first, last, self.size(size), strict=True)
        return tuple(slice(max(int(low), 0), min(int(high) + 1, length)) for low, high, length in limits)

    def back(self, found: np.ndarray, rows: slice, columns: slice, size: Size) -> np.ndarray:
        """What was found for `part(rows, columns, size)` of the view, as that of the image: [rows, columns, K]."""
        first = np.array([part.start for part in self.part(rows, columns, size)])
        start = np.array([rows.start, columns.start])
        offset = self.matrix @ (start - _middle(size)) + _middle(self.size(size)) - first
        return interpolated(found, self.matrix, offset, (rows.stop - rows.start, columns.stop - columns.start))


class RotatedImage:
    """An image [H, W, C] that is rotated on demand: `view[rows, columns]` computes only these pixels."""

    def __init__(self, image: np.ndarray, rotation: Rotation):
        self.image, self.rotation = image, rotation
        self.shape = (*rotation.size(image.shape[:2]), image.shape[2])

    def __getitem__(self, part: Part) -> np.ndarray:
        """float32 [rows, columns, C] of two slices."""
        rows, columns = (slice(*axis.indices(length)) for axis, length in zip(part, self.shape[:2], strict=True))
        inverse = self.rotation.matrix.T
        start = np.array([rows.start, columns.start])
        offset = inverse @ (start - _middle(self.shape[:2])) + _middle(self.image.shape[:2])
        return interpolated(self.image, inverse, offset, (rows.stop - rows.start, columns.stop - columns.start))


def _middle(size: Size) -> np.ndarray:
    """Halfway between the first and the last pixel."""
    return (np.array(size) - 1) / 2


def interpolated(pixels: np.ndarray, matrix: np.ndarray, offset: np.ndarray, size: Size) -> np.ndarray:
    """The pixels [H, W, C] at matrix @ q + offset, for every q of a rectangle from 0; mirrored at the border.

    Returns:
        float32 [*size, C], linearly interpolated
    """
    found = np.empty([*size, pixels.shape[-1]], np.float32)
    for channel in range(pixels.shape[-1]):
        plane = pixels[..., channel]
        found[..., channel] = ndimage.affine_transform(
            plane, matrix, offset, size, np.float32, order=1, mode="mirror", prefilter=False
        )
    return found


ASIS = (Flip(False, False, False),)
FLIPS = tuple(Flip(*kinds) for kinds in itertools.product((False, True), repeat=3))


def trained_flips(changes: AugmentationConfig) -> tuple[Flip, ...]:
    """Those of `FLIPS` that a training with these random changes has shown its network; without any changes all.

    A network that has only seen upright images is at a loss with others.
    """
    if not changes.augment:
        return FLIPS
    up_down = changes.flips and changes.flip_axes != "left_right"
    left_right = changes.flips and changes.flip_axes != "up_down"

    def shown(flip: Flip) -> bool:
        if changes.quarter_turns:  # a turn is an exchange and one reversal
            return changes.flips or (flip.exchanged + flip.upside_down + flip.left_right) % 2 == 0
        return not flip.exchanged and flip.upside_down <= up_down and flip.left_right <= left_right

    return tuple(filter(shown, FLIPS))


# As many as in Ronneberger et al. 2015, section 4, which does not say by which angles.
ROTATIONS = tuple(Rotation(2 * math.pi * i / 7) for i in range(7))
