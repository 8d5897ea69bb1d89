"""How many objects are found, and how exactly."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_lowlevel.scoring.counts import THRESHOLDS
from unet_lowlevel.scoring.curves import known_mean

# The scores of each class, where there are several.
BY_CLASS = ("ap", "ap_50", "ap_75")


@dataclass(frozen=True, eq=False)
class Objects:
    """The single objects in an image.

    Attributes:
        numbers: of the object that each pixel belongs to, int [H, W], from 1; 0 for the background.
        classes: of each object, int [N], from 1; object n has classes[n - 1].
    """

    numbers: np.ndarray
    classes: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each object, int64 [N]."""
        return np.bincount(self.numbers.reshape(-1), minlength=self.classes.size + 1)[1:]

    def of_class(self, index: int) -> np.ndarray:
        """`numbers` of the objects of one class, 0 elsewhere."""
        return np.where(np.append(0, self.classes)[self.numbers] == index, self.numbers, 0)

    def without_small(self, smallest: float) -> "Objects":
        """The objects of at least `smallest` pixels, and at least one, numbered without gaps in their order; int32."""
        keep = self.areas >= max(smallest, 1)
        numbers = np.append(0, np.where(keep, np.cumsum(keep), 0)).astype(np.int32)
        return Objects(numbers[self.numbers], self.classes[keep])


def match_counts(truth: Objects, prediction: Objects, classes: int) -> np.ndarray:
    """How many objects of each foreground class match at each of `THRESHOLDS`: int64 [classes - 1, 10, 3], TP, FP, FN.

    A true and a predicted object of one class may match when their IoU is at least the threshold; TP is the greatest
    number of pairs in which no object occurs twice (Weigert et al. 2020, StarDist).
    """
    return counts_at_each(truth.classes, prediction.classes, *overlaps(truth, prediction), classes)


def counts_at_each(
    true: np.ndarray, predicted: np.ndarray, pairs: np.ndarray, iou: np.ndarray, classes: int
) -> np.ndarray:
    """`class_counts` at each of `THRESHOLDS`, of `overlaps`: int64 [classes - 1, 10, 3]."""
    return np.stack([class_counts(true, predicted, pairs[:, iou >= s], classes) for s in THRESHOLDS], 1)


def class_counts(true: np.ndarray, predicted: np.ndarray, pairs: np.ndarray, classes: int) -> np.ndarray:
    """TP, FP and FN of each foreground class, int64 [classes - 1, 3].

    Args:
        true, predicted: the class of each object; 0: it does not count.
        pairs: true and predicted object, from 0, of every pair that overlaps enough to match [2, N].
        classes: with the background.
    """
    counts = []
    for k in range(1, classes):
        hits = greatest_matching(pairs[:, (true[pairs[0]] == k) & (predicted[pairs[1]] == k)])
        counts.append((hits, np.count_nonzero(predicted == k) - hits, np.count_nonzero(true == k) - hits))
    return np.array(counts, np.int64)


def overlaps(truth: Objects, prediction: Objects) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted object, from 0, of every pair that shares pixels [2, N]; and their IoU [N]."""
    numbers = [objects.numbers.reshape(-1).astype(np.int64) - 1 for objects in (truth, prediction)]
    both = (numbers[0] >= 0) & (numbers[1] >= 0)
    true, predicted = truth.areas, prediction.areas
    codes, common = np.unique(numbers[0][both] * predicted.size + numbers[1][both], return_counts=True)
    pairs = np.stack(np.divmod(codes, max(predicted.size, 1)))
    return pairs, common / (true[pairs[0]] + predicted[pairs[1]] - common)


def greatest_matching(pairs: np.ndarray) -> int:
    """The greatest number of these pairs [2, N] in which no object occurs twice."""
    if all(np.bincount(objects).max(initial=0) <= 1 for objects in pairs):  # always so above IoU 0.5
        return pairs.shape[1]
    graph = csr_array((np.ones(pairs.shape[1], bool), pairs))
    return np.count_nonzero(maximum_bipartite_matching(graph) >= 0)


def average_precision(counts: np.ndarray) -> dict[str, np.ndarray]:
    """AP = TP / (TP + FP + FN) at each of `THRESHOLDS`: ap_50, ap_55, ... ap_95; and their mean, ap.

    Each is the mean over the foreground classes that have objects, true or predicted; 1 where none has any. With
    several classes also ap_class_1, ap_50_class_1, ap_75_class_1, ... of each, NaN where it has no objects.

    Args:
        counts: [..., classes - 1, 10, 3] of `match_counts`, or summed over images.
    """
    each = class_precision(counts)
    values = {"ap": each.mean(-1)} | {f"ap_{100 * s:.0f}": each[..., i] for i, s in enumerate(THRESHOLDS)}
    scores = {name: mean_precision(of_classes) for name, of_classes in values.items()}
    if (classes := each.shape[-2]) > 1:
        scores |= {f"{name}_class_{k + 1}": values[name][..., k] for k in range(classes) for name in BY_CLASS}
    return scores


def class_precision(counts: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN) of counts [..., 3]; NaN where there are no objects."""
    total = counts.sum(-1)
    return np.where(total > 0, counts[..., 0] / np.maximum(total, 1), np.nan)


def mean_precision(of_classes: np.ndarray) -> np.ndarray:
    """The mean over the classes [..., K] that are not NaN; 1 where all are."""
    return np.where(np.isnan(of_classes).all(-1), 1.0, known_mean(of_classes))
