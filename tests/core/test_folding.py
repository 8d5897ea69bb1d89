"""Folding: the same logits with fewer operations."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core.fast import fold_batch_normalization, folded
from unet_lowlevel.core.ops.batch_normalization import normalize
from unet_lowlevel.core.ops.convolution import conv2d
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.settings import resolve


def trained(**flags):
    """A network whose statistics and biases are away from 0 and 1."""
    model = UNet(resolve(flags={"in_channels": 2, "depth": 3, "base_channels": 4} | flags).model, seed=1)
    for i, variable in enumerate(model.variables):
        if variable.shape.rank == 1:
            variable.assign_add(np.abs(0.3 * normal(*variable.shape, seed=i)))
    return model


def test_one_convolution_and_its_normalization():
    images, weight = tf.constant(normal(2, 5, 6, 3)), tf.constant(normal(3, 3, 3, 4))
    gamma, beta, mean, variance = (tf.constant(np.abs(normal(4, seed=i))) for i in range(4))
    expected = normalize(conv2d(images, weight), mean, variance, gamma, beta)
    np.testing.assert_allclose(
        conv2d(images, *fold_batch_normalization(weight, gamma, beta, mean, variance)), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "flags",
    [{}, {"padding": "valid"}, {"batch_normalization": False}, {"classes": 3, "activation": "relu"}, {"depth": 1}],
)
def test_the_same_logits(flags):
    model = trained(**flags)
    fast = folded(model)
    compiled = tf.function(fast.whole, [tf.TensorSpec([None, None, None, 2])], autograph=False)
    for size in ((1, 1), (7, 30), (32, 32)):
        images = tf.constant(normal(2, *size, 2), tf.float32)
        expected = model.whole(images)
        np.testing.assert_allclose(fast.whole(images), expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))
        np.testing.assert_allclose(compiled(images), expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


def test_bfloat16_is_no_further_from_float32_than_without_folding():
    exact, images = trained(), tf.constant(normal(2, 32, 32, 2), tf.float32)
    model = trained(precision="bfloat16")
    expected = exact.whole(images)
    errors = [np.linalg.norm(m.whole(images) - expected) for m in (folded(model), model)]
    assert 0 < errors[0] < 1.2 * errors[1] < 0.05 * np.linalg.norm(expected)


def test_the_copy_is_frozen_and_the_model_untouched():
    model = trained()
    before = {name: variable.numpy() for name, variable in model.named_variables().items()}
    fast = folded(model)
    assert not fast.variables
    for name, variable in model.named_variables().items():
        np.testing.assert_array_equal(variable, before[name])
    assert any("batch_normalization" in name for name in before)
