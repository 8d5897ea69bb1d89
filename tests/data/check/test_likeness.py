"""Images that are like others, and masks that are unlike the others."""

import numpy as np
import pytest

from unet_lowlevel.data.check import likeness
from unet_lowlevel.data.check.inspection import Traits

RANDOM = np.random.default_rng(0)


def test_near_duplicates_of_many(monkeypatch):
    """Blocks do not matter, sets are closed, and a group is one's own affair."""
    monkeypatch.setattr(likeness, "BLOCK", 7)
    signatures = RANDOM.normal(size=(60, 1024)).astype(np.float32)
    for a, b in ((3, 50), (50, 20), (8, 9)):
        signatures[b] = signatures[a] + 0.01 * RANDOM.normal(size=1024)
    signatures -= signatures.mean(1, keepdims=True)
    signatures /= np.linalg.norm(signatures, axis=1, keepdims=True)
    groups = np.arange(60).astype(str)
    assert sorted(likeness.near_duplicates(signatures, groups)) == [[3, 20, 50], [8, 9]]
    groups[9] = groups[8]
    assert likeness.near_duplicates(signatures, groups) == [[3, 20, 50]]


def kind(brightness, number):
    """Masks of objects that are so bright."""
    return [Traits(*np.array([0.15, brightness, 0.9, 0.05]) + RANDOM.normal(0, 0.02, 4)) for _ in range(number)]


def test_misplaced_among_two_kinds():
    """Bright objects on dark ground and dark ones on bright ground: neither is inverted, but their inverses are."""
    both = kind(0.95, 40) + kind(0.05, 10)
    assert likeness.misplaced(both) == ([], [])
    wrong = [both[0].inverted(), both[45].inverted(), Traits(0.5, 0.5, 0.5, 0.5)]
    assert likeness.misplaced(both + wrong) == ([50, 51], [52])
    assert likeness.misplaced(both[:6]) == ([], [])


@pytest.mark.parametrize(("number", "found"), [(1, 1), (8, 8), (12, 12), (20, 0)])
def test_thirty_percent_of_the_masks_may_be_inverted(number, found):
    """Of half of them nobody can tell which half it is."""
    masks = kind(0.9, 40)
    masks[:number] = [mask.inverted() for mask in masks[:number]]
    assert likeness.misplaced(masks)[0] == list(range(found))
