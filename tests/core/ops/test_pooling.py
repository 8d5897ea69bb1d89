"""Pooling: by hand, the float64 loops, finite differences."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.pooling import max_pool2d


def test_keeps_the_largest_of_each_square():
    images = tf.constant([[1.0, 2, 0, 0], [4, 3, 0, -1], [-5, -6, 9, 9], [-7, -8, 9, 9]])[None, :, :, None]
    np.testing.assert_array_equal(max_pool2d(images)[0, :, :, 0], [[4, 0], [-5, 9]])


@pytest.mark.parametrize(("shape", "size"), [((2, 4, 6, 3), 2), ((1, 6, 9, 2), 3), ((1, 3, 3, 1), 1)])
def test_equals_reference(shape, size):
    images = normal(*shape)
    assert_computes(lambda x: max_pool2d(x, size), [images], numpy_reference.max_pool2d(images, size))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 5, 7, 2), 2), ((1, 4, 7, 2), 2), ((1, 5, 4, 2), 2), ((2, 6, 8, 1), 3)]
)
def test_a_remainder_is_refused_where_the_sides_are_known(shape, size):
    """In a graph that does not know them it is dropped: what the network gives it there has none."""
    images = normal(*shape)
    with pytest.raises(ValueError, match=f"no multiple of {size}"):
        max_pool2d(tf.constant(images), size)
    in_graph = tf.function(lambda x: max_pool2d(x, size), autograph=False)
    with pytest.raises(ValueError, match=f"no multiple of {size}"):
        in_graph.get_concrete_function(tf.TensorSpec([None, *shape[1:]]))
    open_graph = in_graph.get_concrete_function(tf.TensorSpec([None, None, None, shape[3]], tf.float64))
    np.testing.assert_array_equal(open_graph(tf.constant(images)), numpy_reference.max_pool2d(images, size))


def test_gradient_goes_to_the_largest_alone():
    assert_gradients(max_pool2d, [normal(2, 4, 4, 2)])
