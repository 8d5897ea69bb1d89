"""DICOM series as stacks of slices, and single DICOM files, read by the optional package pydicom.

A sagittal or coronal series keeps its slices, sorted along their normal: its files are not the axial slices that
`medical.py` describes. Converted to NIfTI it is read in axial slices.
"""

import contextlib
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError, listed

# Slices closer than SAME_PLACE are at one place. Distances of neighbours may differ by UNEVEN relative to their median:
# positions are sometimes rounded to a tenth of a millimetre, while a missing slice doubles a distance.
SAME_PLACE = 1e-3  # millimetres
UNEVEN = 0.25

HEADER = [
    "SeriesInstanceUID", "PatientID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
]  # fmt: skip
# Entries of a header about the values of its pixels, which do not hold for a mask.
OF_THE_VALUES = [
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "RealWorldValueMappingSequence",
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTSequence", "VOILUTFunction",
    "PresentationLUTSequence", "PresentationLUTShape", "PixelIntensityRelationship", "PixelIntensityRelationshipSign",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue",
    "SmallestPixelValueInSeries", "LargestPixelValueInSeries", "PaletteColorLookupTableUID", "ICCProfile",
    *(f"{color}PaletteColorLookupTable{part}" for color in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
    "IconImageSequence", "MACParametersSequence", "DigitalSignaturesSequence",
]  # fmt: skip


class DicomSeries:
    """A folder with the files of one DICOM series, a slice each.

    The slices are in the order of ImagePositionPatient along their normal, or without positions in that of
    InstanceNumber. Files are read one at a time.

    Attributes:
        path: of the folder.
        files: its DICOM files in the order of the slices.
        count: of slices.
        group: the PatientID, or the name of the folder if it is empty.
        suffix: empty, because `write` makes a folder.
        affine: [4,4] float64, from (slice, row, column, 1) to millimetres to the left, the back and the head; None
            without positions.

    Raises:
        UserError: when a file is damaged or has several frames, and when the files are not the slices of one volume:
            of several series, sizes or orientations, two at one place, or with a gap.
    """

    suffix = ""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        files = _dicom_files(self.path)
        if not files:
            raise UserError(f"{self.path} holds no DICOM file: name a folder with the files of one series.")
        headers = [_Header.of(file) for file in files]
        _refuse_mixture(self.path, headers)
        headers = _in_order(self.path, headers)
        self.count = len(headers)
        self.group = headers[0].patient or self.path.resolve().name
        self.affine, self._transform = None, UNCHANGED
        shape = (self.count, *headers[0].size)
        if headers[0].position is not None:
            self.affine = _affine(headers)
            transform = to_axial(self.affine, self.path)
            if transform[0, 0] == 0:  # the slices are axial
                self._transform = transform
            orientations = library("nibabel", self.path).orientations
            self.affine = self.affine @ orientations.inv_ornt_aff(self._transform, shape)
        self.files = [header.path for header in headers][:: int(self._transform[0, 1])]
        self._shape = tuple(shape[int(axis)] for axis in np.argsort(self._transform[:, 0]))

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        """Slice `index` as [H,W] or [H,W,3]; see `read_dicom`."""
        return np.ascontiguousarray(self._turned(read_dicom(self.files[index], max_megapixels), self._transform))

    def write(self, path: str | Path, slices: np.ndarray) -> None:
        """Writes [count,H,W] uint8 or uint16 as a new series, in files of the same names in a new folder.

        The headers keep patient, study, geometry and all else that does not concern the values of the pixels. UIDs are
        made from the series and the slices, so that the same slices give the same bytes. The folder is written
        completely or not at all, never over another.

        Raises:
            UserError: when the path exists or cannot be written.
        """
        path, pydicom = Path(path), library("pydicom", self.path)
        check_slices(slices, self._shape)
        inverse = inverse_of(self._transform, self.path)
        digest = hashlib.sha256(np.ascontiguousarray(slices)).hexdigest()
        series = pydicom.uid.generate_uid(entropy_srcs=[_Header.of(self.files[0]).series, str(slices.dtype), digest])
        with written_whole(path) as temporary:
            temporary.mkdir()
            for file, pixels in zip(self.files, slices, strict=True):
                (temporary / file.name).write_bytes(_mask_file(file, self._turned(pixels, inverse), series))

    def _turned(self, pixels: np.ndarray, transform: np.ndarray) -> np.ndarray:
        """A slice with its rows and columns flipped and exchanged as `transform` says."""
        return library("nibabel", self.path).orientations.apply_orientation(pixels[None], transform)[0]


def is_series(folder: str | Path) -> bool:
    """Whether `folder` is a folder with at least two DICOM files."""
    return Path(folder).is_dir() and len(_dicom_files(Path(folder))) >= 2


def patient_of(path: str | Path) -> str | None:
    """The PatientID of a DICOM file; None where it is empty."""
    return _Header.of(Path(path)).patient


def read_dicom(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """The image of a DICOM file: gray [H,W] in the stored dtype, or float32 if rescaled; colour [H,W,3] in RGB.

    High values are bright: in MONOCHROME1 they are dark, so v becomes least + greatest - v in the range of BitsStored,
    before rescaling. Windows are not applied.

    Raises:
        UserError: when the file is damaged, too large, holds several frames or colours of another kind, or is
            compressed in a way that no installed package decodes.
    """
    path = Path(path)
    pydicom = library("pydicom", path)
    with refusing(path, "DICOM"):
        dataset = pydicom.dcmread(path)
        _refuse_frames(path, dataset)
        _refuse_undecodable(path, dataset.file_meta.TransferSyntaxUID)
        check_pixels(path, dataset.Rows, dataset.Columns, max_megapixels)
        pixels, kind = dataset.pixel_array, dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
            pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        expected = (dataset.Rows, dataset.Columns) + (() if kind.startswith("MONOCHROME") else (3,))
        if pixels.shape != expected:
            raise ValueError(f"{kind} pixels of shape {pixels.shape} and not {expected}")
        if kind in ("MONOCHROME1", "MONOCHROME2"):
            return _gray(pixels, dataset, mirrored=kind == "MONOCHROME1")
        if kind != "PALETTE COLOR" and not kind.startswith(("RGB", "YBR")):
            raise ValueError(f"its colours are {kind}")
        return rescaled(pixels, 1, 0)


def _gray(pixels: np.ndarray, dataset, *, mirrored: bool) -> np.ndarray:
    """Stored values [H,W] -> real values, by a table or by slope and intercept; `mirrored` exchanges dark and light."""
    if dataset.get("ModalityLUTSequence"):
        pixels = library("pydicom", dataset.filename).pixels.apply_modality_lut(pixels, dataset)
        return ~pixels if mirrored else pixels  # a table holds unsigned values of 8 or 16 bits
    if mirrored:
        least = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        pixels = (2 * least + 2**dataset.BitsStored - 1) - pixels
    # A slope of 0 means no slope, as in NIfTI.
    return rescaled(pixels, float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0))


@dataclass(frozen=True, eq=False)
class _Header:
    """What the header of a DICOM file tells about its slice; None for missing entries.

    Attributes:
        size: rows and columns.
        position: [3] millimetres of the centre of the first pixel.
        axes: [2,3] unit vectors down the rows and along the columns.
        spacing: millimetres between slices (their thickness), between rows, and between columns; 1 if missing.
    """

    path: Path
    series: str
    patient: str | None
    number: int | None
    size: tuple[int, int]
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, path: Path) -> "_Header":
        """Reads the header of a file, or raises a `UserError`."""
        pydicom = library("pydicom", path)
        with refusing(path, "DICOM"):
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER)
            _refuse_frames(path, dataset)
            if "Rows" not in dataset:
                raise ValueError("it holds no image")
            number, position, axes = dataset.get("InstanceNumber"), None, None
            if dataset.get("ImagePositionPatient") and dataset.get("ImageOrientationPatient"):
                position = np.array(dataset.ImagePositionPatient, np.float64).reshape(3)
                axes = np.array(dataset.ImageOrientationPatient, np.float64).reshape(2, 3)[::-1]
                if not np.isfinite(position).all() or not np.allclose(axes @ axes.T, np.eye(2), rtol=0, atol=0.01):
                    raise ValueError(
                        f"its ImagePositionPatient {dataset.ImagePositionPatient} and ImageOrientationPatient "
                        f"{dataset.ImageOrientationPatient} are no place"
                    )
            return cls(
                path,
                str(dataset.get("SeriesInstanceUID")),
                str(dataset.get("PatientID") or "").strip() or None,
                None if number is None else int(number),
                (int(dataset.Rows), int(dataset.Columns)),
                position,
                axes,
                (float(dataset.get("SliceThickness") or 1), *map(float, dataset.get("PixelSpacing") or (1, 1))),
            )

    @property
    def normal(self) -> np.ndarray:
        """[3] unit vector: columns x rows, towards the head for an ordinary axial slice."""
        return np.cross(self.axes[1], self.axes[0])


def _refuse_mixture(folder: Path, headers: list[_Header]) -> None:
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


def _in_order(folder: Path, headers: list[_Header]) -> list[_Header]:
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


def _affine(headers: list[_Header]) -> np.ndarray:
    """[4,4]: (slice, row, column, 1) of the headers' slices -> millimetres to the left, the back and the head."""
    first, affine = headers[0], np.eye(4)
    affine[:3, 0] = first.spacing[0] * first.normal
    if len(headers) > 1:  # along the positions: a tilted gantry shifts them from slice to slice
        affine[:3, 0] = (headers[-1].position - first.position) / (len(headers) - 1)
    affine[:3, 1:3] = first.axes.T * first.spacing[1:]
    affine[:3, 3] = first.position
    return affine


def _dicom_files(folder: Path) -> list[Path]:
    """The DICOM files in `folder`, sorted by name, without hidden files and the DICOMDIR, which lists others.

    They end in .dcm; or they have "DICM" at byte 128 and no suffix or a numeric one (files may be named by their UID).
    """
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {found}: name a folder with the files of one DICOM series.")
    files = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
            continue
        if path.suffix.lower() == ".dcm" or (not path.suffix.strip(".0123456789") and _has_magic(path)):
            files.append(path)
    return files


def _has_magic(path: Path) -> bool:
    """Whether a file starts as DICOM does."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _mask_file(source: Path, pixels: np.ndarray, series: str) -> bytes:
    """A DICOM file of the pixels [H,W] with the header of `source`, without entries about the values of pixels."""
    pydicom = library("pydicom", source)
    # Mistakes in the header of the source are copied, not refused.
    with refusing(source, "DICOM"), pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(source, stop_before_pixels=True)
        for keyword in OF_THE_VALUES:
            dataset.pop(keyword, None)
        for tag in list(dataset.keys()):
            if tag.is_private or tag.group >> 8 == 0x60:  # of unknown meaning, or an overlay
                del dataset[tag]
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.SeriesDescription = "segmentation"
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[series, str(dataset.SOPInstanceUID)])
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        pydicom.pixels.set_pixel_data(
            dataset, pixels, "MONOCHROME2", 8 * pixels.dtype.itemsize, generate_instance_uid=False
        )
        content = io.BytesIO()
        pydicom.dcmwrite(content, dataset, enforce_file_format=True)  # save_as refuses sources in big endian
        return content.getvalue()


def _refuse_frames(path: Path, dataset) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(
            f"{path} holds {frames} frames, but one image is read from a DICOM file: split it into one file a slice, "
            "or convert it to NIfTI."
        )


def _refuse_undecodable(path: Path, syntax) -> None:
    """Raises a `UserError` when the pixels are compressed in a way that no installed package decodes."""
    with contextlib.suppress(NotImplementedError):
        if library("pydicom", path).pixels.get_decoder(syntax).is_available:
            return
    raise UserError(
        f"{path} is compressed as {syntax.name}, which no installed package decodes: save it uncompressed, or run "
        "pip install 'pylibjpeg[all]'."
    )
