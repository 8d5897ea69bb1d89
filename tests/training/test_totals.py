"""What the steps of an epoch add up to."""

import numpy as np

from unet_lowlevel.training.totals import Totals


def test_totals_survive_as_text():
    totals = Totals()
    totals.steps, totals.images, totals.loss, totals.seconds = 3, 12, 0.1 + 0.2, 1.5
    totals.confusion, totals.thresholds = np.array([[5, 1], [2, 8]]), np.arange(20).reshape(10, 2)
    again = Totals.from_json(totals.to_json())
    assert vars(again).keys() == vars(totals).keys() and again.loss == totals.loss and again.scores
    for name in ("steps", "images", "seconds"):
        assert getattr(again, name) == getattr(totals, name)
    np.testing.assert_array_equal(again.confusion, totals.confusion)
    np.testing.assert_array_equal(again.thresholds, totals.thresholds)
    assert again.confusion.dtype == np.int64
    assert vars(Totals.from_json("")) == vars(Totals())
