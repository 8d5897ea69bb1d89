"""Metrics against brute-force loops and 4x4 masks counted by hand."""

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.scoring.counts import (
    THRESHOLDS,
    class_scores,
    confusion_counts,
    logit_counts,
    predicted_labels,
    probability_counts,
    scores,
    threshold_counts,
)

SHAPE = (3, 4, 5)


def example(channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random labels [3, 4, 5] and probabilities [3, 4, 5, K]; image 1 is empty."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(channels, 2), SHAPE).astype(np.int32)
    labels[1] = 0
    if channels == 1:
        return labels, random.uniform(0, 1, (*SHAPE, 1)).astype(np.float32)
    return labels, random.dirichlet(np.full(channels, 0.4), SHAPE).astype(np.float32)


def foreground(probabilities: np.ndarray) -> np.ndarray:
    return probabilities if probabilities.shape[-1] == 1 else probabilities[..., 1:]


def assert_same(one: dict, two: dict) -> None:
    """Both have the same counts by the same names."""
    assert list(one) == list(two) == ["confusion", "thresholds"]
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("threshold", [0.5, 0.4])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pixels_without_a_label_are_not_counted(channels, threshold):
    """Image 1 has no label; the labels of the others are counted as if there were no more pixels."""
    labels, probabilities = example(channels)
    labelled = np.random.default_rng(1).random(SHAPE) < 0.5
    labelled[1] = False
    found = probability_counts(
        tf.constant(np.where(labelled, labels, 255)), tf.constant(probabilities), threshold, ignored=255
    )
    for n in (0, 2):
        row = [tf.constant(array[n][labelled[n]][np.newaxis, np.newaxis]) for array in (labels, probabilities)]
        assert_same({name: count[n : n + 1] for name, count in found.items()}, probability_counts(*row, threshold))
    assert all(not count[1].numpy().any() for count in found.values())


def test_scores_of_no_pixels():
    """As those of a class that is in neither truth nor prediction."""
    found = scores(np.zeros((2, 2)), np.zeros((1, 10, 2, 2)))
    assert {name: float(value) for name, value in found.items()} == dict.fromkeys(found, 1.0) | {"pixel_error": 0.0}


def test_thresholds():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_confusion_counts(classes):
    random = np.random.default_rng(classes)
    labels, predictions = random.integers(0, classes, (2, *SHAPE)).astype(np.int32)
    expected = np.zeros((SHAPE[0], classes, classes), np.int64)
    for n, y, x in np.ndindex(SHAPE):
        expected[n, labels[n, y, x], predictions[n, y, x]] += 1
    counts = confusion_counts(tf.constant(labels), tf.constant(predictions), classes)
    assert counts.dtype == tf.int64
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_threshold_counts(channels):
    labels, probabilities = example(channels)
    p = foreground(probabilities)
    expected = np.zeros((SHAPE[0], p.shape[-1], 10, 2, 2), np.int64)
    for n, y, x, k in np.ndindex(p.shape):
        for s in range(10):
            positive = p[n, y, x, k] >= np.float32(0.5 + 0.05 * s)
            expected[n, k, s, int(labels[n, y, x] == k + 1), int(positive)] += 1
    counts = threshold_counts(tf.constant(labels), tf.constant(probabilities))
    assert counts.dtype == tf.int64
    np.testing.assert_array_equal(counts, expected)
    assert (counts.numpy().sum((-1, -2)) == 20).all()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_probability_on_a_threshold_passes_it(threshold):
    """The boundaries are float32, as the probabilities are: 0.55 is not lost to rounding."""
    on = np.float32(threshold)
    below = np.nextafter(on, np.float32(0))
    counts = threshold_counts(tf.ones([1, 1, 2], tf.int32), tf.reshape(tf.constant([on, below]), [1, 1, 2, 1]))
    passed = counts.numpy()[0, 0, :, 1, 1]
    s = THRESHOLDS.index(threshold)
    np.testing.assert_array_equal(passed, [2] * s + [1] + [0] * (9 - s))
    labels = predicted_labels(tf.reshape(tf.constant([on, below]), [1, 1, 2, 1]), threshold)
    np.testing.assert_array_equal(labels, [[[1, 0]]])


def test_probabilities_0_and_1():
    counts = threshold_counts(tf.ones([1, 1, 2], tf.int32), tf.constant([0.0, 1.0], shape=[1, 1, 2, 1]))
    np.testing.assert_array_equal(counts[0, 0, :, 1], [[1, 1]] * 10)


def test_predicted_labels():
    one = tf.constant([0.0, 0.29, 0.31, 1.0], shape=[1, 2, 2, 1])
    np.testing.assert_array_equal(predicted_labels(one, 0.3), [[[0, 0], [1, 1]]])
    np.testing.assert_array_equal(predicted_labels(one), [[[0, 0], [0, 1]]])
    three = tf.constant([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]], shape=[1, 1, 2, 3])
    np.testing.assert_array_equal(predicted_labels(three, 0.9), [[[0, 2]]])
    assert predicted_labels(one).dtype == predicted_labels(three).dtype == tf.int32


@pytest.mark.parametrize("threshold", [0.25, 0.7])
@pytest.mark.parametrize("channels", [1, 3])
def test_counts_take_logits_and_a_threshold(channels, threshold):
    """Whether it is one of those that are counted anyway, or not."""
    labels, probabilities = example(channels)
    logits = np.log(np.clip(probabilities, 1e-6, 1)) - (np.log1p(-probabilities) if channels == 1 else 0)
    found = logit_counts(tf.constant(labels), tf.constant(logits, tf.float32), threshold)
    assert list(found) == ["confusion", "thresholds"]
    confusion, thresholds = found.values()
    predictions = probabilities[..., 0] >= threshold if channels == 1 else probabilities.argmax(-1)
    for n in range(SHAPE[0]):
        for t, p in np.ndindex(*confusion.shape[1:]):
            assert confusion[n, t, p] == np.sum((labels[n] == t) & (predictions[n] == p))
    np.testing.assert_array_equal(thresholds, threshold_counts(tf.constant(labels), probabilities))


def test_two_channels_equal_one():
    labels, _ = example(1)
    logits = np.random.default_rng(1).normal(0, 3, (*SHAPE, 2)).astype(np.float32)
    two = logit_counts(tf.constant(labels), tf.constant(logits))
    one = logit_counts(tf.constant(labels), tf.constant(logits[..., 1:] - logits[..., :1]))
    assert_same(two, one)


def test_counts_in_a_graph_with_an_open_batch_size():
    labels, probabilities = example(3)
    logits = tf.math.log(probabilities + 1e-6)
    signature = [tf.TensorSpec([None, None, None], tf.int32), tf.TensorSpec([None, None, None, 3], tf.float32)]
    compiled = tf.function(logit_counts, input_signature=signature, autograph=False)
    assert_same(compiled(labels, logits), logit_counts(tf.constant(labels), logits))


# Class 1: 4 pixels, 3 predicted, 2 of them right. Class 2: 2 pixels, 4 predicted, 1 right.
TRUTH = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 2]], np.int32)
GUESS = np.array([[1, 1, 0, 0], [2, 0, 0, 0], [0, 1, 0, 2], [0, 0, 2, 0]], np.int32)
GUESS[3, 0] = 2


def test_masks_by_hand():
    confusion = confusion_counts(TRUTH[np.newaxis], GUESS[np.newaxis], 3).numpy()[0]
    np.testing.assert_array_equal(confusion, [[7, 1, 2], [1, 2, 1], [1, 0, 1]])
    result = class_scores(confusion)
    np.testing.assert_allclose(result["dice"], [14 / 19, 4 / 7, 2 / 6])
    np.testing.assert_allclose(result["iou"], [7 / 12, 2 / 5, 1 / 5])
    np.testing.assert_allclose(result["precision"], [7 / 9, 2 / 3, 1 / 4])
    np.testing.assert_allclose(result["recall"], [7 / 10, 2 / 4, 1 / 2])
    headline = scores(confusion, np.ones((2, 10, 2, 2)))
    assert headline["dice"] == pytest.approx((4 / 7 + 2 / 6) / 2)
    assert headline["iou"] == pytest.approx(0.3)
    assert headline["precision"] == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert headline["recall"] == pytest.approx(0.5)
    assert headline["pixel_error"] == pytest.approx(6 / 16)
    assert headline["mean_iou"] == pytest.approx(1 / 3)
    assert all(value.dtype == np.float64 for value in [*result.values(), *headline.values()])


def test_mean_iou_by_hand():
    """16 pixels, 4 of foreground with p = 0.97, 0.72, 0.72, 0.3; one background pixel with p = 0.62."""
    labels = np.zeros((1, 4, 4), np.int32)
    labels[0, 0] = 1
    p = np.zeros((1, 4, 4, 1), np.float32)
    p[0, 0, :, 0] = [0.97, 0.72, 0.72, 0.3]
    p[0, 1, 0, 0] = 0.62
    # 0.5, 0.55, 0.6: 3 hits, 1 invented; 0.65, 0.7: 3 hits; from 0.75: 1 hit.
    expected = 3 * (3 / 5 + 11 / 13) / 2 + 2 * (3 / 4 + 12 / 13) / 2 + 5 * (1 / 4 + 12 / 15) / 2
    thresholds = threshold_counts(labels, p).numpy()[0]
    result = scores(np.array([[11, 1], [1, 3]]), thresholds)
    assert result["mean_iou"] == pytest.approx(expected / 10)


def mean_iou_of_2019(labels: np.ndarray, p: np.ndarray) -> float:
    """At each threshold `tf.metrics.mean_iou` with two classes over all pixels; a class nowhere counts 1."""
    values = []
    for threshold in np.arange(10) * 0.05 + 0.5:
        positive, each = p >= np.float32(threshold), []
        for truth, guess in ((labels == 0, ~positive), (labels == 1, positive)):
            union = np.sum(truth | guess)
            each.append(np.sum(truth & guess) / union if union else 1.0)
        values.append(np.mean(each))
    return float(np.mean(values))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("empty", [False, True])
def test_mean_iou_is_that_of_2019(channels, empty):
    labels, probabilities = example(channels, seed=4)
    if empty:
        labels[:] = 0
        probabilities[..., -1] *= 0.4
    predictions = predicted_labels(tf.constant(probabilities))
    confusion = confusion_counts(tf.constant(labels), predictions, max(channels, 2)).numpy()
    thresholds = threshold_counts(tf.constant(labels), tf.constant(probabilities)).numpy()
    p = foreground(probabilities)

    def expected(images):
        one_class = [
            mean_iou_of_2019((labels[images] == k + 1).astype(int), p[images][..., k]) for k in range(p.shape[-1])
        ]
        return np.mean(one_class)

    pooled = scores(confusion.sum(0), thresholds.sum(0))["mean_iou"]
    assert pooled == pytest.approx(expected(slice(None)), abs=1e-12)
    each = scores(confusion, thresholds)["mean_iou"]
    np.testing.assert_allclose(each, [expected(slice(n, n + 1)) for n in range(SHAPE[0])], atol=1e-12)


@pytest.mark.parametrize(
    ("confusion", "dice", "iou", "precision", "recall"),
    [
        ([[16, 0], [0, 0]], 1.0, 1.0, 1.0, 1.0),  # nothing there, nothing predicted
        ([[13, 3], [0, 0]], 0.0, 0.0, 0.0, 0.0),  # nothing there, something predicted
        ([[12, 0], [4, 0]], 0.0, 0.0, 0.0, 0.0),  # something there, nothing predicted
        ([[0, 0], [0, 16]], 1.0, 1.0, 1.0, 1.0),  # all foreground
    ],
)
def test_empty_masks(confusion, dice, iou, precision, recall):
    result = class_scores(np.array(confusion))
    assert [result[name][1] for name in ("dice", "iou", "precision", "recall")] == [dice, iou, precision, recall]
    headline = scores(np.array(confusion), np.array([[confusion] * 10]))
    assert [headline[name] for name in ("dice", "iou", "precision", "recall")] == [dice, iou, precision, recall]
    # The class "everything else" has its own, by the same convention.
    background = {(16, 0, 0, 0): 1.0, (13, 3, 0, 0): 13 / 16, (12, 0, 4, 0): 12 / 16, (0, 0, 0, 16): 1.0}
    other = background[tuple(np.ravel(confusion))]
    assert headline["mean_iou"] == pytest.approx((iou + other) / 2)


def test_the_batches_do_not_matter():
    """Trap: means of batch means, and a last batch that is dropped."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, (7, 4, 5)).astype(np.int32)
    logits = random.normal(0, 2, (7, 4, 5, 3)).astype(np.float32)

    def pooled(order, size):
        batches = [order[start : start + size] for start in range(0, 7, size)]
        counts = [logit_counts(tf.constant(labels[b]), tf.constant(logits[b])) for b in batches]
        return {name: sum(each[name].numpy().sum(0) for each in counts) for name in counts[0]}

    whole = pooled(np.arange(7), 7)
    for size in (1, 2, 3, 10):
        assert_same(whole, pooled(random.permutation(7), size))
    assert whole["confusion"].sum() == labels.size
    # The same pixels as one wide image.
    wide = logit_counts(labels.reshape(1, 28, 5), tf.reshape(logits, [1, 28, 5, 3]))
    assert_same(whole, {name: each[0] for name, each in wide.items()})


def test_scores_keep_leading_axes():
    confusion = np.random.default_rng(0).integers(0, 9, (2, 5, 3, 3))
    thresholds = np.random.default_rng(1).integers(0, 9, (2, 5, 2, 10, 2, 2))
    result = scores(confusion, thresholds)
    assert list(result) == ["dice", "iou", "mean_iou", "precision", "recall", "pixel_error"]
    for name, values in result.items():
        assert values.shape == (2, 5)
        assert values[1, 3] == scores(confusion[1, 3], thresholds[1, 3])[name]
