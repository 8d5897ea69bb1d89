"""Transposed convolution: painted squares by hand, the float64 loops, finite differences."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.convolution import conv2d
from unet_lowlevel.core.ops.transposed_convolution import Conv2DTranspose, conv2d_transpose


def test_every_pixel_paints_the_filter():
    images = tf.reshape(tf.constant([1.0, 10.0]), [1, 1, 2, 1])
    weight = tf.reshape(tf.constant([[1.0, 2.0], [3.0, 4.0]]), [2, 2, 1, 1])
    painted = conv2d_transpose(images, weight, tf.constant([0.5]))[0, :, :, 0]
    np.testing.assert_array_equal(painted, [[1.5, 2.5, 10.5, 20.5], [3.5, 4.5, 30.5, 40.5]])


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (5, 2)])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 3), (1, 2), (3, 2), (4, 2), (3, 1)])
def test_equals_reference(size, kernel, stride):
    arrays = [normal(2, *size, 3), normal(kernel, kernel, 4, 3), normal(4)]

    def op(images, weight, bias):
        return conv2d_transpose(images, weight, bias, stride)

    assert_computes(op, arrays, numpy_reference.conv2d_transpose(*arrays, stride=stride))
    assert_computes(op, [*arrays[:2], 0 * arrays[2]], numpy_reference.conv2d_transpose(*arrays[:2], stride=stride))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2)])
def test_gradients(kernel, stride):
    def op(images, weight, bias):
        return conv2d_transpose(images, weight, bias, stride)

    assert_gradients(op, [normal(2, 2, 3, 3), normal(kernel, kernel, 2, 3), normal(2)])


def test_is_the_gradient_of_a_convolution():
    """<conv(a), b> = <a, conv_transpose(b)>: what gave the operation its name."""
    a, b, weight = tf.constant(normal(1, 6, 8, 2)), tf.constant(normal(1, 3, 4, 5)), tf.constant(normal(2, 2, 2, 5))
    strided = conv2d(a, weight, padding="valid")[:, ::2, ::2]
    left, right = tf.reduce_sum(strided * b), tf.reduce_sum(a * conv2d_transpose(b, weight))
    np.testing.assert_allclose(left, right, rtol=1e-12)


def test_known_sizes_stay_known_in_a_graph():
    function = tf.function(lambda images: conv2d_transpose(images, tf.zeros([2, 2, 5, 3])), autograph=False)
    for given, expected in [([4, 6, 7, 3], [4, 12, 14, 5]), ([None, None, 7, 3], [None, None, 14, 5])]:
        assert function.get_concrete_function(tf.TensorSpec(given)).output_shapes.as_list() == expected


@pytest.mark.parametrize("images", [[1, 2, 2, 3], [1, 2, 2, 8], [2, 2, 4]])
def test_what_does_not_fit_raises(images):
    with pytest.raises(ValueError, match="fit"):
        conv2d_transpose(tf.zeros(images), tf.zeros([2, 2, 1, 4]))


def test_module_owns_its_variables():
    up = Conv2DTranspose(6, 3, seed=1)
    assert [(v.name, tuple(v.shape)) for v in up.trainable_variables] == [
        ("up/bias:0", (3,)),
        ("up/weight:0", (2, 2, 3, 6)),
    ]
    up.bias.assign(normal(3))
    images = normal(2, 3, 5, 6).astype(np.float32)
    expected = numpy_reference.conv2d_transpose(images, up.weight.numpy(), up.bias.numpy())
    np.testing.assert_allclose(up(tf.constant(images)), expected, atol=1e-5)
    assert Conv2DTranspose(6, 3, kernel_size=3, seed=1)(tf.constant(images)).shape == [2, 9, 15, 3]


def test_the_gradient_of_the_bias_is_right_for_many_pixels_in_bfloat16():
    """The sum of the gradients of 131,072 pixels: in bfloat16 itself it would stand still far below."""
    weight, images = tf.constant(normal(2, 2, 3, 2), tf.float32), tf.zeros([2, 128, 128, 2], tf.bfloat16)
    bias, upstream = tf.Variable(tf.zeros([3])), tf.ones([2, 256, 256, 3], tf.bfloat16)
    with tf.GradientTape() as tape:
        outputs = conv2d_transpose(images, weight, bias)
    np.testing.assert_allclose(tape.gradient(outputs, bias, upstream), np.full(3, 2 * 256 * 256), rtol=0.01)
