"""Distances between surfaces against brute force and by hand."""

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance

from unet_lowlevel.scoring.surfaces import surface_distances, surface_scores, surface_sums


def surface(mask):
    """Pixels with one of four neighbours outside, or on the border of the image."""
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if not all(
            0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1] and mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


@pytest.mark.parametrize("seed", range(6))
def test_surface_distances(seed):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :40]
    truth = np.hypot(y - random.uniform(5, 25), x - random.uniform(5, 35)) < random.uniform(2, 9)
    prediction = (np.abs(y - 12) < random.uniform(2, 6)) & (np.abs(x - 20) < 9) | (random.uniform(size=y.shape) < 0.01)
    one, other = surface(truth), surface(prediction)
    forth = [min(np.hypot(a - c, b - d) for c, d in other) for a, b in one]
    back = [min(np.hypot(a - c, b - d) for c, d in one) for a, b in other]
    hd95, mean = surface_distances(truth, prediction)
    assert mean == pytest.approx(np.mean(forth + back))
    assert hd95 == pytest.approx(max(percentile(forth, 0.95), percentile(back, 0.95)))
    masks = np.zeros((2, *truth.shape), bool)
    for mask, points in zip(masks, (one, other), strict=True):
        mask[tuple(np.transpose(points))] = True
    assert max(forth + back) == pytest.approx(hausdorff_distance(*masks))
    assert mean <= hd95 <= hausdorff_distance(*masks)
    assert surface_distances(prediction, truth) == pytest.approx((hd95, mean))


def percentile(values, q):
    """Between the two sorted values on both sides of place q (n - 1)."""
    values, place = sorted(values), q * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_surface_distances_by_hand():
    """Two squares, one moved by 3 pixels; and masks that are empty."""
    truth, moved, empty = np.zeros((3, 30, 40), bool)
    truth[5:15, 5:15] = moved[5:15, 8:18] = True
    assert surface_distances(truth, moved)[0] == pytest.approx(3.0)
    assert surface_distances(truth, truth) == (0.0, 0.0)
    assert surface_distances(empty, empty) == (0.0, 0.0)
    assert surface_distances(truth, empty) == surface_distances(empty, truth) == (50.0, 50.0)


def test_surfaces_of_several_classes():
    truth, prediction = np.zeros((2, 30, 40), int)
    truth[5:15, 5:15], prediction[5:15, 8:18] = 2, 2
    sums = surface_sums(truth, prediction, 3)
    np.testing.assert_allclose(sums[0], 1.5)  # class 1 is in neither
    each = np.stack([sums, [0, 0, 1]])
    assert surface_scores(each.sum(0))["hd95"] == pytest.approx(0.75)
    np.testing.assert_allclose(surface_scores(each)["hd95"], [1.5, 0])
