"""Damaged DICOM and NIfTI files: read, or refused in one sentence; and what pydicom and nibabel test themselves with.

The damage is the same each time. UNET_FUZZ=50 tries fifty times as much, other each time.
"""

import os
import random
import time
import warnings

import nibabel
import numpy as np
import pydicom
import pytest
from medical_files import CT, MASK, RGB, damaged, dicom, save_dicom, save_frames, save_nifti, save_series, to_nifti
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.errors import UserError

TIMES = int(os.environ.get("UNET_FUZZ", 1))
LIMIT = DataConfig(max_megapixels=1.0)
SLOW = 10  # seconds that no file may take


def compressed(path):
    dataset = dicom(CT[0])
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


PLACES = [{"PlanePositionSequence": {"ImagePositionPatient": [0, 0, i]}} for i in range(3)]
KINDS = {
    "explicit.dcm": lambda path: save_dicom(path, CT[0]),
    "implicit.dcm": lambda path: save_dicom(path, MASK[0], syntax=ImplicitVRLittleEndian),
    "big.dcm": lambda path: save_dicom(path, CT[0], syntax=ExplicitVRBigEndian),
    "deflated.dcm": lambda path: save_dicom(path, CT[0], syntax=DeflatedExplicitVRLittleEndian),
    "colour.dcm": lambda path: save_dicom(path, RGB[0], kind="RGB"),
    "rle.dcm": compressed,
    "frames.dcm": lambda path: save_frames(path, CT[:3], lambda i: PLACES[i]),
    "a.nii": lambda path: save_nifti(path, *to_nifti(CT[:2])),
    "a.nii.gz": lambda path: save_nifti(path, *to_nifti(CT[:2])),
    "two.nii": lambda path: save_nifti(path, *to_nifti(CT[:2]), kind=nibabel.Nifti2Image),
}


def outcome(path, data=LIMIT):
    """The pixels of a file, or the sentence that refuses it; nothing else may happen."""
    start, mistakes = time.monotonic(), []
    try:
        images = files.list_images(path.parent, mistakes.append)
        found = [files.read_image(image, data) for image in images.values()]
    except UserError as mistake:
        found, mistakes = [], [*mistakes, mistake]
    assert time.monotonic() - start < SLOW, path
    for mistake in mistakes:
        assert "\n" not in str(mistake) and str(mistake).endswith(".") and len(str(mistake)) < 3000
    assert found or mistakes
    return found, [str(mistake) for mistake in mistakes]


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files(name, tmp_path, capfd, caplog):
    path, chance = tmp_path / name, random.Random(name if TIMES == 1 else None)
    KINDS[name](path)
    whole = path.read_bytes()
    assert not outcome(path)[1]
    for _ in range(60 * TIMES):
        path.unlink()
        path.write_bytes(damaged(whole, chance))
        outcome(path)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_series_with_a_damaged_file(tmp_path):
    folder, chance = save_series(tmp_path / "ct", CT[:3]), random.Random(0 if TIMES == 1 else None)
    path = folder / "e.dcm"
    whole = path.read_bytes()
    for _ in range(40 * TIMES):
        path.unlink()
        path.write_bytes(damaged(whole, chance))
        outcome(path)


def of_pydicom():
    return sorted(name for name in pydicom.data.get_testdata_files() if os.path.isfile(name))


def by_pydicom(path):
    """The pixels as pydicom gives them, rescaled; None where our reader changes more, or pydicom fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            pixels = dataset.pixel_array
    except Exception:
        return None
    if dataset.PhotometricInterpretation in ("MONOCHROME1", "PALETTE COLOR"):
        return None
    return pixels.astype(np.float64) * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))


def test_the_files_that_pydicom_is_tested_with(tmp_path):
    same = refused = 0
    for number, name in enumerate(of_pydicom()):
        path = tmp_path / str(number) / os.path.basename(name)
        path.parent.mkdir()
        path.symlink_to(name)
        if not is_dicom(path):
            continue
        found, mistakes = outcome(path, DataConfig())
        refused += bool(mistakes)
        expected = by_pydicom(name) if found else None
        if expected is not None:
            shape = (len(found), *found[0].shape)
            np.testing.assert_array_equal(np.stack(found), expected.reshape(shape))
            same += 1
    assert same >= 60, (same, refused)


def test_the_files_that_nibabel_is_tested_with(tmp_path):
    folder = os.path.join(os.path.dirname(nibabel.__file__), "tests", "data")
    names = [name for name in sorted(os.listdir(folder)) if name.endswith((".nii", ".nii.gz"))]
    if not names:
        pytest.skip("nibabel is installed without its tests")
    for number, name in enumerate(names):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.symlink_to(os.path.join(folder, name))
        found, mistakes = outcome(path, DataConfig())
        image = nibabel.load(path)
        if found:
            expected = np.asarray(image.dataobj, np.float64)
            assert sum(array.size for array in found) == expected.size
            assert np.isclose(sum(array.sum(dtype=np.float64) for array in found), expected.sum(), rtol=1e-6)
        else:
            assert len(image.shape) > 3 or not isinstance(image, nibabel.Nifti1Image) or "NaN" in mistakes[0], mistakes
