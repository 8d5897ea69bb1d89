"""DICOM objects that mark what is in a series, read as masks of its slices: segmentations, and contours."""

from pathlib import Path

import numpy as np
from skimage.draw import polygon2mask

from unet_lowlevel.data.formats.decoding import MAX_MEGAPIXELS, check_pixels
from unet_lowlevel.data.formats.dicom import entry, frame_pixels, load
from unet_lowlevel.data.formats.dicom_series import DicomSeries
from unet_lowlevel.data.formats.medical import refusing
from unet_lowlevel.errors import UserError

CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


class MarkedSeries:
    """What a DICOM object marks in the slices of a series: segment numbers or ROI numbers, 0 elsewhere.

    Attributes:
        path: of the object.
        count, group, affine: of the series.
    """

    def __init__(self, path: Path, series: DicomSeries):
        self.path, self.series = path, series
        self.count, self.group, self.affine = series.count, series.group, series.affine

    def areas(self, index: int):
        """Pairs (number, bool [H,W]) of slice `index`."""
        raise NotImplementedError

    def read(self, index: int, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
        """The numbers of slice `index`: uint8 [H,W], or uint16 for numbers above 255.

        Raises:
            UserError: when two areas overlap, or the object is damaged.
        """
        check_pixels(self.path, *self.series.shape[1:], max_megapixels)
        mask = np.zeros(self.series.shape[1:], np.uint16)
        with refusing(self.path, "DICOM"):
            for number, area in self.areas(index):
                other = mask[area]
                if (overlap := other[(other > 0) & (other != number)]).size:
                    raise UserError(
                        f"{self.path} marks pixels of slice {index} as {overlap[0]} and as {number}, but a pixel of a "
                        "mask has one class: save the two in files of their own."
                    )
                mask[area] = number
        return mask if mask.max() > 255 else mask.astype(np.uint8)


class Segmentation(MarkedSeries):
    """A DICOM Segmentation: its frames lie on the images that they refer to, else on those of the same position.

    Slices without a frame are background.

    Raises:
        UserError: when it is damaged or holds probabilities, and when a frame does not lie on a slice pixel by pixel.
    """

    def __init__(self, path: Path, series: DicomSeries):
        super().__init__(path, series)
        self._by_name = {(header.instance, (header.frame or 0) + 1): k for k, header in enumerate(series.headers)}
        self._positions = np.array([header.position for header in series.headers])
        with refusing(path, "DICOM"):
            dataset = load(path, stop_before_pixels=True)
            self._label_map = dataset.SOPClassUID == LABEL_MAP or dataset.get("SegmentationType") == "LABELMAP"
            if dataset.get("SegmentationType") == "FRACTIONAL":
                raise UserError(f"{path} holds fractions and no classes: save it as a binary segmentation.")
            _refuse_other_place(path, series, dataset.get("FrameOfReferenceUID"))
            self._frames: dict[int, list[tuple[int, int]]] = {}
            for frame in range(int(dataset.get("NumberOfFrames") or 1)):
                segment = entry(dataset, frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
                self._frames.setdefault(self._slice_of(dataset, frame), []).append((frame, int(segment or 0)))

    def _slice_of(self, dataset, frame: int) -> int:
        """The slice on which a frame lies."""
        sources = entry(dataset, frame, "DerivationImageSequence", "SourceImageSequence") or []
        named = [
            (source.ReferencedSOPInstanceUID, int(number))
            for source in sources
            for number in np.atleast_1d(source.get("ReferencedFrameNumber") or 1)
        ]
        on = [self._by_name[name] for name in named if name in self._by_name]
        place = entry(dataset, frame, "PlanePositionSequence", "ImagePositionPatient")
        axes = entry(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
        placed = place and axes and self.series.affine is not None
        if len(on) != 1 and placed:
            on = [int(np.linalg.norm(self._positions - place, axis=1).argmin())]
        if len(on) == 1:
            header = self.series.headers[on[0]]
            fits = header.size == (dataset.Rows, dataset.Columns)
            if placed:
                fits &= np.abs(header.position - place).max() <= 0.5 * min(header.spacing)
                fits &= np.allclose(header.axes[::-1].reshape(-1), axes, rtol=0, atol=1e-2)
            if fits:
                return on[0]
        raise UserError(
            f"{self.path} has a frame, {frame + 1}, that lies on no slice of {self.series.path} pixel by pixel: save "
            "the segmentation in the geometry of the images that it belongs to."
        )

    def areas(self, index: int):
        for frame, segment in self._frames.get(index, []):
            pixels = self.series.turned(frame_pixels(self.path, frame))
            if self._label_map:
                yield from ((number, pixels == number) for number in np.unique(pixels[pixels > 0]))
            else:
                yield segment, pixels > 0


class Contours(MarkedSeries):
    """A DICOM RT Structure Set: the pixels whose centres lie inside the closed contours of a ROI, which get its number.

    Where contours of one ROI overlap in a slice, the inner one is a hole. Points and open lines mark nothing.

    Raises:
        UserError: when it is damaged, the series has no positions, or a contour does not lie in one of its slices.
    """

    def __init__(self, path: Path, series: DicomSeries):
        super().__init__(path, series)
        if series.affine is None:
            raise UserError(
                f"{path} needs the positions of its images, but {series.path} has none: replace the images."
            )
        self._contours: dict[int, dict[int, list[np.ndarray]]] = {}
        to_index = np.linalg.inv(series.affine)
        with refusing(path, "DICOM"):
            dataset = load(path)
            for roi in dataset.get("StructureSetROISequence") or []:
                _refuse_other_place(path, series, roi.get("ReferencedFrameOfReferenceUID"))
            for roi in dataset.get("ROIContourSequence") or []:
                for contour in roi.get("ContourSequence") or []:
                    if not str(contour.get("ContourGeometricType")).startswith("CLOSED"):
                        continue
                    points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
                    places = (np.c_[points, np.ones(len(points))] @ to_index.T)[:, :3]  # slice, row, column
                    index = int(np.rint(places[:, 0].mean()))
                    if not 0 <= index < series.count or np.abs(places[:, 0] - index).max() > 0.5:
                        raise UserError(
                            f"{path} has a contour of ROI {roi.ReferencedROINumber} that lies in no slice of "
                            f"{series.path}: name the series that it was drawn on, or convert it with dcmrtstruct2nii."
                        )
                    in_slice = self._contours.setdefault(index, {})
                    in_slice.setdefault(int(roi.ReferencedROINumber), []).append(places[:, 1:])

    def areas(self, index: int):
        for number, contours in self._contours.get(index, {}).items():
            area = np.zeros(self.series.shape[1:], bool)
            for contour in contours:
                area ^= polygon2mask(area.shape, contour)
            yield number, area


def _refuse_other_place(path: Path, series: DicomSeries, frame_of_reference) -> None:
    """Raises a `UserError` when positions are counted from another origin than those of the series."""
    own = series.headers[0].frame_of_reference
    if own and frame_of_reference and own != frame_of_reference:
        raise UserError(
            f"{path} has another frame of reference than {series.path}: name the series that it belongs to."
        )


def open_marked(path: Path, series: DicomSeries) -> MarkedSeries:
    """The masks that the object at `path` makes of the slices of a series."""
    with refusing(path, "DICOM"):
        kind = load(path, stop_before_pixels=True).get("SOPClassUID")
    return (Contours if kind == CONTOURS else Segmentation)(path, series)
