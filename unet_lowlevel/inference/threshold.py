"""The threshold of the mask, of networks with one class: chosen on held-out images, stored in the run folder."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import IGNORED
from unet_lowlevel.errors import UserError
from unet_lowlevel.run_folder import store
from unet_lowlevel.scoring.counts import THRESHOLDS, class_scores, threshold_counts
from unet_lowlevel.settings import load_json

FILE = "threshold.json"
# 0.05, 0.075, ... 0.95.
CANDIDATES = tuple(round(0.025 * step, 3) for step in range(2, 39))
MIDDLE = CANDIDATES.index(0.5)


def counts_of_candidates(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The pixels of an image, by truth and prediction, at each of `CANDIDATES`: int64 [37, 2, 2].

    Args:
        label: uint8 [H, W] of 0, 1 and `IGNORED`, which does not count.
        probabilities: float32 [H, W, 1].
    """
    labels, found = tf.constant(label[np.newaxis], tf.int32), tf.constant(probabilities[np.newaxis])
    return threshold_counts(labels, found, IGNORED, CANDIDATES)[0, 0].numpy()


def dice_of(counts: np.ndarray) -> np.ndarray:
    """The Dice of the foreground, float64 [...] of [..., 2, 2]; see `counts.class_scores`.

    In an image without foreground it is 1 where nothing is found, and 0 from one pixel on.
    """
    return class_scores(counts)["dice"][..., 1]


def counts_at(counts: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """`counts_of_candidates` as `counts.probability_counts` of the image would be at one of the `CANDIDATES`."""
    at_each = [CANDIDATES.index(t) for t in THRESHOLDS]
    return {"confusion": counts[CANDIDATES.index(threshold)], "thresholds": counts[np.newaxis, at_each]}


def choose_threshold(dice: np.ndarray) -> float:
    """Of the `CANDIDATES` as good as the best, the nearest to 0.5 (of two as near that with the greater mean Dice).

        best    = argmax_t mean_i dice[i, t]
        d[i, t] = dice[i, best] - dice[i, t]
        t is as good as the best if  mean_i d[i, t] <= std_i d[i, t] / sqrt(n)

    The right side is the standard error of the mean, with n - 1 in the deviation. A few images therefore move the
    threshold only if they agree: one alone never does, for its d[i, t] / n equals that error. Nor does a curve that is
    flat. It is the one-standard-error rule (Breiman et al. 1984, section 3.4.3), where 0.5 is the simplest choice.

    Args:
        dice: `dice_of` each image at each of them, [n, 37].
    """
    images, mean = len(dice), dice.mean(0)
    if images == 1:
        return CANDIDATES[MIDDLE]
    worse = dice[:, [mean.argmax()]] - dice
    error = worse.std(0, ddof=1) / math.sqrt(images)
    good = np.flatnonzero(worse.mean(0) <= error + 1e-9)  # beyond rounding, for one image alone
    return CANDIDATES[min(good, key=lambda t: (abs(t - MIDDLE), -mean[t]))]


def write_threshold(run: Path, threshold: float) -> None:
    """Stores the threshold in the run folder, or raises a `UserError`."""
    store(run, FILE, {"threshold": threshold})


def read_threshold(run: Path) -> float:
    """The threshold stored in the run folder, else 0: none was chosen.

    Raises:
        UserError: when the file cannot be used.
    """
    if not (run / FILE).exists():
        return 0.0
    values = load_json(run / FILE)
    threshold = values.get("threshold") if isinstance(values, dict) else None
    if type(threshold) is not float or not 0 < threshold < 1:
        raise UserError(f"{run / FILE} does not hold a threshold between 0 and 1: write one there, or remove the file.")
    return threshold
