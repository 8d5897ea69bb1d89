"""Volumes: slices that belong together, in one file or one folder, and are read one at a time."""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS, decode, tiff_pages
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.dicom_masks import MarkedSeries, open_marked
from unet_lowlevel.data.formats.dicom_series import DicomSeries, is_series, is_stack
from unet_lowlevel.data.formats.nifti import SUFFIXES, NiftiVolume
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError


class Volume(Protocol):
    """The interface of every kind of volume.

    Attributes:
        path: the file, or the folder of a series.
        count: number of slices.
        group: the patient if known, else the name of the volume; its slices stay on one side of a split.
        suffix: of the file that `write` makes; empty for a folder.
        affine: [4,4] float64, from (slice, row, column, 1) to the place of a pixel in the patient, in millimetres; None
            if unknown.
    """

    path: Path
    count: int
    group: str
    suffix: str
    affine: np.ndarray | None

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        """Slice `index`, from 0: [H,W] or [H,W,C] as stored; for the limit see `decode`."""

    def write(self, path: Path, slices: np.ndarray) -> None:
        """Writes uint8 or uint16 [count,H,W], one value for each pixel of this volume, in its geometry.

        Makes a new file or folder, completely or not at all.
        """


@dataclass(frozen=True)
class Slice:
    """A slice of a volume, counted from 0; used in place of the path of an image.

    Attributes:
        path: of the volume.
        index: of the slice.
        series: the SeriesInstanceUID of a DICOM series whose folder holds other things too.
        marked: of a DICOM object that marks what is in images: the first slice of their volume, or the only image.
    """

    path: Path
    index: int
    series: str = ""
    marked: "Path | Slice | None" = None

    @property
    def volume(self) -> Volume:
        """The volume, opened; for a DICOM object that marks images one with `read`, but not `write`."""
        if self.marked is None:
            return open_volume(self.path, self.series)
        return _open_marked(self.path, self.path.stat().st_mtime_ns, self.marked)

    def __str__(self) -> str:
        return f"{self.path} ({f'series {self.series}, ' if self.series else ''}slice {self.index})"


class TiffStack:
    """The pages of a TIFF file; see `Volume`."""

    suffix = ".tif"
    affine = None

    def __init__(self, path: Path, count: int):
        self.path, self.count, self.group = path, count, path.stem

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        return decode(self.path, index, max_megapixels=max_megapixels)

    def write(self, path: Path, slices: np.ndarray) -> None:
        with written_whole(path) as temporary:
            tifffile.imwrite(temporary, slices, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})


def open_volume(path: Path, series: str = "") -> Volume | None:
    """The volume at `path`; None for anything else.

    It is a TIFF of several pages, a NIfTI file, a DICOM file of several frames, or the folder of a DICOM series: of
    `series` if it holds other things too.

    Raises:
        UserError: when it is damaged.
    """
    # A broken link is no file; reading it raises the error.
    if (
        path.is_file() and (path.name.lower().endswith((".tif", ".tiff", *SUFFIXES)) or is_dicom(path))
    ) or path.is_dir():
        # The time makes sure that a changed file is opened anew.
        return _open(path, path.stat().st_mtime_ns, series)
    return None


# Two: an image's volume and its mask's. Slices are read in order, and a compressed volume is decoded all at once.
@functools.lru_cache(maxsize=2)
def _open(path: Path, _: int, series: str) -> Volume | None:
    if path.is_dir():
        return DicomSeries(path, series) if is_series(path) else None
    if path.name.lower().endswith(SUFFIXES):
        return NiftiVolume(path)
    if is_dicom(path):
        return DicomSeries(path) if is_stack(path) else None
    pages = tiff_pages(path)
    return TiffStack(path, pages) if pages > 1 else None


@functools.lru_cache(maxsize=1)
def _open_marked(path: Path, _: int, marked: Path | Slice) -> MarkedSeries:
    images = marked.volume if isinstance(marked, Slice) else DicomSeries(marked) if is_dicom(marked) else None
    if not isinstance(images, DicomSeries):
        raise UserError(f"{path} marks what is in DICOM images, but {marked} is none: convert both to NIfTI.")
    return open_marked(path, images)


def check_same_place(image: Volume, mask: Volume, size: tuple[int, int]) -> None:
    """Raises a `UserError` if the mask is known to lie more than half a voxel from its image.

    Args:
        image, mask: volumes.
        size: height and width of the slices.
    """
    if image.affine is None or mask.affine is None:
        return
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in (image.count, *size)))])
    apart = np.abs(corners @ (image.affine - mask.affine).T)[:, :3].max()
    if apart > 0.5 * np.linalg.norm(image.affine[:3, :3], axis=0).min():
        raise UserError(
            f"{mask.path} lies up to {apart:.3g} mm from {image.path}, whose mask it is: save the mask with the "
            "geometry of the image."
        )
