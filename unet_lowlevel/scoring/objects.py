"""How many objects are found, and how exactly."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.segmentation import relabel_sequential

from unet_lowlevel.scoring.counts import THRESHOLDS


def match_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How many objects match at each of `THRESHOLDS`: int64 [10, 3] of TP, FP, FN.

    A true and a predicted object may match when their IoU is at least the threshold; TP is the greatest number of
    pairs in which no object occurs twice (Weigert et al. 2020, StarDist).

    Args:
        truth, prediction: numbers of objects, int [H, W], 0 for the background.
    """
    truth, prediction = (relabel_sequential(objects)[0] for objects in (truth, prediction))
    true, predicted, pairs, iou = overlaps(truth, prediction)
    hits = np.array([greatest_matching(pairs[:, iou >= threshold]) for threshold in THRESHOLDS])
    return np.stack([hits, predicted.size - hits, true.size - hits], -1)


def overlaps(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which objects overlap, and how much.

    Args:
        truth, prediction: numbers of objects from 1, int [H, W].

    Returns:
        pixels of each true and of each predicted object; true and predicted object, from 0, of every pair that shares
        pixels [2, N]; their IoU [N].
    """
    truth, prediction = (objects.reshape(-1).astype(np.int64) for objects in (truth, prediction))
    true, predicted = np.bincount(truth)[1:], np.bincount(prediction)[1:]
    both = (truth > 0) & (prediction > 0)
    codes, common = np.unique((truth[both] - 1) * predicted.size + prediction[both] - 1, return_counts=True)
    pairs = np.stack(np.divmod(codes, max(predicted.size, 1)))
    return true, predicted, pairs, common / (true[pairs[0]] + predicted[pairs[1]] - common)


def greatest_matching(pairs: np.ndarray) -> int:
    """The greatest number of these pairs [2, N] in which no object occurs twice."""
    if not pairs.size:
        return 0
    graph = csr_array((np.ones(pairs.shape[1], bool), pairs))
    return np.count_nonzero(maximum_bipartite_matching(graph) >= 0)


def average_precision(counts: np.ndarray) -> dict[str, np.ndarray]:
    """AP = TP / (TP + FP + FN) at each of `THRESHOLDS`: ap_50, ap_55, ... ap_95; and their mean, ap.

    1 where there are no objects, neither true nor predicted.

    Args:
        counts: [..., 10, 3] of `match_counts`, or summed over images.
    """
    total = counts.sum(-1)
    values = np.where(total > 0, counts[..., 0] / np.maximum(total, 1), 1.0)
    each = {f"ap_{100 * threshold:.0f}": values[..., s] for s, threshold in enumerate(THRESHOLDS)}
    return {"ap": values.mean(-1)} | each
