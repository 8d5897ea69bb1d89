"""DICOM series and NIfTI volumes through the commands: trained on, predicted into the same geometry."""

import importlib
import json

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from conftest import TINY
from medical_files import ORIGIN, STEPS, save_dicom, save_nifti, save_series, stack, turned

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, samples
from unet_lowlevel.data.formats.volumes import open_volume
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.data.phantoms.phantom import draw_phantom
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve

FLAGS = [*(flag for flag in TINY if flag not in ("--group-regex", "patient-\\d+")), "--epochs", "1"]
TABLE = "_instances.csv"
FLAGS += ["--threshold", "0.1", "--normalization", "range", "--normalization-range=-1000,400"]


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


def masks_of(segmentation, images):
    """The masks [N, H, W] of these images."""
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in images]
    return segmentation.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)


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
    # NIfTI comes back as NIfTI, DICOM as segmentations with probabilities in NIfTI, and all lie where the image does.
    assert predict(["--run", "run", "--images", "data/images", "--output", "out", "--probabilities"]) == 0
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(
        [*(f"{name}.dcm" for name in "abc"), "d.nii.gz", *(f"{name}_probability.nii.gz" for name in "abcd")]
    )
    source, mask = (nibabel.load(place / part / "d.nii.gz") for part in ("data/images", "out"))
    assert mask.shape == source.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, source.affine)
    for name in "abc":
        source, probability = (
            open_volume(place / "data/images" / name),
            open_volume(place / "out" / f"{name}_probability.nii.gz"),
        )
        np.testing.assert_allclose(probability.affine, source.affine, atol=1e-4)
        found = highdicom.seg.segread(place / "out" / f"{name}.dcm")
        masks = masks_of(found, source.files)
        assert masks.any()
        np.testing.assert_array_equal(masks, stack(probability) >= 0.1 * 65535)
    assert found.PatientID == "bert"
    assert "wrote masks of 24 images" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["nifti", "png"])
def test_masks_of_dicom_are_nifti_or_png_on_wish(form, place, tiny_run):
    (place / "data" / "images" / "d.nii.gz").unlink()
    save_dicom(place / "data" / "images" / "x.dcm", volume_of(0)[0][0])
    flags = ["--run", str(tiny_run), "--images", "data/images", "--output"]
    assert predict([*flags, "out", "--format", form, "--instances"]) == 0
    assert predict([*flags, "auto"]) == 0
    for pair in files.pair_files("data/images", "auto"):  # what is predicted may be what is learned
        assert read_label(pair.masks, 1).shape == (32, 32)
    stems = ["x", *("abc" if form == "nifti" else (f"{name}_00{i}" for name in "abc" for i in range(6)))]
    suffixes = {stem: ".nii.gz" if form == "nifti" and stem != "x" else ".png" for stem in stems}
    names = [f"{stem}{what}" for stem, suffix in suffixes.items() for what in (suffix, f"_instances{suffix}", TABLE)]
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted([*names, "objects.csv", "summary.csv"])
    for stem, suffix in suffixes.items():
        source = place / "data/images" / (stem[0] if stem != "x" else "x.dcm")
        images = open_volume(source).files if source.is_dir() else [source]
        found = masks_of(highdicom.seg.segread(place / "auto" / f"{stem[0]}.dcm"), images)
        if suffix == ".png":
            mask = files.read_image(place / "out" / f"{stem}.png")[..., 0]
            np.testing.assert_array_equal(mask, 255 * found[int(stem[2:] or 0)])
        else:
            mask = nibabel.load(place / "out" / f"{stem}.nii.gz")
            np.testing.assert_array_equal(np.asarray(mask.dataobj).T, 255 * found)
            affine = open_volume(place / "data/images" / stem).affine
            np.testing.assert_allclose(mask.affine @ [0, 0, 1, 1], np.diag([-1, -1, 1, 1]) @ affine @ [1, 0, 0, 1])


def test_without_highdicom_nothing_is_begun(place, tiny_run, monkeypatch, capsys):
    found = importlib.import_module

    def missing(name, *rest):
        if name == "highdicom":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    flags = ["--run", str(tiny_run), "--images", "data/images", "--output", "out"]
    assert predict(flags) == 2
    error = capsys.readouterr().err
    assert "needs the package highdicom" in error and error.count("\n") == 1 and not (place / "out").exists()
    assert predict([*flags, "--format", "nifti"]) == 0


def test_a_series_named_by_the_current_folder_stays_in_the_output(place, tiny_run, monkeypatch, capsys):
    series = place / "data" / "images" / "a"
    monkeypatch.chdir(series)
    before = sorted(place.rglob("*"))
    assert predict(["--run", str(tiny_run), "--images", ".", "--output", str(place / "out")]) == 0
    assert [path.name for path in (place / "out").iterdir()] == ["a.dcm"]
    assert predict(["--run", str(tiny_run), "--images", "../b/..", "--output", str(place / "all")]) == 0
    assert sorted(path.name for path in (place / "all").iterdir()) == ["a.dcm", "b.dcm", "c.dcm", "d.nii.gz"]
    assert [path for path in sorted(place.rglob("*")) if not {"out", "all"} & set(path.parts)] == before
    assert "Traceback" not in capsys.readouterr().err


def test_written_masks_are_read_as_masks_of_their_images(place, tiny_run):
    assert predict(["--run", str(tiny_run), "--images", "data/images", "--output", "out"]) == 0
    config = resolve(flags={"images": "data/images", "masks": "out", "classes": 1})
    pairs = files.find_pairs(config.data)
    assert [pair.masks[0].path.name for pair in pairs[::6]] == ["a.dcm", "b.dcm", "c.dcm", "d.nii.gz"]
    assert predict(["--run", str(tiny_run), "--images", "data/images", "--output", "png", "--format", "png"]) == 0
    for pair, sample in zip(pairs, samples.decoded(pairs, config), strict=True):
        np.testing.assert_array_equal(sample.label * 255, files.read_image(f"png/{pair.stem}.png")[..., 0])


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
