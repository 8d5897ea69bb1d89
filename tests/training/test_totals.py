"""What the steps of an epoch add up to."""

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.training.totals import Totals


def test_every_image_counts_the_same():
    """Three images of loss 1 and one of loss 5 have a mean loss of 2, and their pixels are added."""
    totals = Totals()
    for loss, images in ((1.0, 3), (5.0, 1)):
        counts = {
            "confusion": tf.ones([images, 2, 2], tf.int64),
            "thresholds": tf.ones([images, 1, 10, 2, 2], tf.int64),
        }
        totals.add({"loss": tf.constant(loss)} | counts, images)
    assert totals.steps == 2 and totals.images == 4 and totals.scores()["loss"] == 2.0
    assert totals.scores()["dice"] == pytest.approx(0.5)
    assert (totals.confusion == 4).all() and (totals.thresholds == 4).all() and totals.thresholds.shape == (1, 10, 2, 2)


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
