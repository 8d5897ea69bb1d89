"""Activations: values, slopes, and the far negative end."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.activations import ACTIVATIONS, TRAINING_ACTIVATIONS, elu, elu_for_training, relu
from unet_lowlevel.settings import settings


def test_by_hand():
    values = tf.constant([-1e4, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(elu(values), [-1.0, np.exp(-1.0) - 1.0, 0.0, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(relu(values), [0, 0, 0, 2])


@pytest.mark.parametrize(("op", "oracle"), [(elu, numpy_reference.elu), (relu, numpy_reference.relu)])
def test_equals_reference(op, oracle):
    images = 3 * normal(2, 3, 4, 2)
    assert_computes(op, [images], oracle(images))
    assert_gradients(op, [images])


def test_every_choice_of_the_settings_exists():
    assert set(ACTIVATIONS) == set(TRAINING_ACTIVATIONS) == set(settings()["activation"][1].metadata["choices"])


def test_bfloat16_elu_and_its_gradient_are_float32s_rounded():
    values = np.concatenate([np.linspace(-8, 8, 1001), [0.0, -0.0, -100.0, 100.0]])
    images = tf.cast(tf.constant(values, tf.float32), tf.bfloat16)
    weights = tf.cast(tf.constant(np.cos(np.arange(len(values))), tf.float32), tf.bfloat16)
    results = []
    for x in (images, tf.cast(images, tf.float32)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = elu_for_training(x)
            loss = tf.reduce_sum(tf.cast(outputs * tf.cast(weights, x.dtype), tf.float32))
        assert outputs.dtype == x.dtype
        results.append([tf.cast(outputs, tf.float32), tf.cast(tape.gradient(loss, x), tf.float32)])
    for low, high in zip(*results, strict=True):
        np.testing.assert_allclose(low, high, rtol=2**-7, atol=2**-8)
    np.testing.assert_array_equal(results[0][0], tf.cast(tf.cast(results[1][0], tf.bfloat16), tf.float32))
