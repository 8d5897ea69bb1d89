"""What NIfTI volumes and DICOM series share: their axes, and the refusal of damaged files.

Both are read in the axes of an axial DICOM series: slices from the feet to the head, rows from the front to the back,
columns from the patient's right to the left. So a series and its conversion to NIfTI give the same slices, and masks
in one format fit images in the other. Axes are flipped and exchanged, never interpolated; an oblique volume gets the
closest axes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.machine import without_remarks
from unet_lowlevel.packages import optional_package

# Directions of an array's axes, as in nibabel a row each: an axis of the patient (0 to the left, 1 to the back, 2 to
# the head, as in DICOM) and 1, or -1 for the opposite direction.
AXIAL = np.array([[2, 1], [1, 1], [0, 1]])
UNCHANGED = np.array([[0, 1], [1, 1], [2, 1]])


@contextlib.contextmanager
def refusing(path: Path, kind: str) -> Iterator[None]:
    """Turns any error of a package that reads `path` into a `UserError`, and hides its logs and warnings."""
    try:
        with without_remarks():
            yield
    except UserError:
        raise
    except Exception as error:  # damaged files raise anything: struct.error, zlib.error, KeyError, ...
        why = reason(error).partition(". ")[0]  # a second sentence is advice to programmers
        if path.is_file() and not path.stat().st_size:
            why = "the file is empty"
        raise UserError(f"{path} is not readable as {kind} ({why}): replace it by an intact file.") from None


def to_axial(affine: np.ndarray, path: Path) -> np.ndarray:
    """[3,2], for `apply_orientation`: from the axes of an array with this affine to those of axial slices."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise UserError(f"{path} has an affine that does not say where its axes point: write its geometry anew.")
    orientations = optional_package("nibabel", path).orientations
    return orientations.ornt_transform(orientations.io_orientation(affine), AXIAL).astype(int)


def inverse_of(transform: np.ndarray, path: Path) -> np.ndarray:
    """[3,2]: the inverse of `transform`."""
    return optional_package("nibabel", path).orientations.ornt_transform(UNCHANGED, transform)


def rescaled(pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """slope * pixels + intercept in float32, computed in float64; for 1 and 0 the pixels in their own dtype."""
    if (slope, intercept) == (1, 0):
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite
        return np.ascontiguousarray(pixels.astype(np.float64) * slope + intercept, np.float32)


def check_slices(slices: np.ndarray, shape: tuple[int, ...]) -> None:
    if slices.dtype not in (np.uint8, np.uint16) or slices.shape != tuple(shape):
        raise ValueError(f"no mask of {slices.dtype} {slices.shape} for slices of {tuple(shape)}")
