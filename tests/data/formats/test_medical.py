"""What NIfTI volumes and DICOM series share: the axes of the slices, how masks are written, the optional packages."""

import importlib
import itertools

import numpy as np
import pydicom
import pytest
from conftest import sentence
from medical_files import (
    COUNT,
    CT,
    MASK,
    STEPS,
    TILTS,
    affine_of,
    rotation,
    same,
    save_nifti,
    save_series,
    stack,
    to_nifti,
    turned,
)

from unet_lowlevel.data.formats import writing
from unet_lowlevel.data.formats.dicom import read_dicom
from unet_lowlevel.data.formats.dicom_series import DicomSeries, is_series, patient_of
from unet_lowlevel.data.formats.nifti import NiftiVolume
from unet_lowlevel.errors import UserError

IN_PLANE = [((0, *axes), (slices, *flips)) for axes in [(1, 2), (2, 1)]
            for slices in (False, True) for flips in itertools.product([False, True], repeat=2)]  # fmt: skip


@pytest.mark.parametrize(("order", "flips"), IN_PLANE)
@pytest.mark.parametrize("tilt", TILTS, ids=["straight", "oblique"])
def test_axial_dicom_gives_the_slices_of_its_nifti_and_takes_masks_back(order, flips, tilt, tmp_path):
    steps = STEPS @ rotation(tilt).T
    array, file_steps, origin = turned(CT, order, flips, steps)
    series = DicomSeries(save_series(tmp_path / "ct", array, file_steps, origin))
    nifti = NiftiVolume(save_nifti(tmp_path / "ct.nii.gz", *turned(CT, (2, 1, 0), (True, True, False), steps)))
    same(stack(series), CT)
    same(stack(nifti), CT)
    np.testing.assert_allclose(series.affine, affine_of(steps), atol=1e-6)
    np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-4)
    assert (series.path, series.count, series.group, series.suffix) == (tmp_path / "ct", COUNT, "anna", ".nii.gz")

    series.write(tmp_path / "mask.nii.gz", MASK)
    written = NiftiVolume(tmp_path / "mask.nii.gz")
    same(stack(written), MASK)
    np.testing.assert_allclose(written.affine, series.affine, atol=1e-4)
    same(series.as_stored(CT), np.stack([pydicom.dcmread(file).pixel_array for file in series.files]))


@pytest.mark.parametrize("make", [NiftiVolume, read_dicom, patient_of])
def test_missing_file_is_refused(make, tmp_path):
    with pytest.raises(UserError) as caught:
        make(tmp_path / "a.nii")
    sentence(caught, tmp_path / "a.nii", "No such file")


@pytest.fixture(params=["nifti", "dicom"])
def volume(request, tmp_path):
    """A volume of either kind, and where its mask goes."""
    if request.param == "nifti":
        return NiftiVolume(save_nifti(tmp_path / "ct.nii.gz", *to_nifti(CT))), tmp_path / "out" / "mask.nii.gz"
    return DicomSeries(save_series(tmp_path / "ct", CT)), tmp_path / "out" / "mask.nii.gz"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_writing_never_overwrites(volume, what):
    volume, path = volume
    path.parent.mkdir()
    path.mkdir() if what == "folder" else path.write_bytes(b"the user's")
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "exists already")
    assert list(path.parent.iterdir()) == [path]
    assert what == "folder" or path.read_bytes() == b"the user's"


def test_failed_writing_leaves_nothing(volume, monkeypatch):
    volume, path = volume
    path.parent.mkdir()
    replaced = []

    def full(source, destination):
        replaced.append(list(path.parent.iterdir()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "No space left", "name a folder")
    assert replaced == [[replaced[0][0]]] and replaced[0][0].name.startswith(".")
    assert list(path.parent.iterdir()) == []


def test_writing_into_no_folder_is_refused(volume):
    volume, path = volume
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "No such file", "name a folder")


@pytest.mark.parametrize("slices", [MASK[:-1], MASK[:, :-1], MASK.astype(np.float32), MASK[..., None]])
def test_writing_takes_masks_of_the_volume_only(volume, slices):
    volume, path = volume
    with pytest.raises(ValueError, match="no mask"):
        volume.write(path, slices)
    assert not path.parent.exists()


@pytest.mark.parametrize("package", ["nibabel", "pydicom"])
def test_missing_packages_are_named(package, tmp_path, monkeypatch):
    nifti, series = save_nifti(tmp_path / "ct.nii", *to_nifti(CT)), save_series(tmp_path / "ct")
    found = importlib.import_module

    def missing(name):
        if name == package:
            raise ImportError(name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    users = {
        "nibabel": [(NiftiVolume, nifti), (DicomSeries, series)],
        "pydicom": [(DicomSeries, series), (read_dicom, series / "a"), (patient_of, series / "a")],
    }
    for make, path in users[package]:
        with pytest.raises(UserError) as caught:
            make(path)
        sentence(caught, path, f"needs the package {package}", "pip install -e '.[medical]'")
    assert is_series(series)
