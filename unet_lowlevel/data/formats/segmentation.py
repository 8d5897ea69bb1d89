"""Masks as DICOM Segmentation objects, written by the optional package highdicom."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_lowlevel import __version__
from unet_lowlevel.data.formats.dicom import entry, load
from unet_lowlevel.data.formats.medical import refusing
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.packages import optional_package

NAME = "unet_lowlevel"
# What the standard wants to be there, if only empty.
OF_A_PATIENT = [
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
]  # fmt: skip
TEXTS = ("AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM")
# What the images of a series have in common.
OF_A_SERIES = ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageOrientationPatient"]
# {entry of the place of an image: where it stands in an enhanced file}
PLACE = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
}
OF_AN_IMAGE = [
    "SOPClassUID", "SOPInstanceUID", "Rows", "Columns", *OF_A_SERIES, *PLACE,
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


class NoSegmentation(UserError):
    """Images whose headers a segmentation cannot refer to."""


def write_segmentation(path: Path, sources: Sequence[Path], labels: np.ndarray, segments: int) -> None:
    """Writes the class indices of DICOM images as one Segmentation object (PS3.3, A.51).

    Class k is segment k; the background, class 0, is none. Patient, study, frame of reference, and the position,
    orientation and spacing of each frame come from the sources, to which the frames refer. A frame without foreground
    is left out. The object has the time at which it was made, and a UID of its own each time.

    Args:
        path: of the new file; see `written_whole`.
        sources: the files of one series, or one file, of one frame or several.
        labels: uint8 [frames, H, W], as the pixels lie in the files.
        segments: number of classes without the background.

    Raises:
        NoSegmentation: when the headers of the sources do not allow it.
        UserError: when the file cannot be written.
    """
    content = segmentation_of(sources, labels, segments)
    with written_whole(path) as temporary:
        content.save_as(temporary)


def segmentation_of(sources: Sequence[Path], labels: np.ndarray, segments: int):
    """The `highdicom.seg.Segmentation` that `write_segmentation` writes."""
    highdicom, codedict = (optional_package(name, sources[0]) for name in ("highdicom", "pydicom.sr.codedict"))
    codes = codedict.codes
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME, version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    # What the classes are is known to those alone who drew the masks of the training.
    descriptions = [
        highdicom.seg.SegmentDescription(k, f"class {k}", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm)
        for k in range(1, segments + 1)
    ]
    try:
        with refusing(sources[0], "DICOM"):
            images, kind = _headers(sources)
            content = highdicom.seg.Segmentation(
                images,
                labels,
                "BINARY",
                descriptions,
                series_instance_uid=highdicom.UID(),
                series_number=1000,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=NAME,
                manufacturer_model_name=NAME,
                software_versions=__version__,
                device_serial_number="none",
                content_label="SEGMENTATION",
                series_description="segmentation",
            )
    except UserError as error:
        raise NoSegmentation(
            f"{sources[0]} cannot be the source of a DICOM segmentation ({reason(error.__context__ or error)}): add "
            "--format nifti or --format png."
        ) from None
    content.walk(lambda item, element: _refer(item, kind) if element.keyword == "ReferencedSOPClassUID" else None)
    content.PatientOrientation = images[0].get("PatientOrientation") or ""  # the standard asks for it without a place
    return content


def _refer(item, kind: str) -> None:
    item.ReferencedSOPClassUID = kind


def _headers(sources: Sequence[Path]) -> tuple[list, str]:
    """The headers of the source images, with what a segmentation takes from them made good; and their SOPClassUID.

    Values that the standard forbids become empty. What it requires and the files lack is filled in. Images of one frame
    become secondary captures, because highdicom demands of most other kinds what it does not need.
    """
    pydicom = optional_package("pydicom", sources[0])
    capture, new_uid = pydicom.uid.SecondaryCaptureImageStorage, functools.partial(pydicom.uid.generate_uid, None)
    with pydicom.config.disable_value_validation():
        first, *others = images = [
            load(source, stop_before_pixels=True, specific_tags=OF_AN_IMAGE if i else None)
            for i, source in enumerate(sources)
        ]
        for element in first:
            if element.VR in TEXTS:
                try:
                    for value in element.value if element.VM > 1 else [element.value]:
                        pydicom.valuerep.validate_value(element.VR, value, pydicom.config.RAISE)
                except ValueError:
                    element.value = ""
        if first.get("PatientSex") not in ("M", "F", "O"):
            first.PatientSex = ""
        _complete(first, dict.fromkeys(OF_A_PATIENT, ""))
        _complete(first, {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid(), "SOPClassUID": capture})
        kind = first.SOPClassUID
        for image in images:
            _complete(image, {"SOPInstanceUID": new_uid()})
            if int(first.get("NumberOfFrames") or 1) == 1:
                image.SOPClassUID = capture
                for keyword, macro in PLACE.items():
                    value = entry(image, 0, macro, keyword)
                    setattr(image, keyword, value) if value else image.pop(keyword, None)
        if "ImagePositionPatient" in first and "ImageOrientationPatient" in first:
            _complete(first, {"FrameOfReferenceUID": new_uid(), "PixelSpacing": [1, 1], "SliceThickness": 1})
        else:
            first.pop("ImagePositionPatient", None)
        for image in others:
            for keyword in OF_A_SERIES:
                if keyword in first:  # the others may differ by rounding
                    image[keyword] = first[keyword]
    return images, kind


def _complete(dataset, values: dict) -> None:
    """Sets what the dataset lacks, or has without a value."""
    for keyword, value in values.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)
