"""DICOM series as stacks of slices: which files of a folder belong together, and in which order.

A sagittal or coronal series keeps its slices, sorted along their normal: its files are not the axial slices that
`medical.py` describes. Converted to NIfTI it is read in axial slices.
"""

import dataclasses
import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS
from unet_lowlevel.data.formats.dicom import MASKS, is_dicom, read_dicom
from unet_lowlevel.data.formats.dicom_headers import Header, headers_of
from unet_lowlevel.data.formats.medical import UNCHANGED, check_slices, inverse_of, to_axial
from unet_lowlevel.data.formats.nifti import write_nifti
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.packages import optional_package

# Slices closer than SAME_PLACE are at one place. Distances of neighbours may differ by UNEVEN relative to their median:
# positions are sometimes rounded to a tenth of a millimetre, while a missing slice doubles a distance.
SAME_PLACE = 1e-3  # millimetres
UNEVEN = 0.25


class DicomSeries:
    """The files of one DICOM series in a folder, a slice each; or the frames of a file.

    The slices are in the order of ImagePositionPatient along their normal, or without positions in that of
    InstanceNumber. Frames that are no even stack (phases, echoes, a film) stay in their order. One slice is read at a
    time.

    Attributes:
        path: of the folder or the file.
        files: the DICOM file of each slice.
        frames: the frame of its file that is the slice, from 0; None in a file of one frame.
        headers: see `Header`, of each slice.
        shape: (slices, rows, columns) as read.
        count: of slices.
        group: the PatientID, or what names the series if it is empty.
        suffix: of the file that `write` makes.
        affine: [4,4] float64, from (slice, row, column, 1) to millimetres to the left, the back and the head; None
            without positions.

    Raises:
        UserError: when a file is damaged, and when the files are not the slices of one volume: of several series, sizes
            or orientations, two at one place, or with a gap.
    """

    suffix = ".nii.gz"

    def __init__(self, path: str | Path, series: str = ""):
        """Opens PATH; in a folder that holds other things too, the series with this SeriesInstanceUID."""
        self.path = Path(path)
        headers = _frames_in_order(self.path) if self.path.is_file() else _files_in_order(self.path, series)
        self.count = len(headers)
        self.group = headers[0].patient or series or self.path.resolve().name
        self.affine, self._transform = None, UNCHANGED
        shape = (self.count, *headers[0].size)
        if headers[0].position is not None:
            self.affine = _affine(headers)
            transform = to_axial(self.affine, self.path)
            single = self.path.is_file() and self.count == 1  # read as it is
            if transform[0, 0] == 0 and not single:  # the slices are axial
                self._transform = transform
            orientations = optional_package("nibabel", self.path).orientations
            self.affine = self.affine @ orientations.inv_ornt_aff(self._transform, shape)
        self.headers = headers[:: int(self._transform[0, 1])]
        self.files = [header.path for header in self.headers]
        self.frames = [header.frame for header in self.headers]
        self.shape = tuple(shape[int(axis)] for axis in np.argsort(self._transform[:, 0]))

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        """Slice `index` as [H,W] or [H,W,3]; see `read_dicom`."""
        pixels = read_dicom(self.files[index], max_megapixels, self.frames[index])
        return np.ascontiguousarray(self.turned(pixels))

    def write(self, path: str | Path, slices: np.ndarray) -> None:
        """Writes [count,H,W] uint8 or uint16 as NIfTI; see `write_nifti`. For masks see `write_segmentation`."""
        check_slices(slices, self.shape)
        write_nifti(Path(path), slices, self.affine)

    def as_stored(self, slices: np.ndarray) -> np.ndarray:
        """Slices [count,H,W] as the pixels lie in `files`, or in the frames of its file, one after the other."""
        found = np.stack([self.turned(pixels, back=True) for pixels in slices])
        return found if self.frames[0] is None else found[np.argsort(self.frames)]

    def turned(self, pixels: np.ndarray, *, back: bool = False) -> np.ndarray:
        """A slice with the rows and columns of its file flipped and exchanged to axial ones, or `back`."""
        transform = inverse_of(self._transform, self.path) if back else self._transform
        return optional_package("nibabel", self.path).orientations.apply_orientation(pixels[None], transform)[0]


@dataclass
class DicomFolder:
    """What the DICOM files of a folder are.

    Attributes:
        images: files that are an image each.
        stacks: files of several frames.
        series: {SeriesInstanceUID: the headers of its files, by name}, of two files or more.
        masks: files that say what is in images, see `MASKS`.
        mistakes: a sentence for each file that is none of these.
    """

    images: set[Path] = field(default_factory=set)
    stacks: set[Path] = field(default_factory=set)
    series: dict[str, list[Header]] = field(default_factory=dict)
    masks: set[Path] = field(default_factory=set)
    mistakes: list[UserError] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of images, volumes and others."""
        return sum(map(len, (self.images, self.stacks, self.series, self.masks, self.mistakes)))


def look_into(folder: str | Path) -> DicomFolder:
    """Reads the headers of all DICOM files in `folder` itself; what cannot be used is among the mistakes."""
    folder = Path(folder)
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {found}: name a folder with the files of one DICOM series.")
    # The time makes sure that a changed folder is read anew.
    return _look_into(folder, folder.stat().st_mtime_ns)


# Two: of images and of masks.
@functools.lru_cache(maxsize=2)
def _look_into(folder: Path, _: int) -> DicomFolder:
    found = DicomFolder()
    series: dict[str, list[Header]] = {}
    files = _dicom_files(folder)
    try:
        if files:
            optional_package("pydicom", folder)
    except UserError as mistake:
        found.mistakes.append(mistake)
        return found
    for path in files:
        try:
            headers = headers_of(path)
        except UserError as mistake:
            found.mistakes.append(mistake)
            continue
        if headers[0].kind in MASKS:
            found.masks.add(path)
        elif len(headers) > 1:
            found.stacks.add(path)
        elif headers[0].alone:
            found.images.add(path)
        else:
            series.setdefault(headers[0].series, []).append(headers[0])
    for uid, headers in series.items():
        if len(headers) > 1:
            found.series[uid] = headers
        else:
            found.images.add(headers[0].path)
    return found


def is_series(folder: str | Path) -> bool:
    """Whether `folder` is a folder with at least two DICOM files."""
    return Path(folder).is_dir() and len(_dicom_files(Path(folder))) >= 2


def is_mask(path: Path) -> bool:
    """Whether a file is a DICOM object that says what is in images; see `MASKS`."""
    return is_dicom(path) and path in look_into(path.parent).masks


def is_stack(path: Path) -> bool:
    """Whether a DICOM file holds an image of several frames."""
    headers = headers_of(path)
    return len(headers) > 1 and headers[0].kind not in MASKS


def patient_of(path: str | Path) -> str | None:
    """The PatientID of a DICOM file; None where it is empty."""
    return headers_of(Path(path))[0].patient


def _files_in_order(folder: Path, series: str) -> list[Header]:
    """The headers of the slices of a series, the only one in `folder` or that with this UID."""
    inside = look_into(folder)
    if series:
        headers = inside.series[series]
    else:
        if not inside.number:
            raise UserError(f"{folder} holds no DICOM file: name a folder with the files of one series.")
        if inside.mistakes:
            raise inside.mistakes[0]
        for path in sorted(inside.stacks | inside.masks):
            raise UserError(f"{folder} holds {path.name} beside a series: move it to a folder of its own.")
        headers = [*itertools.chain(*inside.series.values()), *(headers_of(path)[0] for path in sorted(inside.images))]
    _refuse_mixture(folder, headers)
    return _in_order(folder, headers)


def _frames_in_order(path: Path) -> list[Header]:
    """The headers of the frames of a file: by place if they are an even stack, else as they are, without a place."""
    headers = headers_of(path)
    try:
        _refuse_mixture(path, headers)
        return _in_order(path, headers)
    except UserError:
        return [dataclasses.replace(header, position=None) for header in headers]


def _refuse_mixture(folder: Path, headers: list[Header]) -> None:
    """Raises a `UserError` unless all files are of one series, one size and one orientation."""
    names = {}
    for header in headers:
        names.setdefault(header.series, header.path.name)
    if len(names) > 1:
        raise UserError(
            f"{folder} holds {len(names)} series, with {listed(names.values())} for example: make a folder for each."
        )
    first = headers[0]
    for header in headers:
        pair = f"{first.path.name} and {header.path.name}"
        if header.size != first.size:
            raise UserError(
                f"{folder} has slices of {first.size[0]}x{first.size[1]} and {header.size[0]}x{header.size[1]} pixels, "
                f"{pair}: make a folder for each size."
            )
        if (header.position is None) != (first.position is None):
            raise UserError(f"{folder} has slices with and without a position, {pair}: make a folder for each kind.")
        if header.position is not None and not np.allclose(header.axes, first.axes, rtol=0, atol=1e-3):
            raise UserError(f"{folder} has slices of different orientation, {pair}: make a folder for each.")


def _in_order(folder: Path, headers: list[Header]) -> list[Header]:
    """The headers sorted by place, or a `UserError` if a place is unknown, taken twice, or missing between others."""
    if len(headers) == 1:
        return headers
    if headers[0].position is not None:
        places, unit = [header.position @ headers[0].normal for header in headers], " mm"
    else:
        places, unit = [header.number for header in headers], " in InstanceNumber"
        unknown = [header.path.name for header in headers if header.number is None]
        if unknown:
            raise UserError(
                f"{folder} has slices without ImagePositionPatient and InstanceNumber ({listed(unknown)}), so that "
                "their order is unknown: export the series anew."
            )
    order = np.argsort(places, kind="stable")
    headers, gaps = [headers[i] for i in order], np.diff(np.array(places, np.float64)[order])
    least, usual = int(np.argmin(gaps)), float(np.median(gaps))
    if gaps[least] < SAME_PLACE:
        pair = f"{headers[least].path.name} and {headers[least + 1].path.name}"
        raise UserError(f"{folder} has two slices at one place, {pair}: keep one of them, or a folder for each volume.")
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > UNEVEN * usual:
        raise UserError(
            f"{folder} has slices at uneven distances, {gaps[worst]:.4g}{unit} from {headers[worst].path.name} to "
            f"{headers[worst + 1].path.name} but mostly {usual:.4g}: add the missing files or remove those too many."
        )
    return headers


def _affine(headers: list[Header]) -> np.ndarray:
    """[4,4]: (slice, row, column, 1) of the headers' slices -> millimetres to the left, the back and the head."""
    first, affine = headers[0], np.eye(4)
    affine[:3, 0] = first.spacing[0] * first.normal
    if len(headers) > 1:  # along the positions: a tilted gantry shifts them from slice to slice
        affine[:3, 0] = (headers[-1].position - first.position) / (len(headers) - 1)
    affine[:3, 1:3] = first.axes.T * first.spacing[1:]
    affine[:3, 3] = first.position
    return affine


def _dicom_files(folder: Path) -> list[Path]:
    """The DICOM files in `folder`, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if is_dicom(path)]
