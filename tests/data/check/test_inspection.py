"""Facts about a pair against NumPy's own."""

import numpy as np
import pytest

from unet_lowlevel.config import IGNORED
from unet_lowlevel.data.check.inspection import facts_of_mask, probability_of_greater, signature, traits_of

RANDOM = np.random.default_rng(0)


def test_signature_is_what_an_area_average_gives():
    image = RANDOM.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cells = image.mean(-1).reshape(32, 2, 32, 3).mean((1, 3)).ravel()
    other = RANDOM.normal(size=32 * 32)
    expected = np.corrcoef(cells, other)[0, 1]
    other = (other - other.mean()) / np.linalg.norm(other - other.mean())
    assert signature(image) @ other == pytest.approx(expected, abs=1e-5)
    assert not signature(np.full((7, 5, 1), 200.3, np.float32)).any()
    assert signature(image[:7, :5]).shape == (32 * 32,)


def test_probability_of_greater_is_that_of_all_pairs():
    values = RANDOM.integers(0, 40, 200).astype(np.uint8)
    chosen = RANDOM.random(200) < 0.3
    pairs = np.sign(values[chosen][:, None].astype(int) - values[~chosen].astype(int))
    assert probability_of_greater(values, chosen) == pytest.approx((pairs.mean() + 1) / 2)


def test_of_a_mask_only_what_is_labelled_is_measured():
    """A square, brighter than the rest, of which the right half and half of the other pixels are not labelled."""
    label = np.zeros((64, 64), np.uint8)
    label[16:48, 16:48] = 1
    image = (label * 100 + RANDOM.integers(0, 100, label.shape)).astype(np.uint8)[..., np.newaxis]
    partly = np.where(np.arange(64) < 32, label, IGNORED).astype(np.uint8)
    facts = facts_of_mask(partly, ())
    assert facts.counts.tolist() == [64 * 32 - 32 * 16, 32 * 16] and facts.foreground == 0.25 and facts.labelled == 0.5
    whole, part = traits_of(image, label), traits_of(image, partly)
    assert part.foreground == 0.25 and part.brightness > 0.97 and whole.border == part.border == 0
    # The cut through the square is no outline.
    assert part.edges == pytest.approx(whole.edges, abs=0.05)
    assert traits_of(image, np.where(label, label, IGNORED)) is None  # only foreground is labelled


def test_traits_without_pixels_that_do_not_count():
    label = np.zeros((40, 50), np.uint8)
    label[:20, 5:30] = 1
    image = RANDOM.integers(0, 256, (*label.shape, 1), dtype=np.uint8)
    frame = np.ones(label.shape, bool)
    frame[2:-2, 3:-3] = False
    traits = traits_of(image, label)
    assert traits.foreground == 0.25 and traits.border == label[frame].mean()
