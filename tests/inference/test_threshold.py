"""The threshold of the mask: the rule by which it is chosen, and how it is stored."""

import math
import statistics

import numpy as np
import pytest
import tensorflow as tf
from conftest import sentence
from numpy_reference import dice_at

from unet_lowlevel.config import IGNORED
from unet_lowlevel.errors import UserError
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
