"""DICOM files and their pixels, read by the optional package pydicom."""

import contextlib
import functools
import io
import math
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS, check_pixels
from unet_lowlevel.data.formats.medical import refusing, rescaled
from unet_lowlevel.errors import UserError, reason, shown
from unet_lowlevel.packages import optional_package

SUFFIXES = (".dcm", ".dicom", ".ima")
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


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name, or starts as DICOM does where its name says nothing.

    Such a name has no suffix or a numeric one, because files may be named by their UID. A DICOMDIR only lists others.
    """
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or path.is_dir():
        return False
    return path.suffix.lower() in SUFFIXES or (not path.suffix.strip(".0123456789") and _has_magic(path))


def _has_magic(path: Path) -> bool:
    """Whether a file starts as DICOM does."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def load(path: Path, max_megapixels: float = MAX_MEGAPIXELS, **options):
    """The dataset of a DICOM file, read by `pydicom.dcmread` with these options.

    A file without the preamble is read if it is DICOM for certain. Of a deflated one no more is kept than header and
    pixels may take.
    """
    pydicom = optional_package("pydicom", path)
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
    pydicom = optional_package("pydicom", path)
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


def entry(dataset, frame: int, macro: str, keyword: str):
    """An entry of a frame: from its own functional groups, from those that all frames share, or of the whole file."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if len(items) > index and items[index].get(macro) and keyword in items[index][macro][0]:
            return items[index][macro][0][keyword].value
    return dataset.get(keyword)


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
    pydicom = optional_package("pydicom", path)
    with refusing(path, "DICOM"):
        if frame is None:
            dataset = load(path, max_megapixels)
            _refuse_frames(path, dataset)
            refuse_others(path, dataset)
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
    pydicom = optional_package("pydicom", path)
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
    pydicom = optional_package("pydicom", path)
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
    pydicom = optional_package("pydicom", path)
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


def _gray(pixels: np.ndarray, dataset, frame: int, *, mirrored: bool) -> np.ndarray:
    """Stored values [H,W] -> real values, by a table or by slope and intercept; `mirrored` exchanges dark and light."""
    if dataset.get("ModalityLUTSequence"):
        pixels = optional_package("pydicom", "a table of values").pixels.apply_modality_lut(pixels, dataset)
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


def _refuse_frames(path: Path, dataset) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(
            f"{path} holds {frames} frames where one image is wanted: split it into one file a slice, or convert it to "
            "NIfTI."
        )


def _name_of(uid) -> str:
    """The name that the standard gives to a UID; empty for any other."""
    return optional_package("pydicom", "its name").uid.UID_dictionary.get(uid, ("",))[0]


def refuse_others(path: Path, dataset) -> None:
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
