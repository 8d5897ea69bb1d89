"""--plain from end to end: the definitions of `core` as they are printed, in training, prediction and evaluation."""

import json

import numpy as np
import pytest
from conftest import TINY
from kill_and_resume import history, state
from skimage import io

from unet_lowlevel import run_folder
from unet_lowlevel.cli import evaluate, predict, train
from unet_lowlevel.core import fast
from unet_lowlevel.inference import predictor


def forbidden(*_, **__):
    raise AssertionError("a fast form was made")


@pytest.fixture(scope="module")
def plain_run(phantoms, tmp_path_factory):
    """What `tiny_run` is, by the definitions, without any of the fast forms."""
    run = tmp_path_factory.mktemp("plain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FastUNet", "InPlaceAdam", "InPlaceSGD", "FoldedUNet"):
            patch.setattr(fast, name, forbidden)
        flags = ["--run", str(run), "--data", str(phantoms), "--ema-decay", "0.5", *TINY]
        assert train.main([*flags, "--plain"]) == 0
    return run


def test_a_plain_training_differs_by_rounding(plain_run, tiny_run):
    assert run_folder.read(plain_run)[0].model.plain and not run_folder.read(tiny_run)[0].model.plain
    assert {path.name for path in plain_run.iterdir()} == {path.name for path in tiny_run.iterdir()}
    for ours, theirs in zip(history(plain_run), history(tiny_run), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-3, abs=1e-5), name
    ours, theirs = state(plain_run, "best"), state(tiny_run, "best")
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_plain_training_goes_on(plain_run, phantoms, tmp_path):
    """To the bit, as any other does."""
    flags = ["--run", str(tmp_path / "run"), "--data", str(phantoms), "--ema-decay", "0.5", *TINY, "--plain"]

    def stop(step, loss):
        if step == 4:
            raise KeyboardInterrupt

    assert train.main(flags, on_step=stop) == 130
    assert train.main(["--run", str(tmp_path / "run"), "--resume"]) == 0
    assert history(tmp_path / "run") == history(plain_run)
    ours, theirs = state(tmp_path / "run"), state(plain_run)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_plain_predictions_and_scores_differ_by_rounding(plain_run, phantoms, tmp_path, monkeypatch):
    """Of a run, whether its training was plain or not."""
    images = sorted((phantoms / "images").iterdir())[:3]
    command = ["--run", str(plain_run), "--images", *map(str, images), "--probabilities"]
    scoring = ["--run", str(plain_run)]
    assert predict.main([*command, "--output", str(tmp_path / "fast")]) == 0
    assert evaluate.main([*scoring, "--output", str(tmp_path / "fast scores")]) == 0
    monkeypatch.setattr(predictor, "FoldedUNet", forbidden)
    assert predict.main([*command, "--output", str(tmp_path / "plain"), "--plain"]) == 0
    assert evaluate.main([*scoring, "--output", str(tmp_path / "plain scores"), "--plain"]) == 0
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert len(names) == 6 and names == {path.name for path in (tmp_path / "fast").iterdir()}
    for path in images:
        ours, theirs = (io.imread(tmp_path / kind / f"{path.stem}_probability.png") for kind in ("plain", "fast"))
        assert ours.shape == io.imread(path).shape and ours.dtype == np.uint16
        np.testing.assert_allclose(ours / 65535, theirs / 65535, rtol=0, atol=1e-4)
        near = abs(ours / 65535 - 0.5) < 1e-4
        ours, theirs = (io.imread(tmp_path / kind / path.name) for kind in ("plain", "fast"))
        np.testing.assert_array_equal(ours[~near], theirs[~near])
    ours, theirs = (json.loads((tmp_path / f"{kind} scores/metrics.json").read_text()) for kind in ("plain", "fast"))
    assert ours["images"] == theirs["images"] == 3
    assert ours["soft_dice"] == pytest.approx(theirs["soft_dice"], abs=1e-4)
