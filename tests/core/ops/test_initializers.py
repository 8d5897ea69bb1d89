"""First weights: the right size, and a function of seed and name alone."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core.ops.activations import relu
from unet_lowlevel.core.ops.convolution import Conv2D
from unet_lowlevel.core.ops.initializers import bias_variable, he_normal, weight_variable
from unet_lowlevel.core.ops.transposed_convolution import Conv2DTranspose


def test_he_normal_is_normal_with_variance_two_over_fan_in():
    weights = he_normal([300, 400], 50, (1, 2)).numpy()
    deviation = np.sqrt(2 / 50)
    assert weights.dtype == np.float32
    # 120,000 values: five standard errors; the tails of a normal distribution, not of a truncated one.
    assert abs(weights.mean()) < 5 * deviation / np.sqrt(weights.size)
    assert abs(weights.std() / deviation - 1) < 5 / np.sqrt(2 * weights.size)
    assert abs(np.mean(np.abs(weights) > 2 * deviation) - 0.0455) < 0.004


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(16, 256, 3, seed=1, padding="valid"),
        Conv2D(128, 256, 1, seed=2),
        Conv2DTranspose(128, 64, seed=3),
        Conv2DTranspose(128, 64, 3, seed=4),
    ],
    ids=["conv_3", "conv_1", "up_2", "up_3"],
)
def test_mean_square_survives_layer_and_relu(layer):
    """The purpose of He's variance: half of the values are cut off, the mean square stays 1."""
    # The input channels stand last in a transposed filter.
    channels = layer.weight.shape[3 if isinstance(layer, Conv2DTranspose) else 2]
    outputs = relu(layer(tf.constant(normal(4, 12, 12, channels), tf.float32)))
    assert 0.9 < np.mean(outputs.numpy() ** 2) < 1.1


def made(order, seed=0):
    """{name: first values} of variables that are created in this order."""
    values = {}
    for name in order:
        with tf.name_scope("part"):
            values[name] = Conv2D(2, 3, 3, seed=seed, name=name).weight.numpy()
    return values


def test_values_are_a_function_of_seed_and_name():
    first, second = made(["a", "b", "c"]), made(["c", "a", "d", "b"])
    for name in "abc":
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.isclose(first["a"], first["b"]).any()
    assert not np.isclose(first["a"], made(["a"], seed=1)["a"]).any()


def test_global_seed_does_not_matter():
    tf.random.set_seed(1)
    first = made("a")["a"]
    tf.random.set_seed(2)
    np.testing.assert_array_equal(made("a")["a"], first)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_every_seed_of_the_settings_works(seed):
    variable = weight_variable([3, 3, 1, 2], 9, seed)
    assert variable.trainable and variable.dtype == tf.float32 and np.isfinite(variable.numpy()).all()


def test_bias():
    bias = bias_variable(3)
    np.testing.assert_array_equal(bias, [0, 0, 0])
    assert bias.trainable and bias.dtype == tf.float32 and bias.name == "bias:0"
