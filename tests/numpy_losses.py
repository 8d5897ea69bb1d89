"""The losses once more: float64, plain loops over images, rows, columns and classes, written from the equations.

Slow on purpose. Nothing here is shared with `unet_lowlevel.core.losses`.
"""

import math

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    """[N, H, W, K] of logits -> [N, H, W, max(K, 2)]: the background has a channel, also of one-channel logits."""
    n, height, width, channels = logits.shape
    result = np.zeros((n, height, width, max(channels, 2)))
    for place in np.ndindex(n, height, width):
        z = [0.0, logits[place][0]] if channels == 1 else list(logits[place])
        highest = max(z)
        powers = [math.exp(value - highest) for value in z]
        result[place] = [power / sum(powers) for power in powers]
    return result


def labelled_images(labels, labelled):
    """The images that have a labelled pixel; `labelled` [N, H, W] of 1 and 0, or None: all pixels are labelled."""
    return [n for n in range(len(labels)) if labelled is None or labelled[n].any()]


def sums(labels, p, n, k, labelled=None):
    """(sum_i p g, sum_i p, sum_i g) of class k in image n, over its labelled pixels."""
    overlap = predicted = true = 0.0
    for y, x in np.ndindex(labels.shape[1:]):
        if labelled is not None and not labelled[n, y, x]:
            continue
        g = 1.0 if labels[n, y, x] == k else 0.0
        overlap += p[n, y, x, k] * g
        predicted += p[n, y, x, k]
        true += g
    return overlap, predicted, true


def dice(labels, logits, *, smooth=1.0, over_batch=False, labelled=None):
    p = probabilities(logits)
    images, classes = labelled_images(labels, labelled), range(1, p.shape[-1])
    terms = []
    for k in classes:
        each = [sums(labels, p, n, k, labelled) for n in images]
        groups = [[sum(part) for part in zip(*each, strict=True)]] if over_batch and each else each
        for overlap, predicted, true in groups:
            terms.append(1 - (2 * overlap + smooth) / (predicted + true + smooth))
    return mean(terms)


def batch_dice(labels, logits, *, smooth=1.0, labelled=None):
    return dice(labels, logits, smooth=smooth, over_batch=True, labelled=labelled)


def mean(terms):
    return sum(terms) / len(terms) if terms else 0.0


def generalized_dice(labels, logits, *, labelled=None):
    p = probabilities(logits)
    terms = []
    for n in labelled_images(labels, labelled):
        each = [sums(labels, p, n, k, labelled) for k in range(p.shape[-1])]
        smallest = min(true for _, _, true in each if true)
        above = below = 0.0
        for overlap, predicted, true in each:
            weight = 1 / (true or smallest) ** 2
            above += weight * overlap
            below += weight * (predicted + true)
        terms.append(1 - 2 * above / below)
    return mean(terms)


def focal(labels, logits, *, gamma=2.0, class_weights=(), weight_map=None, labelled=None):
    p = probabilities(logits)
    terms = []
    for place in np.ndindex(labels.shape):
        if labelled is not None and not labelled[place]:
            continue
        label = labels[place]
        weight = (class_weights[label] if class_weights else 1.0) * (1.0 if weight_map is None else weight_map[place])
        q = p[place][label]
        terms.append(-weight * (1 - q) ** gamma * math.log(q))
    return mean(terms)


def cross_entropy(labels, logits, **options):
    return focal(labels, logits, gamma=0.0, **options)


def dice_cross_entropy(labels, logits, *, smooth=1.0, labelled=None, **options):
    regions = dice(labels, logits, smooth=smooth, labelled=labelled)
    return regions + cross_entropy(labels, logits, labelled=labelled, **options)


def tversky(labels, logits, *, alpha=0.3, beta=0.7, smooth=1.0, labelled=None):
    p = probabilities(logits)
    terms = []
    for n in labelled_images(labels, labelled):
        for k in range(1, p.shape[-1]):
            true_positive = false_positive = false_negative = 0.0
            for y, x in np.ndindex(labels.shape[1:]):
                if labelled is not None and not labelled[n, y, x]:
                    continue
                g = 1.0 if labels[n, y, x] == k else 0.0
                true_positive += p[n, y, x, k] * g
                false_positive += p[n, y, x, k] * (1 - g)
                false_negative += (1 - p[n, y, x, k]) * g
            below = true_positive + alpha * false_positive + beta * false_negative + smooth
            terms.append(1 - (true_positive + smooth) / below)
    return mean(terms)


def gradient(loss, logits: np.ndarray, difference: float = 1e-5) -> np.ndarray:
    """Central finite differences of `loss(logits)` in every logit."""
    result = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        moved = logits.copy()
        moved[place] += difference
        above = loss(moved)
        moved[place] -= 2 * difference
        result[place] = (above - loss(moved)) / (2 * difference)
    return result
