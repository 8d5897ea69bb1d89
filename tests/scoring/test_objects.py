"""Average precision of objects, by hand and by brute force."""

import itertools

import numpy as np
import pytest

from unet_lowlevel.scoring.counts import THRESHOLDS
from unet_lowlevel.scoring.objects import Objects, average_precision, match_counts


def objects(numbers, *classes):
    """The objects of an image of numbers, with gaps or not; their classes in the order of the numbers, else all 1."""
    values = np.unique(numbers[numbers > 0])
    return Objects(np.searchsorted(values, numbers) + (numbers > 0), np.array(classes or [1] * values.size, int))


def brute_force_matching(truth, prediction, threshold):
    """TP by trying every assignment of true objects to predicted ones."""
    iou = {
        (t, p): np.sum((truth == t) & (prediction == p)) / np.sum((truth == t) | (prediction == p))
        for t in np.unique(truth[truth > 0])
        for p in np.unique(prediction[prediction > 0])
    }
    true, predicted = (list(np.unique(numbers[numbers > 0])) for numbers in (truth, prediction))
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
    (counts,) = match_counts(objects(truth), objects(prediction), 2)
    true, predicted = (np.unique(numbers[numbers > 0]).size for numbers in (truth, prediction))
    for (hit, invented, missed), threshold in zip(counts, THRESHOLDS, strict=True):
        assert hit == brute_force_matching(truth, prediction, threshold)
        assert (hit + invented, hit + missed) == (predicted, true)


def test_average_precision_by_hand():
    """Three true objects of 10 pixels; one found with IoU 1, one with 7 of 10, one missed, one invented."""
    truth, prediction = np.zeros((2, 4, 20), int)
    truth[0, :10], truth[1, :10], truth[2, :10] = 1, 2, 3
    prediction[0, :10], prediction[1, :7], prediction[3, 12:15] = 9, 4, 1
    scores = average_precision(match_counts(objects(truth), objects(prediction), 2))
    assert scores["ap_50"] == scores["ap_70"] == pytest.approx(2 / 4)  # 0.7 is at least 0.7
    assert scores["ap_75"] == scores["ap_95"] == pytest.approx(1 / 5)
    assert scores["ap"] == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    assert list(scores) == ["ap", *(f"ap_{s}" for s in range(50, 100, 5))]


def test_an_object_matches_once():
    """Both halves of an object have an IoU of exactly 0.5."""
    truth = np.ones((2, 4), int)
    prediction = np.array([[1, 1, 2, 2]] * 2)
    one, two = objects(truth), objects(prediction)
    np.testing.assert_array_equal(match_counts(one, two, 2)[0, 0], [1, 1, 0])
    np.testing.assert_array_equal(match_counts(two, one, 2)[0, 0], [1, 0, 1])
    np.testing.assert_array_equal(match_counts(one, two, 2)[0, 1], [0, 2, 1])


@pytest.mark.parametrize(("true", "predicted", "ap"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_average_precision_without_objects(true, predicted, ap):
    counts = match_counts(objects(np.full((3, 3), true)), objects(np.full((3, 3), predicted)), 2)
    assert {float(value) for value in average_precision(counts).values()} == {ap}


def test_average_precision_of_sums():
    counts = np.random.default_rng(0).integers(0, 5, (2, 6, 1, 10, 3))
    scores = average_precision(counts)
    tp, fp, fn = counts[1, 2, 0, 5]
    assert scores["ap_75"].shape == (2, 6) and scores["ap_75"][1, 2] == pytest.approx(tp / max(tp + fp + fn, 1))


@pytest.mark.parametrize("seed", range(10))
def test_objects_match_within_their_class_only(seed):
    """As many as in images that hold the objects of one class each."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, 6, (3, 6)), 3, 1)
    prediction = np.where(random.uniform(size=truth.shape) < 0.2, random.integers(0, 6, truth.shape), truth)
    true, predicted = (objects(numbers) for numbers in (truth, prediction))
    true.classes[:], predicted.classes[:] = random.integers(1, 4, true.classes.size), 2
    shared = min(true.classes.size, predicted.classes.size)
    predicted.classes[:shared] = np.where(random.uniform(size=shared) < 0.7, true.classes[:shared], 3)
    counts = match_counts(true, predicted, 4)
    assert counts.shape == (3, 10, 3) and counts[..., 0].any()
    for k in (1, 2, 3):
        of_class = [
            np.where(np.isin(each.numbers, np.flatnonzero(each.classes == k) + 1), each.numbers, 0)
            for each in (true, predicted)
        ]
        for (hit, invented, missed), threshold in zip(counts[k - 1], THRESHOLDS, strict=True):
            assert hit == brute_force_matching(*of_class, threshold)
            assert hit + missed == np.sum(true.classes == k) and hit + invented == np.sum(predicted.classes == k)


def test_average_precision_of_classes_by_hand():
    """Class 1: one of two found; class 2: found, and one invented, of a true object of class 1; class 3: not there."""
    truth = np.repeat([[1, 1, 0, 2, 2, 0, 3, 3, 0, 0]], 3, 0)
    prediction = np.repeat([[1, 1, 0, 2, 2, 0, 3, 3, 0, 0]], 3, 0)
    counts = match_counts(objects(truth, 1, 1, 2), objects(prediction, 1, 2, 2), 4)
    np.testing.assert_array_equal(counts[:, 0], [[1, 0, 1], [1, 1, 0], [0, 0, 0]])
    scores = average_precision(counts)
    assert scores["ap"] == scores["ap_50"] == scores["ap_95"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    for name in ("ap", "ap_50", "ap_75"):
        assert scores[f"{name}_class_1"] == scores[f"{name}_class_2"] == pytest.approx(1 / 2)
        assert np.isnan(scores[f"{name}_class_3"])
    assert list(scores)[-9:] == [f"{name}_class_{k}" for k in (1, 2, 3) for name in ("ap", "ap_50", "ap_75")]
    wrong = average_precision(match_counts(objects(truth, 1, 1, 1), objects(prediction, 2, 2, 2), 4))
    assert wrong["ap"] == 0 and wrong["ap_class_2"] == 0  # what is only invented is there
    nothing = average_precision(match_counts(objects(truth * 0), objects(truth * 0), 4))
    assert nothing["ap"] == nothing["ap_50"] == 1 and np.isnan(nothing["ap_50_class_1"])


def test_every_class_weighs_the_same_however_many_objects_it_has():
    counts = np.zeros((2, 10, 3), int)
    counts[0], counts[1] = [98, 0, 2], [0, 1, 1]
    assert average_precision(counts)["ap_50"] == pytest.approx((0.98 + 0) / 2)


def test_an_object_of_two_components_is_one():
    truth = np.array([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
    apart = np.array([[1, 1, 0, 3, 3], [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
    np.testing.assert_array_equal(match_counts(objects(truth), objects(truth), 2)[0], [[2, 0, 0]] * 10)
    np.testing.assert_array_equal(match_counts(objects(truth), objects(apart), 2)[0, [0, 1]], [[2, 1, 0], [1, 2, 1]])


def test_more_objects_than_sixteen_bits_number():
    numbers = np.arange(1, 280 * 256 + 1).reshape(280, 256)
    many = Objects(numbers, 1 + numbers.reshape(-1) % 2)
    np.testing.assert_array_equal(match_counts(many, many, 3)[:, 9], [[280 * 128, 0, 0]] * 2)


def test_small_objects_are_left_out():
    numbers = np.array([[1, 1, 0, 2], [3, 3, 3, 0], [0, 0, 5, 5]])
    found = Objects(numbers, np.array([2, 1, 1, 1, 3]))  # no pixel has number 4
    for smallest, kept, classes in [
        (2, [[1, 1, 0, 0], [2, 2, 2, 0], [0, 0, 3, 3]], [2, 1, 3]),
        (3, [[0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], [1]),
        (0, [[1, 1, 0, 2], [3, 3, 3, 0], [0, 0, 4, 4]], [2, 1, 1, 3]),
    ]:
        large = found.without_small(smallest)
        np.testing.assert_array_equal(large.numbers, kept)
        assert large.numbers.dtype == np.int32 and large.classes.tolist() == classes
    np.testing.assert_array_equal(found.areas, [2, 1, 3, 0, 2])
    np.testing.assert_array_equal(found.of_class(1), [[0, 0, 0, 2], [3, 3, 3, 0], [0, 0, 0, 0]])
