"""Dropout: a share of zeros, an unchanged expectation, and nothing random but the seed."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core.ops.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_rate_and_expectation(rate):
    dropped = dropout(tf.ones([10, 100, 100, 1]), rate, tf.constant([3, 4, 0])).numpy()
    # 100,000 coins: five standard deviations.
    assert abs(np.mean(dropped == 0) - rate) < 5 * np.sqrt(rate * (1 - rate) / 1e5)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - rate), rtol=1e-6)
    assert abs(dropped.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / 1e5)


def test_rate_zero_keeps_everything():
    images = tf.constant(normal(2, 3, 4, 5), tf.float32)
    np.testing.assert_array_equal(dropout(images, 0.0, tf.constant([0, 0, 0])), images)


def test_mask_is_a_function_of_the_seed():
    images = tf.constant(normal(2, 8, 8, 4), tf.float32)
    first = dropout(images, 0.5, tf.constant([1, 2, 0]))
    tf.random.set_seed(7)  # The global seed must not matter.
    np.testing.assert_array_equal(dropout(images, 0.5, tf.constant([1, 2, 0])), first)
    in_graph = tf.function(lambda x, seed: dropout(x, 0.5, seed), autograph=False)
    np.testing.assert_array_equal(in_graph(images, tf.constant([1, 2, 0])), first)
    for other in ([1, 3], [2, 2], [2, 1]):
        changed = (dropout(images, 0.5, tf.constant([*other, 0])).numpy() == 0) != (first.numpy() == 0)
        assert 0.3 < changed.mean() < 0.7


def test_every_value_is_drawn_for_itself():
    """Neither a whole channel nor the same pixels of each image fall together."""
    kept = dropout(tf.ones([4, 16, 16, 8]), 0.5, tf.constant([5, 6, 0])).numpy() > 0
    assert kept.mean(axis=(1, 2)).min() > 0.3 and kept.mean(axis=(1, 2)).max() < 0.7
    assert 0.4 < (kept[0] == kept[1]).mean() < 0.6
    assert 0.4 < (kept[..., 0] == kept[..., 1]).mean() < 0.6


def test_gradient_is_the_mask():
    images, seed = tf.constant(normal(2, 4, 4, 2), tf.float32), tf.constant([1, 2, 0])
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = dropout(images, 0.25, seed)
    mask = np.where(outputs.numpy() == 0, 0, 1 / 0.75)
    np.testing.assert_allclose(tape.gradient(outputs, images), mask, rtol=1e-6)
