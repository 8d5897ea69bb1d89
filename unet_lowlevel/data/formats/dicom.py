"""DICOM series as stacks of slices, and single DICOM files, read by the optional package pydicom.

A sagittal or coronal series keeps its slices, sorted along their normal: its files are not the axial slices that
`medical.py` describes. Converted to NIfTI it is read in axial slices.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS, check_pixels
from unet_lowlevel.data.formats.medical import (
    UNCHANGED,
    check_slices,
    inverse_of,
    library,
    refusing,
    rescaled,
    to_axial,
)
from unet_lowlevel.data.formats.nifti import write_nifti
from unet_lowlevel.errors import UserError, listed, reason, shown

# Slices closer than SAME_PLACE are at one place. Distances of neighbours may differ by UNEVEN relative to their median:
# positions are sometimes rounded to a tenth of a millimetre, while a missing slice doubles a distance.
SAME_PLACE = 1e-3  # millimetres
UNEVEN = 0.25

SUFFIXES = (".dcm", ".dicom", ".ima")
# Modalities whose images are projections: several in one series are no slices.
PROJECTIONS = ("CR", "DX", "IO", "MG", "PX", "RG", "XC")
# Objects that say what is in images; see `dicom_masks.py`.
MASKS = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
)
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
DEFLATED = "1.2.840.10008.1.2.1.99"
MORE_DECODERS = "run pip install 'pylibjpeg[all]'"
# More than any header takes.
LONGEST_HEADER = 2**24

HEADER = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "Modality",
    "PatientID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


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
            orientations = library("nibabel", self.path).orientations
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
        return library("nibabel", self.path).orientations.apply_orientation(pixels[None], transform)[0]


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
    series: "dict[str, list[Header]]" = field(default_factory=dict)
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
            library("pydicom", folder)
    except UserError as mistake:
        found.mistakes.append(mistake)
        return found
    for path in files:
        try:
            headers = _headers(path)
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


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name, or starts as DICOM does where its name says nothing.

    Such a name has no suffix or a numeric one, because files may be named by their UID. A DICOMDIR only lists others.
    """
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or path.is_dir():
        return False
    return path.suffix.lower() in SUFFIXES or (not path.suffix.strip(".0123456789") and _has_magic(path))


def is_mask(path: Path) -> bool:
    """Whether a file is a DICOM object that says what is in images; see `MASKS`."""
    return is_dicom(path) and path in look_into(path.parent).masks


def is_stack(path: Path) -> bool:
    """Whether a DICOM file holds an image of several frames."""
    headers = _headers(path)
    return len(headers) > 1 and headers[0].kind not in MASKS


def patient_of(path: str | Path) -> str | None:
    """The PatientID of a DICOM file; None where it is empty."""
    return _headers(Path(path))[0].patient


def read_dicom(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, frame: int | None = None) -> np.ndarray:
    """The pixels of a DICOM file with one frame, or of a frame counted from 0: [H,W], or [H,W,3] for colours.

    Gray pixels get slope and intercept, or the table of values, which change raw into real values; without them they
    keep their dtype. Where 0 is white (MONOCHROME1), a value v becomes least + greatest - v in the range of BitsStored,
    before rescaling. Windows are not applied. Of several frames only one is decoded.

    Raises:
        UserError: when the file is damaged, too large, holds several frames where one is wanted or colours of another
            kind, or is compressed in a way that no installed package decodes.
    """
    path = Path(path)
    pydicom = library("pydicom", path)
    with refusing(path, "DICOM"):
        if frame is None:
            dataset = load(path, max_megapixels)
            _refuse_frames(path, dataset)
            _refuse_others(path, dataset)
        else:
            dataset, _ = _opened(path, path.stat().st_mtime_ns, max_megapixels)
        check_pixels(path, dataset.Rows, dataset.Columns, max_megapixels)
        pixels = _decoded(path, dataset, dataset) if frame is None else frame_pixels(path, frame, max_megapixels)
        kind = dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
            pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        expected = (dataset.Rows, dataset.Columns) + (() if kind.startswith("MONOCHROME") else (3,))
        if pixels.shape != expected:
            raise ValueError(f"{kind} pixels of shape {pixels.shape} and not {expected}")
        if kind in ("MONOCHROME1", "MONOCHROME2"):
            return _gray(pixels, dataset, frame or 0, mirrored=kind == "MONOCHROME1")
        if kind != "PALETTE COLOR" and not kind.startswith(("RGB", "YBR")):
            raise ValueError(f"its colours are {kind}")
        return rescaled(pixels, 1, 0)


def frame_pixels(path: Path, frame: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """The stored values of one frame, counted from 0; no other is decoded."""
    return _decoded(path, *_opened(path, path.stat().st_mtime_ns, max_megapixels), frame)


def _decoded(path: Path, header, source, frame: int | None = None) -> np.ndarray:
    """The stored values in a dataset or a file, or those of one frame.

    Raises:
        UserError: when they are compressed in a way that no installed package decodes.
    """
    pydicom = library("pydicom", path)
    syntax = header.file_meta.TransferSyntaxUID
    name = _name_of(syntax) or shown(str(syntax))
    with contextlib.suppress(NotImplementedError):
        decoder = pydicom.pixels.get_decoder(syntax)
        if decoder.is_available:
            if syntax.is_encapsulated:
                _check_claim(path, header, frame or 0)
            try:
                return pydicom.pixels.pixel_array(source, index=frame)
            except RuntimeError as error:
                if not decoder.missing_dependencies:
                    raise
                raise UserError(
                    f"{path} is not readable as DICOM ({name}, {reason(error)}): {MORE_DECODERS}, or replace it "
                    "by an intact file."
                ) from None
        raise UserError(
            f"{path} is compressed as {name}, which no installed package decodes: save it uncompressed, or "
            f"{MORE_DECODERS}."
        )
    raise UserError(f"{path} is compressed as {name}, which no package decodes: save it uncompressed.")


# Two: an image's file and its mask's.
@functools.lru_cache(maxsize=2)
def _opened(path: Path, _: int, max_megapixels: float):
    """The header of a file of several frames, and from where pydicom takes one of them: mostly the file itself."""
    pydicom = library("pydicom", path)
    header = load(path, stop_before_pixels=True)
    try:
        plain = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", DEFLATED) != DEFLATED
    except pydicom.errors.InvalidDicomError:
        plain = False
    return header, path if plain else load(path, max_megapixels)


def _check_claim(path: Path, header, frame: int) -> None:
    """Raises a `ValueError` when a JPEG or JPEG 2000 image has more pixels than the header around it says.

    It would be decoded before that is seen.
    """
    pydicom = library("pydicom", path)
    frames = int(header.get("NumberOfFrames") or 1)
    try:
        with open(path, "rb") as file:
            pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[])
            # The tag of the pixels and their length, with an explicit VR between them.
            file.seek(4 if file.read(8)[4:6] in (b"OB", b"OW") else 0, io.SEEK_CUR)
            content = pydicom.encaps.get_frame(file, frame, number_of_frames=frames)
        with Image.open(io.BytesIO(content), formats=("JPEG", "JPEG2000")) as image:
            pixels = math.prod(image.size)
    except Exception:  # of another kind, or damaged, as its decoder will say
        return
    if pixels > header.Rows * header.Columns:
        raise ValueError(f"{header.Rows}x{header.Columns} pixels by its header, {pixels} by its compressed image")


def load(path: Path, max_megapixels: float = MAX_MEGAPIXELS, **options):
    """The dataset of a DICOM file, read by `pydicom.dcmread` with these options.

    A file without the preamble is read if it is DICOM for certain. Of a deflated one no more is kept than header and
    pixels may take.
    """
    pydicom = library("pydicom", path)
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except pydicom.errors.InvalidDicomError as error:
        try:
            dataset = pydicom.dcmread(path, force=True, **options)
        except Exception:  # it is something else
            raise error from None
        if not dataset.get("SOPClassUID"):
            raise
    else:
        if meta.get("TransferSyntaxUID") == DEFLATED:
            dataset = pydicom.dcmread(_inflated(path, meta, max_megapixels, **options), force=True, **options)
        else:
            dataset = pydicom.dcmread(path, **options)
    if dataset.file_meta.get("TransferSyntaxUID") in (None, DEFLATED):
        implicit, little = dataset.original_encoding
        known = {(True, True): "1.2.840.10008.1.2", (False, True): "1.2.840.10008.1.2.1"}
        dataset.file_meta.TransferSyntaxUID = known.get((implicit, little), "1.2.840.10008.1.2.2")
    return dataset


def _inflated(path: Path, meta, max_megapixels: float, *, stop_before_pixels: bool = False, **_) -> io.BytesIO:
    """What a deflated file holds behind its meta information, up to the end of its pixels at most."""
    pydicom = library("pydicom", path)
    with open(path, "rb") as file:
        file.seek(144 + meta.FileMetaInformationGroupLength)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflate.decompress(file.read(), LONGEST_HEADER)
    if not stop_before_pixels:
        header = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=True)
        frames, samples = int(header.get("NumberOfFrames") or 1), header.get("SamplesPerPixel") or 1
        check_pixels(path, header.Rows, header.Columns, max_megapixels, channels=samples, slices=frames)
        size = frames * header.Rows * header.Columns * samples * -(-header.BitsAllocated // 8)
        content += inflate.decompress(inflate.unconsumed_tail, size + LONGEST_HEADER)
    return io.BytesIO(content)


def _gray(pixels: np.ndarray, dataset, frame: int, *, mirrored: bool) -> np.ndarray:
    """Stored values [H,W] -> real values, by a table or by slope and intercept; `mirrored` exchanges dark and light."""
    if dataset.get("ModalityLUTSequence"):
        pixels = library("pydicom", "a table of values").pixels.apply_modality_lut(pixels, dataset)
        return ~pixels if mirrored else pixels  # a table holds unsigned values of 8 or 16 bits
    if mirrored:
        least = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        pixels = (2 * least + 2**dataset.BitsStored - 1) - pixels
    # A slope of 0 means no slope, as in NIfTI.
    slope, intercept = (
        float(entry(dataset, frame, "PixelValueTransformationSequence", keyword) or usual)
        for keyword, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return rescaled(pixels, slope, intercept)


def entry(dataset, frame: int, macro: str, keyword: str):
    """An entry of a frame: from its own functional groups, from those that all frames share, or of the whole file."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if len(items) > index and items[index].get(macro) and keyword in items[index][macro][0]:
            return items[index][macro][0][keyword].value
    return dataset.get(keyword)


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of a DICOM file tells about a slice; None for missing entries.

    Attributes:
        kind: SOPClassUID.
        frame: of a file of several frames, from 0.
        size: rows and columns.
        position: [3] millimetres of the centre of the first pixel.
        axes: [2,3] unit vectors down the rows and along the columns.
        spacing: millimetres between slices (their thickness), between rows, and between columns; 1 if missing.
        alone: an image that is no slice, because it is a projection or of no series.
    """

    path: Path
    kind: str
    instance: str
    series: str
    series_number: int | None
    frame_of_reference: str | None
    patient: str | None
    number: int | None
    frame: int | None
    size: tuple[int, int]
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float, float]
    alone: bool

    @classmethod
    def of(cls, path: Path, dataset, frame: int | None) -> "Header":
        number, position, axes, i = dataset.get("InstanceNumber"), None, None, frame or 0
        place = entry(dataset, i, "PlanePositionSequence", "ImagePositionPatient")
        orientation = entry(dataset, i, "PlaneOrientationSequence", "ImageOrientationPatient")
        if place and orientation:
            position = np.array(place, np.float64).reshape(3)
            axes = np.array(orientation, np.float64).reshape(2, 3)[::-1]
            if not np.isfinite(position).all() or not np.allclose(axes @ axes.T, np.eye(2), rtol=0, atol=0.01):
                raise ValueError(
                    f"its ImagePositionPatient {place} and ImageOrientationPatient {orientation} are no place"
                )
        thickness, spacing = (
            entry(dataset, i, "PixelMeasuresSequence", keyword) for keyword in ("SliceThickness", "PixelSpacing")
        )
        return cls(
            path,
            str(dataset.get("SOPClassUID") or ""),
            str(dataset.get("SOPInstanceUID") or ""),
            str(dataset.get("SeriesInstanceUID")),
            _series_number(dataset),
            dataset.get("FrameOfReferenceUID"),
            str(dataset.get("PatientID") or "").strip() or None,
            i + 1 if frame is not None else None if number is None else int(number),
            frame,
            (int(dataset.Rows), int(dataset.Columns)) if "Rows" in dataset else (0, 0),
            position,
            axes,
            (float(thickness or 1), *map(float, spacing or (1, 1))),
            position is None and ("SeriesInstanceUID" not in dataset or dataset.get("Modality") in PROJECTIONS),
        )

    @property
    def normal(self) -> np.ndarray:
        """[3] unit vector: columns x rows, towards the head for an ordinary axial slice."""
        return np.cross(self.axes[1], self.axes[0])


def _series_number(dataset) -> int | None:
    """The number by which a series is named; a wrong one is none."""
    with contextlib.suppress(Exception):
        return int(dataset.get("SeriesNumber"))
    return None


def _headers(path: Path) -> list[Header]:
    """The header of each frame in a file; one for an object of masks. A `UserError` for what has no pixels."""
    pydicom = library("pydicom", path)
    with refusing(path, "DICOM"):
        tags = [pydicom.datadict.tag_for_keyword(keyword) for keyword in HEADER]
        dataset = load(path, stop_before_pixels=True, specific_tags=tags)
        if dataset.get("SOPClassUID") in MASKS:
            return [Header.of(path, dataset, None)]
        _refuse_others(path, dataset)
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > path.stat().st_size:
            raise ValueError(f"too short for {frames} frames")
        return [Header.of(path, dataset, frame) for frame in (range(frames) if frames > 1 else [None])]


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
        headers = [*itertools.chain(*inside.series.values()), *(_headers(path)[0] for path in sorted(inside.images))]
    _refuse_mixture(folder, headers)
    return _in_order(folder, headers)


def _frames_in_order(path: Path) -> list[Header]:
    """The headers of the frames of a file: by place if they are an even stack, else as they are, without a place."""
    headers = _headers(path)
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


def _has_magic(path: Path) -> bool:
    """Whether a file starts as DICOM does."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _refuse_frames(path: Path, dataset) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(
            f"{path} holds {frames} frames where one image is wanted: split it into one file a slice, or convert it to "
            "NIfTI."
        )


def _name_of(uid) -> str:
    """The name that the standard gives to a UID; empty for any other."""
    return library("pydicom", "its name").uid.UID_dictionary.get(uid, ("",))[0]


def _refuse_others(path: Path, dataset) -> None:
    """Raises a `UserError` for a DICOM object that is no image."""
    uid = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    kind = _name_of(uid).removesuffix(" Storage")
    if uid in MASKS:
        raise UserError(f"{path} is a DICOM {kind}, which marks what is in images: put it where the masks are.")
    if uid == WHOLE_SLIDE:
        raise UserError(f"{path} is a whole slide in tiles: save the parts to segment as TIFF files.")
    if uid == RT_DOSE or ("Rows" not in dataset and kind and "Image" not in kind):
        raise UserError(f"{path} is a DICOM {kind}, which holds no image to segment: leave it out.")
    if "Rows" not in dataset:
        raise ValueError("it holds no image")
