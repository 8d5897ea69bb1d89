"""Average precision of objects, by hand and by brute force."""

import itertools

import numpy as np
import pytest

from unet_lowlevel.scoring.counts import THRESHOLDS
from unet_lowlevel.scoring.objects import average_precision, match_counts


def brute_force_matching(truth, prediction, threshold):
    """TP by trying every assignment of true objects to predicted ones."""
    iou = {
        (t, p): np.sum((truth == t) & (prediction == p)) / np.sum((truth == t) | (prediction == p))
        for t in np.unique(truth[truth > 0])
        for p in np.unique(prediction[prediction > 0])
    }
    true, predicted = (list(np.unique(objects[objects > 0])) for objects in (truth, prediction))
    predicted += [None] * len(true)
    return max(
        (
            sum(p is not None and iou[t, p] >= threshold for t, p in zip(true, chosen, strict=True))
            for chosen in itertools.permutations(predicted, len(true))
        ),
        default=0,
    )


@pytest.mark.parametrize("seed", range(10))
def test_matches_are_the_greatest_number(seed):
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, 5, (1, 8)), 3, 1) * np.ones((4, 1), int) * 3  # numbers with gaps
    prediction = np.where(random.uniform(size=truth.shape) < 0.2, random.integers(0, 4, truth.shape), truth)
    prediction = np.where(random.uniform() < 0.5, np.roll(prediction, 1, 1), prediction)
    counts = match_counts(truth, prediction)
    true, predicted = (np.unique(objects[objects > 0]).size for objects in (truth, prediction))
    for (hit, invented, missed), threshold in zip(counts, THRESHOLDS, strict=True):
        assert hit == brute_force_matching(truth, prediction, threshold)
        assert (hit + invented, hit + missed) == (predicted, true)


def test_average_precision_by_hand():
    """Three true objects of 10 pixels; one found with IoU 1, one with 7 of 10, one missed, one invented."""
    truth, prediction = np.zeros((2, 4, 20), int)
    truth[0, :10], truth[1, :10], truth[2, :10] = 1, 2, 3
    prediction[0, :10], prediction[1, :7], prediction[3, 12:15] = 9, 4, 1
    scores = average_precision(match_counts(truth, prediction))
    assert scores["ap_50"] == scores["ap_70"] == pytest.approx(2 / 4)  # 0.7 is at least 0.7
    assert scores["ap_75"] == scores["ap_95"] == pytest.approx(1 / 5)
    assert scores["ap"] == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    assert list(scores) == ["ap", *(f"ap_{s}" for s in range(50, 100, 5))]


def test_an_object_matches_once():
    """Both halves of an object have an IoU of exactly 0.5."""
    truth = np.ones((2, 4), int)
    prediction = np.array([[1, 1, 2, 2]] * 2)
    np.testing.assert_array_equal(match_counts(truth, prediction)[0], [1, 1, 0])
    np.testing.assert_array_equal(match_counts(prediction, truth)[0], [1, 0, 1])
    np.testing.assert_array_equal(match_counts(truth, prediction)[1], [0, 2, 1])


@pytest.mark.parametrize(("true", "predicted", "ap"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_average_precision_without_objects(true, predicted, ap):
    counts = match_counts(np.full((3, 3), true), np.full((3, 3), predicted))
    assert {float(value) for value in average_precision(counts).values()} == {ap}


def test_average_precision_of_sums():
    counts = np.random.default_rng(0).integers(0, 5, (2, 6, 10, 3))
    scores = average_precision(counts)
    tp, fp, fn = counts[1, 2, 5]
    assert scores["ap_75"].shape == (2, 6) and scores["ap_75"][1, 2] == pytest.approx(tp / max(tp + fp + fn, 1))
