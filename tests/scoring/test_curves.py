"""Scores of single pixels against brute force: soft Dice, areas under curves."""

import numpy as np
import pytest

from unet_lowlevel.scoring import curves


def example(channels, seed=0, pixels=300):
    """Labels [N] and probabilities [N, K] that go together, but not always; some probabilities are equal."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(channels, 2), pixels)
    logits = np.round(random.normal(size=(pixels, channels)), 1) + 1.0 * (labels[:, None] == np.arange(channels))
    if channels == 1:
        return labels, (1 / (1 + np.exp(-logits - 2 * labels[:, None]))).astype(np.float32)
    return labels, (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_soft_dice(channels):
    labels, probabilities = example(channels)
    p = np.concatenate([1 - probabilities, probabilities], -1) if channels == 1 else probabilities
    each = []
    for k in range(p.shape[-1]):
        above = below = 0.0
        for i in range(len(labels)):
            y = float(labels[i] == k)
            above += 2 * float(p[i, k]) * y
            below += float(p[i, k]) ** 2 + y**2
        each.append(above / below)
    assert curves.soft_dice(curves.soft_overlaps(labels, probabilities)) == pytest.approx(np.mean(each), rel=1e-6)


def test_soft_dice_without_foreground():
    none = np.zeros(5, int)
    assert curves.soft_dice(curves.soft_overlaps(none, np.zeros((5, 1), np.float32))) == 1.0
    assert curves.soft_dice(curves.soft_overlaps(none, np.full((5, 1), 0.01, np.float32))) == pytest.approx(0.5, 1e-3)


def pairs_in_order(labels, p, k):
    """How often a pixel of class k has the higher probability, over all pairs of pixels."""
    right = [
        1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0
        for i in np.flatnonzero(labels == k)
        for j in np.flatnonzero(labels != k)
    ]
    return np.mean(right)


def steps_of_precision(labels, p, k):
    """Sum over falling cuts of the gain in recall times the precision."""
    area = recall = 0.0
    for cut in sorted(set(p), reverse=True):
        hits = np.sum((p >= cut) & (labels == k))
        now = hits / np.sum(labels == k)
        area, recall = area + (now - recall) * hits / np.sum(p >= cut), now
    return area


@pytest.mark.parametrize("channels", [1, 3])
def test_areas_under_curves(channels):
    labels, probabilities = example(channels)
    counts = curves.histograms(labels, probabilities)
    found = probabilities if channels == 1 else probabilities[:, 1:]
    assert counts.shape == (found.shape[1], 2, curves.BINS) and (counts.sum((1, 2)) == len(labels)).all()
    # As many values as bins they fall into: with one channel all is exact, else near values share a bin.
    tolerance = 1e-12 if channels == 1 else 2e-3
    for k in range(found.shape[1]):
        assert curves.roc_auc(counts)[k] == pytest.approx(pairs_in_order(labels, found[:, k], k + 1), abs=tolerance)
        expected = steps_of_precision(labels, found[:, k], k + 1)
        assert curves.pr_auc(counts)[k] == pytest.approx(expected, abs=10 * tolerance)


def test_sure_networks_are_told_apart():
    """Probabilities next to 0 and 1, where steps of equal width would see one value only."""
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    p = np.array([0, 1e-7, 1e-6, 1e-5, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6, 1], np.float32)
    assert curves.roc_auc(curves.histograms(labels, p[:, None])) == pytest.approx(pairs_in_order(labels, p, 1))


def test_curves_at_their_ends():
    p = np.array([[0.1], [0.2], [0.8], [0.9]], np.float32)
    for labels, roc, pr in (([0, 0, 1, 1], 1.0, 1.0), ([1, 1, 0, 0], 0.0, (1 / 3 + 2 / 4) / 2)):
        counts = curves.histograms(np.array(labels), p)
        assert curves.roc_auc(counts) == pytest.approx(roc) and curves.pr_auc(counts) == pytest.approx(pr)
    same = curves.histograms(np.array([0, 1, 1, 1]), np.full((4, 1), 0.3, np.float32))
    assert curves.roc_auc(same) == pytest.approx(0.5) and curves.pr_auc(same) == pytest.approx(0.75)
    none, all_of_it = (curves.histograms(np.full(4, label), p) for label in (0, 1))
    assert np.isnan(curves.roc_auc(none)).all() and np.isnan(curves.pr_auc(none)).all()
    assert np.isnan(curves.roc_auc(all_of_it)).all() and curves.pr_auc(all_of_it) == pytest.approx(1.0)


def test_mean_of_what_is_known():
    assert curves.known_mean(np.array([1.0, np.nan, 4.0])) == pytest.approx(2.5)
    np.testing.assert_allclose(
        curves.known_mean(np.array([1.0, np.nan, 4.0]), np.array([[3, 9, 1], [0, 1, 0]]))[0], 1.75
    )
    assert np.isnan(curves.known_mean(np.array([1.0, np.nan, 4.0]), np.array([[3, 9, 1], [0, 1, 0]]))[1])
    assert np.isnan(curves.known_mean(np.array([np.nan])))
