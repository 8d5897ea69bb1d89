"""The small network that comes with the package."""

import numpy as np
import pytest
from skimage.measure import label

from unet_lowlevel import run_folder
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.phantoms.phantom import draw_phantom, write_phantoms
from unet_lowlevel.inference.predictor import load


def test_it_finds_lungs_of_patients_it_has_never_seen():
    predictor, found = load("demo"), []
    for patient in range(4):
        image, mask = draw_phantom(patient, 3, 8, (128, 128), 77)
        prediction, truth = predictor.predict(image).mask > 0, mask > 0
        found.append(2 * np.sum(prediction & truth) / (prediction.sum() + truth.sum()))
    assert np.mean(found) > 0.93 and np.min(found) > 0.85


def test_it_tells_the_lungs_apart():
    predictor = load("demo")
    assert predictor.has_chosen_separation()
    for patient in range(4):
        image, mask = draw_phantom(patient, 3, 8, (128, 128), 77)
        found = predictor.predict(image)
        assert len(found.objects.classes) == label(mask).max() == 2
        assert np.mean(found.instances()[found.mask > 0] > 0) > 0.9


def test_it_is_small_and_a_folder_of_its_name_comes_first(tmp_path, monkeypatch):
    files = [path for path in run_folder.DEMO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2**20
    monkeypatch.chdir(tmp_path)
    assert run_folder.named("demo") == run_folder.DEMO
    (tmp_path / "demo").mkdir()
    assert str(run_folder.named("demo")) == "demo"


@pytest.mark.parametrize("by_keras", [False, True])
def test_the_command_predicts_with_it(by_keras, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_phantoms(tmp_path / "lungs", 2, (64, 64), slices_per_patient=2, seed=0)
    assert predict(["--run", "demo", "--images", "lungs/images", "--output", "masks"], by_keras=by_keras) == 0
    assert "wrote masks of 2 images" in capsys.readouterr().out
