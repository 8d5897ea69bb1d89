"""Ensembles: the mean of what the networks of several runs say."""

import json

import numpy as np
import pytest
from conftest import sentence
from unet_lowlevel.inference.ensemble import Ensemble
from untrained import untrained_run

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data import samples
from unet_lowlevel.data.files import list_images, read_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import predictor as predictor_module
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.views import FLIPS


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three that differ in all that runs of one data may differ in."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        untrained_run(folder / "first", seed=1, threshold=0.3, validation=("b", "c")),
        untrained_run(folder / "deeper", seed=2, depth=4, normalization="minmax", validation=("c", "d")),
        untrained_run(folder / "valid", seed=3, depth=2, padding="valid", threshold=0.9, validation=("c",)),
    ]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (70, 41, 1), dtype=np.uint8)


def by_hand(runs, image):
    return np.mean([Predictor(run).probabilities(image) for run in runs], 0)


@pytest.mark.parametrize("tile_size", [2048, 96])
def test_probabilities_are_the_mean_of_the_runs(tile_size, runs, image):
    image = np.tile(image, (3, 4, 1))
    ensemble = Ensemble(runs, tile_size=tile_size)
    assert (len(list(ensemble.tiles(image, ensemble.normalization(image)))) > 1) == (tile_size == 96)
    found = ensemble.probabilities(image)
    np.testing.assert_allclose(found, by_hand(runs, image), rtol=0, atol=1e-5)
    assert np.abs(found - Predictor(runs[0]).probabilities(image)).max() > 0.01


def test_a_run_twice_is_the_run(runs, image):
    expected = Predictor(runs[0]).probabilities(image)
    np.testing.assert_allclose(Ensemble([runs[0], runs[0]]).probabilities(image), expected, rtol=0, atol=1e-5)


def test_views_of_every_network_are_averaged(runs, image):
    expected = np.mean([Ensemble([run], FLIPS).probabilities(image) for run in runs], 0)
    np.testing.assert_allclose(Ensemble(runs, FLIPS).probabilities(image), expected, rtol=0, atol=1e-5)


def test_threshold_of_the_first_decides(runs):
    probabilities = np.array([[[0.2], [0.5], [0.95]]], np.float32)
    assert Ensemble(runs).labels(probabilities).tolist() == [[0, 1, 1]]
    assert Ensemble(runs[::-1]).labels(probabilities).tolist() == [[0, 0, 1]]


def test_held_out_is_what_no_run_has_seen(runs):
    assert Ensemble(runs).split["validation"] == ["c"]


def test_equal_normalizations_are_computed_once(runs, image, monkeypatch):
    computed = []
    monkeypatch.setattr(
        predictor_module, "normalization", lambda *given: (computed.append(given), samples.normalization(*given))[1]
    )
    first, deeper, valid = Ensemble(runs).normalization(image)
    assert first is valid and first != deeper and len(computed) == 2
    assert deeper.scale == float(image.max()) - float(image.min())


@pytest.mark.parametrize("flags", [{"in_channels": 3}, {"classes": 2}])
def test_networks_of_other_data_are_refused(flags, runs, tmp_path):
    other = untrained_run(tmp_path / "other", **flags)
    with pytest.raises(UserError) as caught:
        Ensemble([*runs, other])
    sentence(caught, f"--run {runs[0]}", f"--run {other}", next(iter(flags.values())))


def test_predict_takes_several_runs(runs, phantoms, tmp_path):
    names, output = list(map(str, runs)), tmp_path / "out"
    flags = ["--images", str(phantoms / "images"), "--output", str(output), "--probabilities", "--overlays"]
    assert predict(["--run", *names, *flags]) == 0
    for stem, path in list_images(phantoms / "images").items():
        expected = by_hand(runs, read_image(path))
        found = read_image(output / f"{stem}_probability.png")
        np.testing.assert_allclose(found / 65535, expected, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(read_image(output / f"{stem}.png") > 0, found >= 0.3 * 65535)


def test_evaluate_takes_several_runs(tiny_run, phantoms, tmp_path):
    """Of one run twice, the scores of the run."""
    for name, again in (("one", []), ("two", [str(tiny_run)])):
        assert evaluate(["--run", str(tiny_run), *again, "--output", str(tmp_path / name)]) == 0
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["images"] == two["images"] == 3
    for name in ("dice", "iou", "mean_iou", "pixel_error"):
        assert one[name] == pytest.approx(two[name], abs=1e-3)


def test_evaluate_needs_images_that_all_runs_held_out(runs, tmp_path, capsys):
    other = untrained_run(tmp_path / "other", validation=("z",))
    assert evaluate(["--run", str(runs[0]), str(other), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"held out by all of --run {runs[0]} {other}" in error and "--split all" in error


def test_evaluate_averages_over_flips(tiny_run, tmp_path):
    flags = ["--output", str(tmp_path / "out"), "--average-flips", "--pictures", "1"]
    assert evaluate(["--run", str(tiny_run), *flags]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 3
