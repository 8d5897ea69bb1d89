"""The threshold of the mask: how it is chosen, stored and applied."""

import json
import math
import statistics

import numpy as np
import pytest
import tensorflow as tf
from conftest import sentence
from untrained import untrained_run

from unet_lowlevel.config import IGNORED
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import evaluation, separation
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.threshold import (
    CANDIDATES,
    choose_threshold,
    counts_at,
    counts_of_candidates,
    dice_of,
    read_threshold,
    write_threshold,
)
from unet_lowlevel.scoring.counts import probability_counts


def dice_at(label, probabilities, threshold):
    """By sets of pixels."""
    counts = label != IGNORED
    found = set(np.flatnonzero(counts & (probabilities[..., 0] >= np.float32(threshold))))
    true = set(np.flatnonzero(counts & (label == 1)))
    return 2 * len(found & true) / (len(found) + len(true)) if found or true else 1.0


def test_candidates():
    assert CANDIDATES[0] == 0.05 and CANDIDATES[-1] == 0.95 and len(CANDIDATES) == 37
    np.testing.assert_allclose(np.diff(CANDIDATES), 0.025)


@pytest.mark.parametrize("share", [0.4, 0.0])
def test_dice_of_an_image(share):
    """Pixels on a threshold are above it, and those without a label do not count; without foreground it is 0 or 1."""
    random = np.random.default_rng(0)
    label = (random.random((6, 7)) < share).astype(np.uint8)
    probabilities = (0.8 * random.random((6, 7, 1))).astype(np.float32)
    probabilities[:2, :, 0] = random.choice(np.float32(CANDIDATES[:30]), (2, 7))
    label[5], probabilities[5] = IGNORED, 1
    counts = counts_of_candidates(label, probabilities)
    found = dice_of(counts)
    np.testing.assert_allclose(found, [dice_at(label, probabilities, t) for t in CANDIDATES], rtol=1e-12)
    assert share or set(found) == {0.0, 1.0}
    for threshold in (0.3, 0.65):
        arguments = tf.constant(label[np.newaxis], tf.int32), tf.constant(probabilities[np.newaxis])
        expected = probability_counts(*arguments, threshold, IGNORED)
        for name, values in counts_at(counts, threshold).items():
            np.testing.assert_array_equal(values, expected[name][0])


def curves(count, best=(), height=0.9, flat=0.5):
    """Dice [count, 37] that is `flat`, but `height` at the thresholds `best`."""
    dice = np.full((count, 37), flat)
    dice[:, [CANDIDATES.index(t) for t in best]] = height
    return dice


def joined(*parts):
    return choose_threshold(np.concatenate(parts))


def test_the_nearest_to_half_of_those_as_good_as_the_best():
    assert joined(curves(4)) == 0.5
    assert joined(curves(4, (0.3,))) == 0.3 and joined(curves(4, (0.95,))) == 0.95
    assert joined(curves(4, (0.1, 0.2, 0.9))) == 0.2
    assert joined(curves(4, (0.2, 0.8, 0.5))) == 0.5
    assert joined(curves(3, (0.4, 0.6)), curves(1, (0.6,))) == 0.6  # as near, and with the greater mean
    assert joined(curves(3, (0.4, 0.6)), curves(1, (0.4,))) == 0.4


@pytest.mark.parametrize("images", [1, 2, 3, 7, 100])
def test_one_image_alone_never_moves_the_threshold(images):
    """Such as one that is empty, in which a threshold of 0.9 finds no pixel."""
    others = curves(images - 1)
    assert joined(curves(1, (0.9,), 1.0, 0.0), others) == 0.5
    if images > 1:
        assert joined(curves(2, (0.9,), 1.0, 0.0), others[1:]) == 0.9


def test_noise_does_not_move_the_threshold_but_what_images_agree_on_does():
    random = np.random.default_rng(0)
    position = np.array(CANDIDATES) - 0.5
    noise = 0.1 * random.normal(size=(20, 1)) * position  # some images would have it higher, some lower
    assert choose_threshold(0.8 - position**2 + noise) == 0.5
    assert choose_threshold(0.8 - (position + 0.2) ** 2 + noise / 100) == 0.3


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_by_loops(seed):
    random = np.random.default_rng(seed)
    peak, count = random.uniform(-0.3, 0.3), 5
    dice = np.cumsum(0.02 * random.normal(size=(count, 37)), 1) - (np.array(CANDIDATES) - 0.5 - peak) ** 2
    mean = [statistics.fmean(dice[:, t]) for t in range(37)]
    best, good = mean.index(max(mean)), []
    for t in range(37):
        worse = [float(dice[i, best] - dice[i, t]) for i in range(count)]
        if statistics.fmean(worse) <= statistics.stdev(worse) / math.sqrt(count):
            good.append((abs(t - 18), -mean[t], CANDIDATES[t]))
    assert choose_threshold(dice) == min(good)[2]


def test_stored_in_the_run(tmp_path):
    assert read_threshold(tmp_path) == 0
    write_threshold(tmp_path, 0.425)
    assert read_threshold(tmp_path) == 0.425 and [path.name for path in tmp_path.iterdir()] == ["threshold.json"]
    values = ("0.0", "1.0", "-0.5", "NaN", "Infinity", "true", '"0.5"', "null", "[0.5]")
    for text in ("[]", "{}", "{", "0.5", *(f'{{"threshold": {value}}}' for value in values)):
        (tmp_path / "threshold.json").write_text(text)
        with pytest.raises(UserError) as caught:
            read_threshold(tmp_path)
        sentence(caught, "threshold.json")
    with pytest.raises(UserError) as caught:
        write_threshold(tmp_path / "nowhere", 0.5)
    sentence(caught, "--run", "nowhere")


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
    monkeypatch.setattr(evaluation, "choose_separation", see)
    monkeypatch.setattr(evaluation, "PIXELS", 32 * 32)
    flags = {"instances": str(phantoms / "masks")} if objects else {}
    run = untrained_run(tmp_path / "run", 5, tuple(pair.stem for pair in pairs), data=str(phantoms), **flags)
    evaluation.store_thresholds(run)
    assert json.loads((run / "threshold.json").read_text()) == {"threshold": expected}
    assert len(predicted) == 6 and len(known) == objects and (run / "instances.json").exists() == objects
    mean = dict(zip(CANDIDATES, np.mean(dice, 0), strict=True))
    figures = f"{mean[expected]:.4f} (at 0.5: {mean[0.5]:.4f})"
    assert f"threshold of the mask: {expected:g}, mean Dice of the held-out images {figures}" in capsys.readouterr().out
    result = evaluation.evaluate(run, tmp_path / "scores")
    assert result["mean_over_images"]["dice"] == pytest.approx(mean[expected], abs=1e-12)
    if objects:
        predicted.clear()
        evaluation.evaluate(run, tmp_path / "anew", scores=["instances"], choose_thresholds=True)
        assert len(predicted) == 1 + 6


@pytest.mark.parametrize("flags", [{"threshold": 0.5}, {"classes": 2}])
def test_nothing_is_chosen(flags, chosen, phantoms, tmp_path, capsys):
    """Where it is given, and where the most probable class is taken."""
    stems = tuple(load(chosen).split["validation"])
    run = untrained_run(tmp_path / "run", 5, stems, data=str(phantoms), **flags)
    evaluation.store_thresholds(run)
    assert not (run / "threshold.json").exists() and capsys.readouterr().out == ""
