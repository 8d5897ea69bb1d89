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


def sums(labels, p, n, k):
    """(sum_i p g, sum_i p, sum_i g) of class k in image n."""
    overlap = predicted = true = 0.0
    for y, x in np.ndindex(labels.shape[1:]):
        g = 1.0 if labels[n, y, x] == k else 0.0
        overlap += p[n, y, x, k] * g
        predicted += p[n, y, x, k]
        true += g
    return overlap, predicted, true


def dice(labels, logits, *, smooth=1.0, over_batch=False):
    p = probabilities(logits)
    images, classes = range(len(labels)), range(1, p.shape[-1])
    terms = []
    for k in classes:
        each = [sums(labels, p, n, k) for n in images]
        groups = [[sum(part) for part in zip(*each, strict=True)]] if over_batch else each
        for overlap, predicted, true in groups:
            terms.append(1 - (2 * overlap + smooth) / (predicted + true + smooth))
    return sum(terms) / len(terms)


def generalized_dice(labels, logits):
    p = probabilities(logits)
    terms = []
    for n in range(len(labels)):
        each = [sums(labels, p, n, k) for k in range(p.shape[-1])]
        smallest = min(true for _, _, true in each if true)
        above = below = 0.0
        for overlap, predicted, true in each:
            weight = 1 / (true or smallest) ** 2
            above += weight * overlap
            below += weight * (predicted + true)
        terms.append(1 - 2 * above / below)
    return sum(terms) / len(terms)


def focal(labels, logits, *, gamma=2.0, class_weights=(), weight_map=None):
    p = probabilities(logits)
    total = 0.0
    for place in np.ndindex(labels.shape):
        label = labels[place]
        weight = (class_weights[label] if class_weights else 1.0) * (1.0 if weight_map is None else weight_map[place])
        q = p[place][label]
        total -= weight * (1 - q) ** gamma * math.log(q)
    return total / labels.size


def cross_entropy(labels, logits, *, class_weights=(), weight_map=None):
    return focal(labels, logits, gamma=0.0, class_weights=class_weights, weight_map=weight_map)


def dice_cross_entropy(labels, logits, *, smooth=1.0, class_weights=(), weight_map=None):
    regions = dice(labels, logits, smooth=smooth)
    return regions + cross_entropy(labels, logits, class_weights=class_weights, weight_map=weight_map)


def tversky(labels, logits, *, alpha=0.3, beta=0.7, smooth=1.0):
    p = probabilities(logits)
    terms = []
    for n in range(len(labels)):
        for k in range(1, p.shape[-1]):
            true_positive = false_positive = false_negative = 0.0
            for y, x in np.ndindex(labels.shape[1:]):
                g = 1.0 if labels[n, y, x] == k else 0.0
                true_positive += p[n, y, x, k] * g
                false_positive += p[n, y, x, k] * (1 - g)
                false_negative += (1 - p[n, y, x, k]) * g
            below = true_positive + alpha * false_positive + beta * false_negative + smooth
            terms.append(1 - (true_positive + smooth) / below)
    return sum(terms) / len(terms)


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
