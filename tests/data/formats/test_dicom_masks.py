"""DICOM Segmentations and RT Structure Sets as masks of the slices of a series."""

import contextlib
import random

import numpy as np
import pydicom
import pytest
from conftest import sentence
from medical_files import (
    COUNT,
    CT,
    HEIGHT,
    MASK,
    ORIGIN,
    STEPS,
    WIDTH,
    affine_of,
    damaged,
    item,
    same,
    save_dicom,
    save_frames,
    save_nifti,
    save_object,
    save_series,
    to_nifti,
    turned,
)
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, samples
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve

AXES = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "PixelMeasuresSequence": {"PixelSpacing": [0.8, 0.7], "SliceThickness": 2.5}}  # fmt: skip


def frames_of(mask):
    """(slice, segment, its pixels) of all that a mask holds, in no order."""
    found = [(i, k, (mask[i] == k).astype(np.uint8)) for k in (1, 2) for i in range(len(mask))]
    return [found[i] for i in np.random.default_rng(1).permutation(len(found)) if found[i][2].any()]


def save_segmentation(path, frames, *, references=True, places=True, place=lambda i: ORIGIN + i * STEPS[0], **tags):
    """A binary segmentation, one bit a pixel, of the frames (slice, segment, pixels)."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def own(number):
        i, segment, _ = frames[number]
        macros = {"SegmentIdentificationSequence": {"ReferencedSegmentNumber": segment}}
        if references:
            macros["DerivationImageSequence"] = {
                "SourceImageSequence": [item(ReferencedSOPInstanceUID=f"1.2.3.4.{i + 1}")]
            }
        if places:
            macros["PlanePositionSequence"] = {"ImagePositionPatient": [f"{x:.10g}" for x in place(i)]}
        return macros

    pixels = np.stack([frame[2] for frame in frames])
    usual = {"SOPClassUID": SegmentationStorage, "SegmentationType": "BINARY", "SeriesInstanceUID": "1.2.3.5"}
    shared = AXES if places else {}
    save_frames(path, pixels, own, shared, **{**usual, **tags})
    if tags.get("SegmentationType", "BINARY") == "BINARY":
        to_bits(path, pixels)
    return path


def to_bits(path, pixels):
    dataset = pydicom.dcmread(path)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    packed = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset.save_as(path)


def labels(place, classes=3):
    """The labels of the data in a folder, stacked."""
    config = resolve(flags={"data": str(place), "classes": classes})
    return np.stack([sample.label for sample in samples.decoded(files.find_pairs(config.data), config)])


@pytest.mark.parametrize("references", [True, False])
@pytest.mark.parametrize("places", [True, False])
def test_a_segmentation_is_the_mask_of_its_series(references, places, tmp_path):
    if not references and not places:
        return
    save_series(tmp_path / "images" / "scan", CT)
    save_segmentation(tmp_path / "masks" / "scan.dcm", frames_of(MASK), references=references, places=places)
    same(labels(tmp_path), MASK)


def test_slices_without_a_frame_are_background(tmp_path):
    save_series(tmp_path / "images" / "scan", CT)
    save_segmentation(tmp_path / "masks" / "scan" / "1-1.dcm", [f for f in frames_of(MASK) if f[0] in (1, 4)])
    expected = np.zeros_like(MASK)
    expected[[1, 4]] = MASK[[1, 4]]
    same(labels(tmp_path), expected)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_segmentation_turns_with_its_series(order, tmp_path):
    """A series whose rows and columns are not those of axial slices."""
    volume, steps, origin = turned(CT, order, (True, True, False))
    mask = turned(MASK, order, (True, True, False))[0]
    save_series(tmp_path / "images" / "scan", volume, steps, origin)
    save_segmentation(tmp_path / "masks" / "scan.dcm", frames_of(mask), places=False)
    same(labels(tmp_path), MASK)


def test_a_label_map(tmp_path):
    save_series(tmp_path / "images" / "scan", CT)
    save_segmentation(
        tmp_path / "masks" / "scan.dcm",
        [(i, 0, MASK[i]) for i in (3, 1, 0, 2, 5, 4)],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7",
        SegmentationType="LABELMAP",
    )
    same(labels(tmp_path), MASK)


def test_frames_of_an_enhanced_image_and_a_single_image(tmp_path):
    (tmp_path / "images").mkdir()
    own = [{"PlanePositionSequence": {"ImagePositionPatient": list(ORIGIN + i * STEPS[0])}} for i in range(COUNT)]
    save_frames(tmp_path / "images" / "a.dcm", CT, lambda i: own[i], AXES, SeriesInstanceUID="1.2.8")
    save_segmentation(tmp_path / "masks" / "a.dcm", frames_of(MASK), references=False)
    save_dicom(tmp_path / "images" / "b.dcm", CT[2], SOPInstanceUID="1.2.3.4.3", SeriesInstanceUID="1.2.9")
    save_segmentation(tmp_path / "masks" / "b.dcm", [f for f in frames_of(MASK) if f[0] == 2], places=False)
    same(labels(tmp_path), np.concatenate([MASK, MASK[2:3]]))


@pytest.mark.parametrize("kind", ["segmentation", "contours"])
def test_a_single_image_keeps_its_rows_and_columns_and_so_does_its_mask(kind, tmp_path):
    """A series would be turned to axial slices."""
    volume, steps, origin = turned(CT, (0, 2, 1), (False, True, False))
    mask = turned(MASK, (0, 2, 1), (False, True, False))[0].copy()
    folder = save_series(tmp_path / "new", volume[2:3], steps, origin + 2 * steps[0])
    (tmp_path / "images").mkdir()
    next(folder.iterdir()).rename(tmp_path / "images" / "a.dcm")
    if kind == "segmentation":
        save_segmentation(tmp_path / "masks" / "a.dcm", [(0, k, (mask[2] == k).astype(np.uint8)) for k in (1, 2)],
                          places=False)  # fmt: skip
    else:
        save_contours(tmp_path / "masks" / "a.dcm", {1: [circle(9, 8, 6.05, 2)]})
        mask[2] = turned(disc(9, 8, 6.05)[None].astype(np.uint8), (0, 2, 1), (False, True, False))[0][0]
    same(labels(tmp_path), np.ascontiguousarray(mask[2:3]))
    np.testing.assert_array_equal(files.read_image(tmp_path / "images" / "a.dcm")[..., 0], volume[2])


def test_frames_named_by_their_number(tmp_path):
    (tmp_path / "images").mkdir()
    save_frames(tmp_path / "images" / "a.dcm", CT, SOPInstanceUID="1.2.8.1")
    frames = frames_of(MASK)

    def own(number):
        source = item(ReferencedSOPInstanceUID="1.2.8.1", ReferencedFrameNumber=frames[number][0] + 1)
        return {
            "SegmentIdentificationSequence": {"ReferencedSegmentNumber": frames[number][1]},
            "DerivationImageSequence": {"SourceImageSequence": [source]},
        }

    (tmp_path / "masks").mkdir()
    tags = {"SOPClassUID": SegmentationStorage, "SegmentationType": "BINARY"}
    save_frames(tmp_path / "masks" / "a.dcm", np.stack([frame[2] for frame in frames]), own, **tags)
    same(labels(tmp_path), MASK)


def test_two_volumes_named_alone(tmp_path):
    save_series(tmp_path / "ct", CT)
    save_segmentation(tmp_path / "seg.dcm", frames_of(MASK))
    config = resolve(flags={"images": str(tmp_path / "ct"), "masks": str(tmp_path / "seg.dcm"), "classes": 3})
    pairs = files.find_pairs(config.data)
    assert [pair.stem for pair in pairs] == [f"ct_00{i}" for i in range(6)] and pairs[0].group == "anna"
    same(np.stack([sample.label for sample in samples.decoded(pairs, config)]), MASK)


OVER = [(0, 1, np.ones((HEIGHT, WIDTH), np.uint8)), (0, 2, MASK[0])]
BAD = {
    "overlap": (dict(frames=OVER), ["marks pixels of slice 0 as 1 and as 2", "in files of their own"]),
    "elsewhere": (dict(references=False, place=lambda i: ORIGIN + (i + 60) * STEPS[0]), ["lies on no slice of"]),
    "shifted": (dict(place=lambda i: ORIGIN + i * STEPS[0] + [3, 0, 0]), ["lies on no slice of", "geometry"]),
    "other_size": (dict(frames=[(0, 1, MASK[0, 1:])]), ["lies on no slice of", "geometry"]),
    "fractions": (dict(SegmentationType="FRACTIONAL"), ["holds fractions", "binary"]),
    "other_patient": (dict(FrameOfReferenceUID="1.2.10"), ["another frame of reference"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_segmentations_are_refused(name, tmp_path):
    options, words = BAD[name]
    save_series(tmp_path / "images" / "scan", CT)
    save_segmentation(tmp_path / "masks" / "scan.dcm", options.pop("frames", frames_of(MASK)), **options)
    with pytest.raises(UserError) as caught:
        labels(tmp_path)
    sentence(caught, tmp_path / "masks" / "scan.dcm", *words)


def test_a_segmentation_of_no_dicom_image_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    save_nifti(tmp_path / "images" / "scan.nii.gz", *to_nifti(CT))
    save_segmentation(tmp_path / "masks" / "scan.dcm", frames_of(MASK))
    with pytest.raises(UserError) as caught:
        labels(tmp_path)
    sentence(caught, "scan.dcm marks what is in DICOM images", "scan.nii.gz", "convert both")


def test_a_segmentation_without_partner_is_named(tmp_path):
    save_series(tmp_path / "images" / "scan", CT)
    save_segmentation(tmp_path / "masks" / "other.dcm", frames_of(MASK))
    with pytest.raises(UserError) as caught:
        files.find_pairs(DataConfig(data=str(tmp_path)))
    sentence(caught, "no image in", "other.dcm", "no mask in")


def test_a_segmentation_among_images_is_named(tmp_path):
    folder, mistakes = save_series(tmp_path / "scan", CT), []
    save_segmentation(folder / "seg.dcm", frames_of(MASK))
    images = files.list_images(folder, mistakes.append)
    assert len(images) == 6 and images["scan_001"] == Slice(folder, 1, "1.2.3.4")
    assert [str(mistake) for mistake in mistakes] == [
        f"{folder / 'seg.dcm'} marks what is in DICOM images: put it where the masks are."
    ]


def circle(row, column, radius, index, number=400, affine=None):
    """ContourData of a circle in a slice, in rows and columns of the phantom."""
    angles = np.linspace(0, 2 * np.pi, number, endpoint=False)
    points = [np.full(number, index), row + radius * np.sin(angles), column + radius * np.cos(angles), np.ones(number)]
    return [f"{x:.8g}" for x in ((affine_of() if affine is None else affine) @ points)[:3].T.ravel()]


def disc(row, column, radius):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def save_contours(path, rois, kind="CLOSED_PLANAR"):
    """An RT Structure Set of {number: [ContourData]}."""
    path.parent.mkdir(exist_ok=True)
    return save_object(
        path,
        RTStructureSetStorage,
        Modality="RTSTRUCT",
        StructureSetROISequence=[
            item(ROINumber=number, ROIName=f"roi {number}", ReferencedFrameOfReferenceUID="1.2.9") for number in rois
        ],
        ROIContourSequence=[
            item(
                ReferencedROINumber=number,
                ContourSequence=[item(ContourGeometricType=kind, ContourData=data) for data in contours],
            )
            for number, contours in rois.items()
        ],
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_contours_are_filled(flipped, tmp_path):
    if flipped:
        save_series(tmp_path / "images" / "scan", *turned(CT, (0, 1, 2), (True, True, False)))
    else:
        save_series(tmp_path / "images" / "scan", CT)
    rois = {
        # Radii between the distances of pixels: no pixel's centre is on a contour.
        1: [circle(9, 8, 6.05, 2), circle(9, 8, 3.05, 2), circle(8.5, 9.25, 4.6, 3)],
        2: [circle(10, 22, 5.05, 2)],
    }
    save_contours(tmp_path / "masks" / "scan.dcm", rois)
    expected = np.zeros_like(MASK)
    expected[2][disc(9, 8, 6.05) & ~disc(9, 8, 3.05)] = 1
    expected[2][disc(10, 22, 5.05)] = 2
    expected[3][disc(8.5, 9.25, 4.6)] = 1
    same(labels(tmp_path), expected)


def test_points_and_lines_mark_nothing(tmp_path):
    save_series(tmp_path / "images" / "scan", CT)
    save_contours(tmp_path / "masks" / "scan.dcm", {1: [circle(9, 8, 6, 2)]}, "OPEN_PLANAR")
    assert not labels(tmp_path).any()


BAD_CONTOURS = {
    "overlap": ({1: [circle(9, 8, 6, 2)], 2: [circle(9, 9, 6, 2)]}, ["marks pixels of slice 2 as 1 and as 2"]),
    "outside": ({1: [circle(9, 8, 6, 20)]}, ["contour of ROI 1 that lies in no slice", "dcmrtstruct2nii"]),
    "sagittal": ({3: [["0", "0", "100", "0", "5", "110", "0", "9", "117"]]}, ["contour of ROI 3", "in no slice"]),
    "torn": ({1: [["1", "2", "3", "4"]]}, ["not readable as DICOM"]),
}


@pytest.mark.parametrize("name", BAD_CONTOURS)
def test_bad_contours_are_refused(name, tmp_path):
    rois, words = BAD_CONTOURS[name]
    save_series(tmp_path / "images" / "scan", CT)
    save_contours(tmp_path / "masks" / "scan.dcm", rois)
    with pytest.raises(UserError) as caught:
        labels(tmp_path)
    sentence(caught, tmp_path / "masks" / "scan.dcm", *words)


def test_contours_need_positions(tmp_path):
    save_series(tmp_path / "images" / "scan", CT, change=lambda i: {"ImagePositionPatient": None})
    save_contours(tmp_path / "masks" / "scan.dcm", {1: [circle(9, 8, 6, 2)]})
    with pytest.raises(UserError) as caught:
        labels(tmp_path)
    sentence(caught, "scan.dcm needs the positions")


@pytest.mark.parametrize("kind", ["segmentation", "contours"])
def test_damaged_objects(kind, tmp_path):
    save_series(tmp_path / "images" / "scan", CT)
    path, chance = tmp_path / "masks" / "scan.dcm", random.Random(kind)
    if kind == "segmentation":
        save_segmentation(path, frames_of(MASK))
    else:
        save_contours(path, {1: [circle(9, 8, 6.05, 2, 20), circle(9, 8, 3.05, 2, 20)]})
    whole = path.read_bytes()
    for _ in range(40):
        path.unlink()
        path.write_bytes(damaged(whole, chance))
        with contextlib.suppress(UserError):
            labels(tmp_path)


def test_a_segmentation_of_highdicom(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    from highdicom.sr.coding import Code

    folder = save_series(tmp_path / "images" / "scan", CT, change=lambda i: {
        "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "StudyID": "", "ReferringPhysicianName": "",
        "PatientBirthDate": "", "PatientSex": "", "SeriesNumber": 1, "Manufacturer": "x",
        "PositionReferenceIndicator": "",
    })  # fmt: skip
    sources = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    sources.sort(key=lambda source: source.InstanceNumber)
    code = Code("123037004", "SCT", "Anatomical structure")
    algorithm = highdicom.AlgorithmIdentificationSequence("a", code, "1")
    segments = [
        highdicom.seg.SegmentDescription(number, f"s{number}", code, code, "AUTOMATIC", algorithm) for number in (1, 2)
    ]
    (tmp_path / "masks").mkdir()
    for kind in ("BINARY", "LABELMAP"):
        segmentation = highdicom.seg.Segmentation(
            sources, MASK, kind, segments, highdicom.UID(), 2, highdicom.UID(), 1, "x", "y", "1", "z"
        )
        segmentation.save_as(tmp_path / "masks" / "scan.dcm")
        same(labels(tmp_path), MASK)
        (tmp_path / "masks" / "scan.dcm").unlink()
