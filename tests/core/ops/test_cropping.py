"""Cropping and mirroring: every index by hand, far outside too, and the way back."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.cropping import (
    center_crop,
    crop_and_concat,
    crop_like,
    mirror_crop,
    mirror_indices,
    pad_to_multiple,
)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [0, 0, 0, 0, 0, 0, 0, 0]),
        (2, [1, 0, 1, 0, 1, 0, 1, 0]),
        (3, [1, 2, 1, 0, 1, 2, 1, 0]),
        (4, [3, 2, 1, 0, 1, 2, 3, 2]),
        (5, [3, 2, 1, 0, 1, 2, 3, 4]),
    ],
)
def test_mirror_indices_by_hand(length, expected):
    np.testing.assert_array_equal(mirror_indices(-3, 8, length), expected)


@pytest.mark.parametrize("length", range(1, 6))
def test_mirror_indices_far_outside(length):
    dynamic = tf.function(mirror_indices, autograph=False, reduce_retracing=True)
    for start, size in [(-37, 75), (21, 9), (-40, 3), (0, length), (length - 1, 2), (3, 0)]:
        expected = [numpy_reference.mirror_index(start + i, length) for i in range(size)]
        np.testing.assert_array_equal(mirror_indices(start, size, length), expected)
        np.testing.assert_array_equal(dynamic(tf.constant(start), tf.constant(size), tf.constant(length)), expected)


def test_mirror_indices_are_those_of_numpy():
    np.testing.assert_array_equal(mirror_indices(-9, 23, 5), np.pad(np.arange(5), 9, mode="reflect"))


@pytest.mark.parametrize(
    "window", [(-2, -3, 9, 11), (1, 1, 2, 3), (-20, 30, 6, 5), (0, 0, 4, 5)], ids=["around", "inside", "far", "all"]
)
def test_mirror_crop_equals_reference(window):
    images = normal(2, 4, 5, 3)
    assert_computes(lambda x: mirror_crop(x, *window), [images], numpy_reference.mirror_window(images, *window))
    assert_gradients(lambda x: mirror_crop(x, *window), [images[:1]])


@pytest.mark.parametrize("size", [(7, 8), (4, 4), (5, 3), (1, 1), (7, 1)])
def test_center_crop_equals_reference(size):
    images = normal(2, 7, 8, 2)
    assert_computes(lambda x: center_crop(x, *size), [images], numpy_reference.center_crop(images, *size))


def test_center_crop_of_labels_leaves_an_odd_rest_at_the_far_side():
    labels = tf.reshape(tf.range(16), [1, 4, 4])
    np.testing.assert_array_equal(center_crop(labels, 1, 3)[0], [[4, 5, 6]])


@pytest.mark.parametrize("size", [(6, 9), (5, 8), (3, 4)])
def test_crop_like_takes_the_middle_of_images_and_of_labels(size):
    images = normal(2, 6, 9, 3)
    dynamic = tf.function(crop_like, autograph=False, reduce_retracing=True)
    for larger in (images, images[..., 0]):
        expected = numpy_reference.center_crop(larger, *size)
        for function in (crop_like, dynamic):
            np.testing.assert_array_equal(function(tf.constant(larger), tf.zeros([2, *size, 5])), expected)
    larger = tf.constant(images)
    assert crop_like(larger, tf.zeros([2, 6, 9, 1])) is larger


@pytest.mark.parametrize("size", [(6, 9), (5, 8), (3, 4), (1, 9), (6, 1)])
def test_crop_and_concat_equals_reference(size):
    arrays = [normal(2, 6, 9, 3), normal(2, *size, 2, seed=1)]
    assert_computes(crop_and_concat, arrays, numpy_reference.crop_and_concat(*arrays))
    assert_gradients(crop_and_concat, [array[:1] for array in arrays])


def test_crop_and_concat_of_sizes_that_a_graph_does_not_know():
    signature = [tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, None, None, 2])]
    dynamic = tf.function(crop_and_concat, input_signature=signature, autograph=False)
    for size in [(6, 9), (5, 6)]:
        arrays = [normal(2, 6, 9, 3), normal(2, *size, 2, seed=1)]
        joined = dynamic(*[tf.constant(array, tf.float32) for array in arrays])
        np.testing.assert_allclose(joined, numpy_reference.crop_and_concat(*arrays), atol=1e-6)


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16])
def test_pad_to_multiple_and_back(multiple):
    def there_and_back(images):
        padded = pad_to_multiple(images, multiple)
        return padded, center_crop(padded, tf.shape(images)[1], tf.shape(images)[2])

    dynamic = tf.function(there_and_back, input_signature=[tf.TensorSpec([None, None, None, 1])], autograph=False)
    for height in range(1, 19):
        images = tf.constant(normal(1, height, 20 - height, 1), tf.float32)
        for function in (there_and_back, dynamic):
            padded, back = function(images)
            # No more than needed, on either axis.
            assert all(
                side % multiple == 0 and 0 <= side - given < multiple
                for side, given in zip(padded.shape[1:3], images.shape[1:3], strict=True)
            )
            np.testing.assert_array_equal(back, images)


@pytest.mark.parametrize("size", [(5, 6), (1, 3), (3, 9)])
def test_pad_to_multiple_mirrors_evenly(size):
    images = normal(2, *size, 2)
    padded = [-(-side // 8) * 8 for side in size]
    start = [-((new - old) // 2) for new, old in zip(padded, size, strict=True)]
    assert_computes(lambda x: pad_to_multiple(x, 8), [images], numpy_reference.mirror_window(images, *start, *padded))


def test_pad_to_multiple_returns_what_fits_already_and_keeps_known_sizes():
    images = tf.zeros([1, 8, 16, 1])
    assert pad_to_multiple(images, 8) is images
    function = tf.function(lambda x: pad_to_multiple(x, 8), autograph=False)
    for given, expected in [([2, 9, 8, 3], [2, 16, 8, 3]), ([None, None, 7, 3], [None, None, 8, 3])]:
        assert function.get_concrete_function(tf.TensorSpec(given)).output_shapes.as_list() == expected
