"""Scores of single pixels, all from counts of pixels.

The counts of images are added, so that a score over a data set does not depend on how the images were
batched. For 0 / 0, a class that is in neither truth nor prediction scores 1.0; a class that is in only
one of them scores 0.0.
"""

import numpy as np
import tensorflow as tf

from unet_lowlevel.core.losses import probabilities

# `mean_iou` cuts the prediction at each of these probabilities, to show how sure the network is.
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
# Those of a precision-recall curve; every second of the upper half is one of `THRESHOLDS`.
CURVE = tuple(round(0.025 * i, 3) for i in range(41))
OF_CURVE = slice(20, 40, 2)


def predicted_labels(probabilities: tf.Tensor, threshold: float = 0.5) -> tf.Tensor:
    """The class of each pixel, int32 [N, H, W].

    One channel: 1 where the probability is at least `threshold`, else 0. More: the most probable class.
    """
    if probabilities.shape[-1] == 1:
        return tf.cast(probabilities[..., 0] >= threshold, tf.int32)
    return tf.argmax(probabilities, -1, output_type=tf.int32)


def occurrences(cells: tf.Tensor, count: int | tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """How often each number 0 ... count - 1 occurs in `cells`, where `counted` (None: everywhere): int64 [count]."""
    if counted is None:
        return tf.math.bincount(tf.reshape(cells, [-1]), minlength=count, dtype=tf.int64)
    cells = tf.where(counted, cells, count)  # left out by `maxlength`
    return tf.math.bincount(tf.reshape(cells, [-1]), minlength=count, maxlength=count, dtype=tf.int64)


def confusion_counts(labels: tf.Tensor, predictions: tf.Tensor, classes: int, ignored: int | None = None) -> tf.Tensor:
    """counts[n, t, p] = pixels of image n whose true class is t and whose predicted class is p.

    Args:
        labels, predictions: int32 [N, H, W] with values 0 ... classes - 1.
        classes: at least 2.
        ignored: the label of pixels that do not count; None: all count.

    Returns:
        int64 [N, classes, classes]
    """
    n = tf.shape(labels)[0]
    image = tf.range(n)[:, tf.newaxis, tf.newaxis]
    cell = (image * classes + labels) * classes + predictions
    counts = occurrences(cell, n * classes**2, None if ignored is None else labels != ignored)
    return tf.reshape(counts, [n, classes, classes])


def threshold_counts(
    labels: tf.Tensor,
    probabilities: tf.Tensor,
    ignored: int | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> tf.Tensor:
    """Confusion counts of each foreground class against the rest, at each threshold.

    counts[n, k, s, t, p] = pixels i of image n with [label = class] = t and [probability >= thresholds[s]] = p,
    where class = 1 + k, and probability is that of the class.

    Args:
        labels: int32 [N, H, W].
        probabilities: float32 [N, H, W, K], none of them NaN.
        ignored: see `confusion_counts`.
        thresholds: S of them, rising.

    Returns:
        int64 [N, max(K - 1, 1), S, 2, 2]
    """
    foreground = probabilities if probabilities.shape[-1] == 1 else probabilities[..., 1:]
    classes = foreground.shape[-1]
    n = tf.shape(labels)[0]
    truth = tf.cast(labels[..., tf.newaxis] == tf.range(1, classes + 1), tf.int32)
    # Pixels are counted by the number of thresholds they pass; sums from above then give the counts at each threshold.
    passed = tf.raw_ops.Bucketize(input=foreground, boundaries=thresholds)
    group = tf.range(n)[:, tf.newaxis, tf.newaxis, tf.newaxis] * classes + tf.range(classes)
    bins = len(thresholds) + 1
    cell = (group * 2 + truth) * bins + passed
    counted = None if ignored is None else labels[..., tf.newaxis] != ignored
    histogram = occurrences(cell, n * classes * 2 * bins, counted)
    histogram = tf.reshape(histogram, [n, classes, 2, bins])
    at_least = tf.cumsum(histogram, axis=-1, reverse=True)
    positive = at_least[..., 1:]
    counts = tf.stack([at_least[..., :1] - positive, positive], axis=-1)
    return tf.transpose(counts, [0, 1, 3, 2, 4])


def probability_counts(
    labels: tf.Tensor,
    probabilities: tf.Tensor,
    threshold: float = 0.5,
    ignored: int | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> dict[str, tf.Tensor]:
    """The counts of each image for the scores, from probabilities [N, H, W, K].

    Returns:
        confusion: `confusion_counts` of the decided classes; thresholds: `threshold_counts`.
    """
    table = threshold_counts(labels, probabilities, ignored, thresholds)
    if probabilities.shape[-1] == 1 and threshold in thresholds:
        return {"confusion": table[:, 0, thresholds.index(threshold)], "thresholds": table}  # counted already
    predictions = predicted_labels(probabilities, threshold)
    confusion = confusion_counts(labels, predictions, max(probabilities.shape[-1], 2), ignored)
    return {"confusion": confusion, "thresholds": table}


def logit_counts(
    labels: tf.Tensor, logits: tf.Tensor, threshold: float = 0.5, ignored: int | None = None
) -> dict[str, tf.Tensor]:
    """`probability_counts` from logits [N, H, W, K]."""
    return probability_counts(labels, probabilities(logits), threshold, ignored)


def ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """numerator / denominator, and `otherwise` where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), otherwise)


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of every class against the rest, from the counts TP, FP and FN of the class.

    dice = 2 TP / (2 TP + FP + FN);  iou = TP / (TP + FP + FN)
    precision = TP / (TP + FP);  recall = TP / (TP + FN)

    Args:
        confusion: whole numbers [..., classes, classes], rows the truth, columns the prediction.

    Returns:
        each score float64 [..., classes] in [0, 1].
    """
    confusion = np.asarray(confusion, np.float64)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, true = confusion.sum(-2), confusion.sum(-1)
    absent = np.where(predicted + true > 0, 0.0, 1.0)
    return {
        "dice": ratio(2 * hit, predicted + true, absent),
        "iou": ratio(hit, predicted + true - hit, absent),
        "precision": ratio(hit, predicted, absent),
        "recall": ratio(hit, true, absent),
    }


def scores(confusion: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """The headline scores: means over the foreground classes.

    mean_iou as in the 2019 project: at each of `THRESHOLDS` the mean of the IoU of the class and of the
    IoU of everything else, then the mean over thresholds and foreground classes. It rewards the background: a
    prediction without any foreground scores half the share of background.
    pixel_error = wrong pixels / all pixels; 0 / 0 = 0.

    Args:
        confusion: [..., classes, classes] of `confusion_counts`; per image, or summed over images.
        thresholds: [..., classes - 1, 10, 2, 2] of `threshold_counts`.

    Returns:
        dice, iou, mean_iou, precision, recall, pixel_error; each float64 [...].
    """
    confusion = np.asarray(confusion, np.float64)
    result = {name: values[..., 1:].mean(-1) for name, values in class_scores(confusion).items()}
    result["mean_iou"] = class_scores(thresholds)["iou"].mean((-1, -2, -3))
    right = np.diagonal(confusion, axis1=-2, axis2=-1).sum(-1)
    result["pixel_error"] = 1.0 - ratio(right, confusion.sum((-2, -1)), 1.0)
    return {name: result[name] for name in ("dice", "iou", "mean_iou", "precision", "recall", "pixel_error")}
