"""Convolution: hand-computed corners, the float64 loops, finite differences."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.convolution import Conv2D, conv2d


def test_ones_count_the_pixels_under_the_filter():
    ones = tf.ones([1, 3, 3, 1])
    weight = tf.ones([3, 3, 1, 1])
    np.testing.assert_array_equal(conv2d(ones, weight)[0, :, :, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_array_equal(conv2d(ones, weight, tf.constant([0.5]), "valid"), [[[[9.5]]]])


def test_filter_is_not_flipped():
    """A filter whose one entry lies at the upper left fetches the pixel at the upper left."""
    images = tf.reshape(tf.range(1.0, 10.0), [1, 3, 3, 1])
    weight = tf.scatter_nd([[0, 0, 0, 0]], [1.0], [3, 3, 1, 1])
    np.testing.assert_array_equal(conv2d(images, weight)[0, :, :, 0], [[0, 0, 0], [0, 1, 2], [0, 4, 5]])


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "kernel"), [((5, 7), (3, 3)), ((4, 4), (1, 1)), ((5, 6), (5, 3)), ((4, 5), (2, 2)), ((3, 3), (3, 3))]
)
@pytest.mark.parametrize("biased", [True, False])
def test_equals_reference(size, kernel, padding, biased):
    arrays = [normal(2, *size, 3), normal(*kernel, 3, 4)] + [normal(4)] * biased

    def op(images, weight, bias=None):
        return conv2d(images, weight, bias, padding)

    assert_computes(op, arrays, numpy_reference.conv2d(*arrays, padding=padding))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_gradients(padding):
    def op(images, weight, bias):
        return conv2d(images, weight, bias, padding)

    assert_gradients(op, [normal(2, 4, 5, 2), normal(3, 3, 2, 3), normal(3)])


def test_same_padding_keeps_images_smaller_than_the_filter():
    images, weight = normal(1, 1, 2, 1), normal(5, 5, 1, 1)
    assert_computes(conv2d, [images, weight], numpy_reference.conv2d(images, weight))


@pytest.mark.parametrize(
    ("images", "padding"),
    [
        ([1, 4, 4, 2], "same"),  # Twice as many channels: TensorFlow would take it for a grouped convolution,
        ([4, 4, 1], "same"),  # without a batch axis it would end the process,
        ([1, 4, 2, 1], "valid"),  # one pixel too small it would return uninitialized memory.
        ([1, 1, 4, 1], "valid"),
        ([1, 4, 4, 3], "same"),
    ],
)
def test_what_does_not_fit_raises(images, padding):
    weight = tf.zeros([3, 3, 1, 4])
    with pytest.raises(ValueError, match=r"fit|smaller"):
        conv2d(tf.zeros(images), weight, padding=padding)
    in_graph = tf.function(lambda x: conv2d(x, weight, padding=padding), autograph=False)
    with pytest.raises(ValueError, match=r"fit|smaller"):
        in_graph.get_concrete_function(tf.TensorSpec(images))


def test_unknown_padding_raises():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="MIRROR"):
        conv2d(tf.zeros([1, 4, 4, 1]), tf.zeros([3, 3, 1, 1]), padding="mirror")


def test_module_owns_its_variables():
    conv = Conv2D(2, 5, 3, seed=1, padding="valid", name="first")
    assert [(v.name, tuple(v.shape)) for v in conv.trainable_variables] == [
        ("first/bias:0", (5,)),
        ("first/weight:0", (3, 3, 2, 5)),
    ]
    np.testing.assert_array_equal(conv.bias, np.zeros(5))
    conv.bias.assign(normal(5))
    images = normal(2, 6, 5, 2).astype(np.float32)
    expected = numpy_reference.conv2d(images, conv.weight.numpy(), conv.bias.numpy(), "valid")
    np.testing.assert_allclose(conv(tf.constant(images)), expected, atol=1e-5)


def test_module_without_bias():
    conv = Conv2D(2, 5, 3, seed=1, use_bias=False)
    assert conv.bias is None and len(conv.variables) == 1
    assert conv(tf.zeros([1, 4, 4, 2])).shape == [1, 4, 4, 5]
