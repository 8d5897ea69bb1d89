"""The choice of thresholds on the images of a run, and what a prediction makes of it."""

import json

import numpy as np
import pytest
from numpy_reference import dice_at
from untrained import untrained_run

from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.inference import best_thresholds, separation
from unet_lowlevel.inference.best_thresholds import store_thresholds
from unet_lowlevel.inference.evaluation import evaluate
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.threshold import CANDIDATES, choose_threshold, write_threshold


@pytest.fixture(scope="module")
def chosen(phantoms, tmp_path_factory):
    """A run of a network that nobody has trained, whose file says 0.3."""
    stems = sorted(path.stem for path in (phantoms / "images").iterdir())[:6]
    run = untrained_run(tmp_path_factory.mktemp("runs") / "chosen", 5, tuple(stems), data=str(phantoms))
    write_threshold(run, 0.3)
    return run


def test_prediction_takes_what_was_chosen_in_the_first_run(chosen, tmp_path):
    none = untrained_run(tmp_path / "none")  # or of an earlier version, without the setting
    given = untrained_run(tmp_path / "given", threshold=0.5)
    for run in (none, given):
        assert load(run).config.training.decision_threshold == 0.5
    write_threshold(given, 0.3)
    probabilities = np.float32([0.29, 0.3, 0.5]).reshape(1, 3, 1)
    for runs, labels in (([chosen, none], [0, 1, 1]), ([none, chosen], [0, 0, 1]), ([given], [0, 0, 1])):
        assert load(runs).labels(probabilities).tolist() == [labels]


@pytest.mark.parametrize("objects", [False, True])
def test_the_choice_is_by_every_held_out_image_predicted_once(objects, chosen, phantoms, tmp_path, monkeypatch, capsys):
    """Also where one image is enough to choose how objects are separated."""
    predictor = load(chosen)
    pairs = [pair for pair in find_pairs(predictor.config.data) if pair.stem in predictor.split["validation"]]
    dice = []
    for pair in pairs:
        p, label = predictor.predict(pair.image).probabilities, read_mask(pair.masks[0], 1)
        dice.append([dice_at(label, p, t) for t in CANDIDATES])
    expected = choose_threshold(np.array(dice))
    assert expected not in (0.3, 0.5)

    def count(self, image):
        predicted.append(image)
        return original(self, image)

    def see(images, border):
        known.extend(images)
        return separation.Separation()

    predicted, known, original = [], [], Predictor.probabilities
    monkeypatch.setattr(Predictor, "probabilities", count)
    monkeypatch.setattr(best_thresholds, "choose_separation", see)
    monkeypatch.setattr(best_thresholds, "PIXELS", 32 * 32)
    flags = {"instances": str(phantoms / "masks")} if objects else {}
    run = untrained_run(tmp_path / "run", 5, tuple(pair.stem for pair in pairs), data=str(phantoms), **flags)
    store_thresholds(run)
    assert json.loads((run / "threshold.json").read_text()) == {"threshold": expected}
    assert len(predicted) == 6 and len(known) == objects and (run / "instances.json").exists() == objects
    mean = dict(zip(CANDIDATES, np.mean(dice, 0), strict=True))
    figures = f"{mean[expected]:.4f} (at 0.5: {mean[0.5]:.4f})"
    assert f"threshold of the mask: {expected:g}, mean Dice of the held-out images {figures}" in capsys.readouterr().out
    result = evaluate(run, tmp_path / "scores")
    assert result["mean_over_images"]["dice"] == pytest.approx(mean[expected], abs=1e-12)
    if objects:
        predicted.clear()
        evaluate(run, tmp_path / "anew", scores=["instances"], choose_thresholds=True)
        assert len(predicted) == 1 + 6


@pytest.mark.parametrize("flags", [{"threshold": 0.5}, {"classes": 2}])
def test_nothing_is_chosen(flags, chosen, phantoms, tmp_path, capsys):
    """Where it is given, and where the most probable class is taken."""
    stems = tuple(load(chosen).split["validation"])
    run = untrained_run(tmp_path / "run", 5, stems, data=str(phantoms), **flags)
    store_thresholds(run)
    assert not (run / "threshold.json").exists() and capsys.readouterr().out == ""
