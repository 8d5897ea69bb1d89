"""DICOM series and NIfTI volumes through the commands: trained on, predicted into the same geometry."""

import json

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import TINY
from medical_files import ORIGIN, STEPS, save_nifti, save_series, turned

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, samples
from unet_lowlevel.data.formats.volumes import open_volume
from unet_lowlevel.data.phantoms.phantom import draw_phantom
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve

FLAGS = [*(flag for flag in TINY if flag not in ("--group-regex", "patient-\\d+")), "--epochs", "1"]
FLAGS += ["--normalization", "range", "--normalization-range=-1000,400"]


def volume_of(patient, count=6):
    """A phantom in Hounsfield units, int16 [count,32,32], and its mask, uint8."""
    drawn = [draw_phantom(patient, i, count, (32, 32), 0) for i in range(count)]
    images, masks = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    return (images.astype(np.int16) * 8 - 1024), masks // 255


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three DICOM series, two of them of one patient, and a NIfTI volume; all masks are NIfTI, in other axes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "masks").mkdir(parents=True)
    for number, (name, patient) in enumerate([("a", "anna"), ("b", "anna"), ("c", "bert"), ("d", None)]):
        images, masks = volume_of(number)
        if patient:
            tags = {"PatientID": patient, "SeriesInstanceUID": f"1.2.3.{number}"}
            # As scanners do: stored from 0 on, with an intercept.
            tags |= {"RescaleSlope": 1, "RescaleIntercept": -1024}
            change = lambda i, tags=tags: tags  # noqa: E731
            save_series(tmp_path / "data" / "images" / name, (images + 1024).astype(np.uint16), change=change)
        else:
            save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", images)
        array, steps, origin = turned(masks, (2, 0, 1), (True, False, True))
        save_nifti(tmp_path / "data" / "masks" / f"{name}.nii.gz", array, steps, origin)
    return tmp_path


def test_volumes_are_trained_on_and_predicted_with_their_geometry(place, capsys):
    pairs = files.find_pairs(DataConfig(data="data"))
    assert [pair.stem for pair in pairs] == [f"{name}_00{i}" for name in "abcd" for i in range(6)]
    assert [pair.group for pair in pairs[::6]] == ["anna", "anna", "bert", "d"]
    for pair, sample in zip(pairs, samples.decoded(pairs, resolve()), strict=True):
        images, masks = volume_of("abcd".index(pair.stem[0]))
        np.testing.assert_array_equal(sample.image[..., 0], images[int(pair.stem[-1])])
        np.testing.assert_array_equal(sample.label, masks[int(pair.stem[-1])])
    assert train(["--run", "run", "--data", "data", *FLAGS, "--validation-fraction", "0.5"]) == 0
    split = json.loads((place / "run" / "split.json").read_text())
    assert {s[0] for s in split["training"]}.isdisjoint(s[0] for s in split["validation"])
    # NIfTI comes back as NIfTI, DICOM as DICOM, and both lie where the image does.
    assert predict(["--run", "run", "--images", "data/images", "--output", "out", "--probabilities"]) == 0
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(
        [*(f"{name}{what}" for name in "abc" for what in ("", "_probability")), "d.nii.gz", "d_probability.nii.gz"]
    )
    source, mask = (nibabel.load(place / part / "d.nii.gz") for part in ("data/images", "out"))
    assert mask.shape == source.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, source.affine)
    for name in "abc":
        source, mask = (open_volume(place / part / name) for part in ("data/images", "out"))
        np.testing.assert_allclose(mask.affine, source.affine)
        assert mask.count == 6 and set(np.unique([mask.read(i) for i in range(6)])) <= {0, 255}
    assert pydicom.dcmread(next((place / "out" / "c").iterdir())).PatientID == "bert"
    assert "wrote masks of 24 images" in capsys.readouterr().out


def test_a_series_named_by_the_current_folder_stays_in_the_output(place, tiny_run, monkeypatch, capsys):
    series = place / "data" / "images" / "a"
    monkeypatch.chdir(series)
    before = sorted(place.rglob("*"))
    assert predict(["--run", str(tiny_run), "--images", ".", "--output", str(place / "out")]) == 0
    assert [path.name for path in (place / "out").iterdir()] == ["a"]
    assert predict(["--run", str(tiny_run), "--images", "../b/..", "--output", str(place / "all")]) == 0
    assert sorted(path.name for path in (place / "all").iterdir()) == ["a", "b", "c", "d.nii.gz"]
    assert [path for path in sorted(place.rglob("*")) if not {"out", "all"} & set(path.parts)] == before
    assert "Traceback" not in capsys.readouterr().err


def test_a_mask_that_lies_elsewhere_is_refused(place, capsys):
    path = place / "data" / "masks" / "c.nii.gz"
    path.unlink()
    save_nifti(path, volume_of(2)[1], STEPS, ORIGIN + np.array([0, 0, 2.5]))  # a slice further to the head
    assert train(["--run", "run", "--data", "data", *FLAGS]) == 2
    error = capsys.readouterr().err
    assert "data/masks/c.nii.gz lies up to 2.5 mm from data/images/c" in error and error.count("\n") == 1
    assert not (place / "run").exists()


@pytest.mark.parametrize("limit", ["0.001", "0.007"])
def test_the_limit_of_pixels_holds_for_volumes(place, limit):
    """A slice has 0.001024 megapixels; a compressed volume counts as a whole, 0.006144."""
    found = files.list_images("data/images")
    for stem in ("a_000", "d_000"):
        if limit == "0.001":
            with pytest.raises(UserError, match=r"--max-megapixels 0\.001"):
                files.read_image(found[stem], DataConfig(max_megapixels=float(limit)))
        else:
            files.read_image(found[stem], DataConfig(max_megapixels=float(limit)))
