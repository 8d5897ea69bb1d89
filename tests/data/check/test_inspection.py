"""Facts about a pair against NumPy's own."""

import numpy as np
import pytest

from unet_lowlevel.data.check.inspection import probability_of_greater, signature

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
