"""The mean of what counts."""

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.core.ops.masked_mean import masked_mean


@pytest.mark.parametrize(
    ("mask", "expected"), [([[1.0, 0.0], [0.0, 1.0]], 2.5), ([[1.0], [0.0]], 1.5), ([0.0], 0.0), ([1.0], 2.5)]
)
def test_masked_mean_by_hand(mask, expected):
    assert float(masked_mean(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant(mask))) == expected


def test_what_is_masked_has_no_gradient():
    values, mask = tf.Variable([1.0, 2.0, 3.0]), tf.constant([1.0, 0.0, 1.0])
    with tf.GradientTape() as tape:
        mean = masked_mean(values, mask)
    np.testing.assert_array_equal(tape.gradient(mean, values), [0.5, 0, 0.5])
