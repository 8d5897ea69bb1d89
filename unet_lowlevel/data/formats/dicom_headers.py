"""What the headers of DICOM files tell about slices: series, place, spacing, patient."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.data.formats.dicom import MASKS, entry, load, refuse_others
from unet_lowlevel.data.formats.medical import refusing
from unet_lowlevel.packages import optional_package

# Modalities whose images are projections: several in one series are no slices.
PROJECTIONS = ("CR", "DX", "IO", "MG", "PX", "RG", "XC")

# What is read of a header.
HEADER = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "Modality",
    "PatientID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


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


def headers_of(path: Path) -> list[Header]:
    """The header of each frame in a file; one for an object of masks. A `UserError` for what has no pixels."""
    pydicom = optional_package("pydicom", path)
    with refusing(path, "DICOM"):
        tags = [pydicom.datadict.tag_for_keyword(keyword) for keyword in HEADER]
        dataset = load(path, stop_before_pixels=True, specific_tags=tags)
        if dataset.get("SOPClassUID") in MASKS:
            return [Header.of(path, dataset, None)]
        refuse_others(path, dataset)
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > path.stat().st_size:
            raise ValueError(f"too short for {frames} frames")
        return [Header.of(path, dataset, frame) for frame in (range(frames) if frames > 1 else [None])]


def _series_number(dataset) -> int | None:
    """The number by which a series is named; a wrong one is none."""
    with contextlib.suppress(Exception):
        return int(dataset.get("SeriesNumber"))
    return None
