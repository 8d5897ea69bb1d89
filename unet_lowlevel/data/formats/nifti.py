"""NIfTI volumes as stacks of axial slices, read by the optional package nibabel."""

import gzip
import math
import re
import struct
from functools import cached_property
from pathlib import Path

import numpy as np

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS, check_pixels
from unet_lowlevel.data.formats.medical import check_slices, inverse_of, refusing, rescaled, to_axial
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError
from unet_lowlevel.packages import optional_package

SUFFIXES = (".nii", ".nii.gz")
# Deflate cannot compress below this share.
MOST_COMPRESSED = 1 / 1032
MOST_CHANNELS = 4
# More than any header with its extensions takes.
LONGEST_HEADER = 2**26


class NiftiVolume:
    """A .nii or .nii.gz file of two, three or four dimensions; the fourth holds up to four channels.

    A compressed file is decompressed once, at the first `read`, and kept as long as the object lives. Any other file is
    mapped: only the pixels in use are read.

    Attributes:
        path: of the file.
        count: of slices.
        group: the name of the file without .nii or .nii.gz, because NIfTI does not name the patient.
        suffix: of the file that `write` makes.
        affine: [4,4] float64, from (slice, row, column, 1) to millimetres to the left, the back and the head.

    Raises:
        UserError: when the file is damaged, has no voxels, other dimensions or an affine that leaves axes undefined.
    """

    suffix = ".nii.gz"

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.group = re.sub(r"\.nii(\.gz)?$", "", self.path.name, flags=re.IGNORECASE)
        nibabel = optional_package("nibabel", self.path)
        self._compressed = self.path.suffix.lower() == ".gz"
        with refusing(self.path, "NIfTI"):
            self._image = compressed_header(self.path) if self._compressed else nibabel.load(self.path)
            if not isinstance(self._image, nibabel.Nifti1Image):
                raise ValueError(f"it is a {type(self._image).__name__}")
            self._shape = self._checked_shape()
            to_lps = np.diag([-1, -1, 1, 1]) @ self._image.affine
            self._transform = to_axial(to_lps, self.path)
            self.affine = to_lps @ nibabel.orientations.inv_ornt_aff(self._transform, self._shape)
        self.count = self._shape[int(np.argmin(self._transform[:, 0]))]

    def _checked_shape(self) -> tuple[int, ...]:
        """The shape as (x, y, z) or (x, y, z, channels), or a `UserError` if the file cannot have it."""
        shape, stored = self._image.shape, self._image.dataobj
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if not 2 <= len(shape) <= 4 or (len(shape) == 4 and shape[3] > MOST_CHANNELS):
            raise UserError(
                f"{self.path} has the shape {self._image.shape}, which is neither a volume nor one with up to "
                f"{MOST_CHANNELS} channels: split it into files of three dimensions."
            )
        if min(shape) < 1:
            raise UserError(f"{self.path} has the shape {shape}, which holds no voxels: replace it by an intact file.")
        if stored.dtype.kind not in "iuf" and stored.dtype.names is None:
            raise UserError(f"{self.path} holds {stored.dtype} values: save it as whole numbers or floats.")
        size, needed = self.path.stat().st_size, stored.offset + math.prod(shape) * stored.dtype.itemsize
        if size < needed * (MOST_COMPRESSED if self._compressed else 1):
            raise ValueError(f"truncated: {size} bytes, and by its header {needed} without compression")
        return (*shape, 1) if len(shape) == 2 else shape

    @property
    def _stack(self) -> np.ndarray:
        """[slice, row, column] or [slice, row, column, channel] as stored: mapped from the file, or decompressed."""
        if isinstance(self._content, UserError):
            raise self._content
        return self._content

    @cached_property
    def _content(self) -> np.ndarray | UserError:
        """`_stack`, or why there is none: a damaged file is decompressed once, not for each slice."""
        orientations = optional_package("nibabel", self.path).orientations
        try:
            with refusing(self.path, "NIfTI"):
                stored = self._decompressed() if self._compressed else self._image.dataobj.get_unscaled()
        except UserError as error:
            return error
        return orientations.apply_orientation(stored.reshape(self._shape, order="F"), self._transform)

    def _decompressed(self) -> np.ndarray:
        """The values of a .gz file. Its checksum, which nibabel ignores, stands behind them."""
        stored = self._image.dataobj
        content = bytearray(math.prod(stored.shape) * stored.dtype.itemsize)
        with gzip.open(self.path) as file:
            file.seek(stored.offset)
            found = file.readinto(content)
            file.read(2**20)  # to the end, where the checksum is; what is longer is no part of the volume
        if found < len(content):
            raise ValueError(f"truncated: {found} of {len(content)} bytes of values")
        return np.ndarray(stored.shape, stored.dtype, content, order="F")

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        """Slice `index` as [H,W] or [H,W,C], in the stored dtype, or float32 if the header scales it.

        In a compressed file all slices count for the limit, because all are decompressed at once.
        """
        if self._compressed:
            check_pixels(self.path, *self._shape[:2], max_megapixels, slices=self._shape[2])
        pixels = self._stack[index]
        if pixels.dtype.names:  # RGB, or RGBA
            pixels = np.stack([pixels[color] for color in "RGB"], axis=-1)
        return rescaled(pixels, self._image.dataobj.slope, self._image.dataobj.inter)

    def write(self, path: str | Path, slices: np.ndarray) -> None:
        """Writes [count,H,W] uint8 or uint16 as .nii.gz in the axes and the geometry of this volume.

        The same slices give the same bytes. The file is written completely or not at all, never over another.

        Raises:
            UserError: when the path exists or cannot be written.
        """
        path, nibabel = Path(path), optional_package("nibabel", self.path)
        check_slices(slices, self._stack.shape[:3])
        if not path.name.endswith(self.suffix):
            raise ValueError(f"{path.name} does not end in {self.suffix}")
        with refusing(self.path, "NIfTI"):
            array = nibabel.orientations.apply_orientation(slices, inverse_of(self._transform, self.path))
            header = self._image.header.copy()
            header.set_data_dtype(slices.dtype)
            header["cal_min"] = header["cal_max"] = 0  # the display window of the image
            shape = self._image.shape[:2] if len(self._image.shape) == 2 else array.shape
            mask = type(self._image)(array.reshape(shape, order="F"), self._image.affine, header)
        with written_whole(path, self.suffix) as temporary:
            mask.to_filename(temporary)


def compressed_header(path: Path):
    """The image in a .nii.gz file without its voxels: of what may be a bomb, only the header is decompressed.

    A header has 348 bytes in NIfTI-1, 540 in NIfTI-2; extensions reach up to the voxels.
    """
    nibabel = optional_package("nibabel", path)
    with gzip.open(path) as file:
        head = file.read(544)
        order = "<" if head[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"
        if struct.unpack_from(f"{order}i", head)[0] == 540:
            kind, (end,) = nibabel.Nifti2Image, struct.unpack_from(f"{order}q", head, 168)
        else:
            kind, (end,) = nibabel.Nifti1Image, struct.unpack_from(f"{order}f", head, 108)
        if not 0 <= end <= LONGEST_HEADER:
            raise ValueError(f"its voxels begin at byte {end:.0f}")
        return kind.from_bytes(head + file.read(max(int(end) - len(head), 0)))


def write_nifti(path: Path, slices: np.ndarray, affine: np.ndarray | None) -> None:
    """Writes the slices [count,H,W] uint8 or uint16 of a volume of another format as .nii.gz.

    Args:
        path: of the new file; see `written_whole`.
        slices: of the volume.
        affine: of the volume, see `NiftiVolume`; None if unknown: then a voxel is a cube of 1 mm.
    """
    nibabel = optional_package("nibabel", path)
    # NIfTI's world points to the right, the front and the head; its first axis goes along the columns.
    to_world = (
        np.diag([-1, -1, 1, 1]) @ (np.eye(4)[[2, 1, 0, 3]] if affine is None else affine) @ np.eye(4)[[2, 1, 0, 3]]
    )
    image = nibabel.Nifti1Image(slices.transpose(2, 1, 0), to_world)
    image.header.set_xyzt_units("mm")
    with written_whole(path, ".nii.gz") as temporary:
        image.to_filename(temporary)
