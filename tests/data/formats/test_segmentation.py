"""Masks as DICOM Segmentation objects: valid, of their source's patient and place, with a segment a class."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from conftest import sentence
from medical_files import (
    CT,
    DEEP,
    MASK,
    STEPS,
    TILTS,
    at,
    rotation,
    same,
    save_dicom,
    save_enhanced,
    save_frames,
    save_series,
    stack,
    turned,
)

from unet_lowlevel.data.formats.dicom_masks import open_marked
from unet_lowlevel.data.formats.dicom_series import DicomSeries
from unet_lowlevel.data.formats.segmentation import NoSegmentation, write_segmentation

highdicom = pytest.importorskip("highdicom")

MR, DX = pydicom.uid.MRImageStorage, pydicom.uid.DigitalXRayImageStorageForPresentation
NO_PLACE = dict.fromkeys(["ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "PixelSpacing"])


def sources(kind, folder):
    """The files of a CT or MR series, or a single radiograph; and their mask."""
    if kind == "DX":
        return [save_dicom(folder / "dx.dcm", DEEP[0], SOPClassUID=DX, Modality="DX", **NO_PLACE)], MASK[:1]
    tags = {"SOPClassUID": MR, "Modality": "MR"} if kind == "MR" else {}
    return DicomSeries(save_series(folder / kind, CT, change=lambda i: tags)).files, MASK


@pytest.mark.parametrize("kind", ["CT", "MR", "DX"])
def test_segmentations_are_valid(kind, tmp_path):
    """By dciodvfy (Debian: dicom3tools); of masks with and without foreground."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    files, mask = sources(kind, tmp_path)
    for labels in (mask, 0 * mask):
        path = tmp_path / f"{labels.max()}.dcm"
        write_segmentation(path, files, labels, 2)
        found = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        assert "Segmentation" in found.stdout + found.stderr
        assert [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("kind", ["CT", "MR", "DX"])
def test_segments_are_classes_of_the_source(kind, tmp_path, caplog):
    files, mask = sources(kind, tmp_path)
    write_segmentation(tmp_path / "mask.dcm", files, mask, 3)
    found, source = highdicom.seg.segread(tmp_path / "mask.dcm"), pydicom.dcmread(files[0])
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
        assert found.get(keyword) == source.get(keyword), keyword
    assert found.SeriesInstanceUID != source.SeriesInstanceUID and found.Modality == "SEG"
    assert found.segmentation_type == highdicom.seg.SegmentationTypeValues.BINARY and found.number_of_segments == 3
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    labels = found.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(labels, mask)
    assert not caplog.records


def test_segmentations_are_read_back(tmp_path):
    """As masks of their series: axial in other axes, with a slice without foreground; and of an enhanced file."""
    order, mask = [3, 0, 5, 1, 4, 2], MASK.copy()
    mask[2] = 0
    folder = save_series(tmp_path / "ct", *turned(CT, (0, 2, 1), (True, False, True)))
    (tmp_path / "frames").mkdir()
    for i in order:  # of one frame each
        tags = {"SOPInstanceUID": f"1.2.3.4.{i + 1}"}
        save_enhanced(tmp_path / "frames" / f"{order[i]}.dcm", CT[i : i + 1], lambda _, i=i: at(*range(6))(i), **tags)
    enhanced = save_enhanced(tmp_path / "scan.dcm", CT[order], at(*order))
    for path in (folder, tmp_path / "frames", enhanced):
        series, written = DicomSeries(path), tmp_path / f"{path.stem}_mask.dcm"
        write_segmentation(written, list(dict.fromkeys(series.files)), series.as_stored(mask), 2)
        same(stack(open_marked(written, series)), mask)


@pytest.mark.parametrize("tilt", TILTS)
def test_a_segmentation_lies_where_its_series_does(tilt, tmp_path):
    steps = STEPS @ rotation(tilt).T
    series = DicomSeries(save_series(tmp_path / "ct", CT, steps))
    write_segmentation(tmp_path / "mask.dcm", series.files, series.as_stored(MASK), 2)
    volume = highdicom.seg.segread(tmp_path / "mask.dcm").get_volume(combine_segments=True)
    # highdicom orders the axes as the series does, perhaps from the other end.
    there = np.linalg.inv(series.affine) @ volume.affine
    corner = np.rint(there @ [0, 0, 0, 1])[:3].astype(int)
    steps = np.diag(np.rint(there[:3, :3])).astype(int)
    np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
    assert set(np.abs(steps)) == {1}
    flipped = MASK[:: steps[0], :: steps[1], :: steps[2]]
    np.testing.assert_array_equal(volume.array, flipped)
    assert all(c == (0 if step > 0 else n - 1) for c, step, n in zip(corner, steps, MASK.shape, strict=True))


def test_bad_and_missing_values_of_the_source_become_empty(tmp_path):
    tags = {"StudyDate": "yesterday", "PatientSex": "male", "PatientBirthDate": "19702040", "FrameOfReferenceUID": None}
    files = DicomSeries(save_series(tmp_path / "ct", CT, change=lambda i: tags)).files
    write_segmentation(tmp_path / "mask.dcm", files, MASK, 2)
    found = highdicom.seg.segread(tmp_path / "mask.dcm")
    assert not any(found[keyword].value for keyword in ("StudyDate", "PatientSex", "PatientBirthDate", "StudyID"))
    assert found.PatientID == "anna" and found.FrameOfReferenceUID


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.12.1", "1.2.3"])
def test_any_image_may_be_the_source(kind, tmp_path):
    """Of a retired kind, of one that usually has several frames, of a private one; without a place."""
    path = save_dicom(tmp_path / "a.dcm", CT[0], SOPClassUID=kind, PatientOrientation=["L", "P"], **NO_PLACE)
    write_segmentation(tmp_path / "mask.dcm", [path], MASK[:1], 2)
    found = highdicom.seg.segread(tmp_path / "mask.dcm")
    assert found.SourceImageSequence[0].ReferencedSOPClassUID == kind and found.PatientOrientation == ["L", "P"]
    derived = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert derived.ReferencedSOPClassUID == kind


def test_what_cannot_be_a_source_is_refused(tmp_path):
    """A film has several frames and no place."""
    path = save_frames(tmp_path / "a.dcm", CT, **NO_PLACE)
    with pytest.raises(NoSegmentation) as caught:
        write_segmentation(tmp_path / "mask.dcm", [path], MASK, 2)
    sentence(caught, path, "--format nifti")
    assert list(tmp_path.iterdir()) == [path]
