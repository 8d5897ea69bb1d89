"""Scores of single pixels: those of `counts.py`, Dice of probabilities, areas under ROC and precision-recall curves."""

import numpy as np
import tensorflow as tf

from unet_lowlevel.scoring.counts import probability_counts, scores

# For ROC and PR curves, probabilities in the same of BINS equal steps of the logit, -LOGIT to LOGIT, count as equal.
BINS = 1024
LOGIT = 18.0


def pixel_counts(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """The counts behind `pixel_scores`.

    Args:
        labels: int [N], the class of each pixel.
        probabilities: float32 [N, K].
        threshold: see `counts.predicted_labels`.
    """
    counted = probability_counts(
        tf.constant(labels[np.newaxis, np.newaxis].astype(np.int32)),
        tf.constant(probabilities[np.newaxis, np.newaxis]),
        threshold,
    )
    return {
        **{name: count[0].numpy() for name, count in counted.items()},
        "overlaps": soft_overlaps(labels, probabilities),
        "histograms": histograms(labels, probabilities),
    }


def pixel_scores(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`counts.scores`, soft_dice, and the means of roc_auc and pr_auc over the foreground classes; each [...].

    Only `counts.scores` of counts of decided pixels alone, those of a training.
    """
    found = scores(counts["confusion"], counts["thresholds"])
    if "histograms" not in counts:
        return found
    return found | {
        "soft_dice": soft_dice(counts["overlaps"]),
        "roc_auc": known_mean(roc_auc(counts["histograms"])),
        "pr_auc": known_mean(pr_auc(counts["histograms"])),
    }


def known_mean(values: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Weighted mean over the last axis of the values that are not NaN; NaN if there are none."""
    weights = np.where(np.isnan(values), 0.0, weights)
    total = weights.sum(-1)
    mean = (np.nan_to_num(values) * weights).sum(-1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)


def soft_overlaps(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """sum_i 2 p y and sum_i p^2 + y^2 of every class, background included: float64 [classes, 2]."""
    if probabilities.shape[-1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], -1)
    sums = []
    for k in range(probabilities.shape[-1]):
        p, y = probabilities[..., k], labels == k
        sums.append([2 * p[y].sum(dtype=np.float64), np.square(p).sum(dtype=np.float64) + y.sum()])
    return np.array(sums)


def soft_dice(overlaps: np.ndarray) -> np.ndarray:
    """Dice of probabilities with squares in the denominator, mean over all classes, as NVIDIA's for ISBI 2012.

    mean over k of sum_i 2 p y / sum_i (p^2 + y^2);  1 where a class has neither

    Args:
        overlaps: [..., classes, 2] of `soft_overlaps`.
    """
    above, below = overlaps[..., 0], overlaps[..., 1]
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 1.0).mean(-1)


def histograms(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """For every foreground class, pixels of other classes and of the class in each bin: int64 [K', 2, BINS]."""
    found = np.clip(probabilities if probabilities.shape[-1] == 1 else probabilities[..., 1:], 0, 1)
    with np.errstate(divide="ignore"):  # 0 and 1 become infinite, and belong to the outer bins
        logits = np.log(found) - np.log1p(-found)
    bins = np.clip((logits + LOGIT) * (BINS / (2 * LOGIT)), 0, BINS - 1).astype(np.int64)
    return np.stack(
        [
            np.bincount((labels == k + 1) * BINS + bins[..., k], minlength=2 * BINS).reshape(2, BINS)
            for k in range(found.shape[-1])
        ]
    )


def roc_auc(histograms: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often a pixel of the class has a higher probability than one of another.

    Ties count half. NaN if the class or all others have no pixels.

    Args:
        histograms: [..., 2, BINS] of `histograms`.
    """
    negative, positive = histograms[..., 0, :], histograms[..., 1, :]
    lower = np.cumsum(negative, -1) - negative
    pairs = negative.sum(-1, dtype=np.float64) * positive.sum(-1)
    right = (positive * (lower + negative / 2)).sum(-1)
    return np.where(pairs > 0, right / np.where(pairs > 0, pairs, 1.0), np.nan)


def pr_auc(histograms: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve, sum over cuts of the gain in recall times the precision.

    NaN without pixels of the class.

    Args:
        histograms: [..., 2, BINS] of `histograms`.
    """
    positive = histograms[..., 1, :]
    at_least = np.cumsum(histograms[..., ::-1], -1)[..., ::-1]
    precision = at_least[..., 1, :] / np.maximum(at_least.sum(-2), 1)
    total = positive.sum(-1)
    return np.where(total > 0, (positive * precision).sum(-1) / np.maximum(total, 1), np.nan)
