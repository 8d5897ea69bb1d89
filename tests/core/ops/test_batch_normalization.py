"""Batch normalization: which variance, the definition and its fused form, and when the averages move."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.fast import batch_norm
from unet_lowlevel.core.ops.batch_normalization import EPSILON, BatchNormalization, batch_moments, normalize


def clear(images, gamma, beta):
    """The definition, in the arguments and results of its fast form."""
    mean, variance = batch_moments(images)
    return normalize(images, mean, variance, gamma, beta), mean, variance


FORMS = pytest.mark.parametrize("form", [clear, batch_norm])


def samples(*shape):
    """Images far from zero mean and unit variance, gamma, beta."""
    return [3.0 + 2.0 * normal(*shape), 1.0 + 0.3 * normal(shape[-1]), normal(shape[-1], seed=1)]


def test_moments_by_hand():
    """Of 1, 3, 5, 7 the mean is 4 and the variance, divided by n = 4 and not by 3, is 5."""
    mean, variance = batch_moments(tf.reshape(tf.constant([1.0, 3.0, 5.0, 7.0]), [2, 1, 2, 1]))
    np.testing.assert_array_equal([mean, variance], [[4.0], [5.0]])


def test_moments_equal_reference():
    images = samples(2, 3, 5, 4)[0]
    for i, expected in enumerate(numpy_reference.batch_moments(images)):
        assert_computes(lambda x, i=i: batch_moments(x)[i], [images], expected)
        assert_gradients(lambda x, i=i: batch_moments(x)[i], [images])


def test_normalize_equals_reference():
    images, gamma, beta = samples(2, 3, 2, 3)
    arrays = [images, normal(3, seed=2), 0.2 + normal(3, seed=3) ** 2, gamma, beta]
    assert_computes(normalize, arrays, numpy_reference.normalize(*arrays))
    assert_gradients(normalize, arrays)
    assert_gradients(lambda *arrays: clear(*arrays)[0], [images, gamma, beta])


@FORMS
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 2, 3), (1, 1, 1, 2)])
def test_batch_statistics_equal_reference(shape, form):
    """(1, 1, 1, 2): the single pixel at the bottom of a small image must not divide by n - 1 = 0."""
    images, gamma, beta = samples(*shape)
    mean, variance = numpy_reference.batch_moments(images)
    expected = numpy_reference.normalize(images, mean, variance, gamma, beta, EPSILON), mean, variance
    tensors = [tf.constant(array, tf.float32) for array in (images, gamma, beta)]
    signature = [tf.TensorSpec([None, None, None, shape[-1]]), *[tf.TensorSpec([shape[-1]])] * 2]
    for function in (form, tf.function(form, input_signature=signature, autograph=False)):
        for value, oracle in zip(function(*tensors), expected, strict=True):
            np.testing.assert_allclose(value, oracle, rtol=0, atol=1e-5)


@FORMS
def test_output_has_mean_beta_and_deviation_gamma(form):
    images, gamma, beta = [tf.constant(array, tf.float32) for array in samples(4, 8, 8, 3)]
    mean, variance = batch_moments(form(100.0 * images, gamma, beta)[0])
    np.testing.assert_allclose(mean, beta, atol=1e-5)
    np.testing.assert_allclose(tf.sqrt(variance), tf.abs(gamma), rtol=1e-4)


@FORMS
def test_constant_images_give_beta(form):
    outputs, _, variance = form(tf.fill([2, 4, 4, 1], 7.0), tf.ones([1]), tf.fill([1], 0.25))
    np.testing.assert_allclose(outputs, np.full([2, 4, 4, 1], 0.25), atol=1e-5)
    np.testing.assert_allclose(variance, [0.0], atol=1e-6)


def test_module_starts_as_identity_and_trains_gamma_and_beta():
    layer = BatchNormalization(3)
    assert sorted(v.name for v in layer.trainable_variables) == [
        "batch_normalization/beta:0",
        "batch_normalization/gamma:0",
    ]
    assert len(layer.variables) == 4
    images = tf.constant(normal(2, 3, 3, 3), tf.float32)
    np.testing.assert_allclose(layer(images, training=False), images / np.sqrt(1 + EPSILON), atol=1e-6)


def test_averages_move_in_training_only():
    """By a tenth of the way with every batch, which is normalized by its own statistics."""
    layer = BatchNormalization(2)
    mean, variance = np.zeros(2), np.ones(2)
    for i in range(3):
        images = 5.0 + 2.0 * normal(2, 3, 3, 2, seed=i)
        outputs = layer(tf.constant(images, tf.float32), training=True)
        batch_mean, batch_variance = numpy_reference.batch_moments(images)
        expected = numpy_reference.normalize(images, batch_mean, batch_variance, np.ones(2), np.zeros(2))
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
        mean = 0.9 * mean + 0.1 * batch_mean
        variance = 0.9 * variance + 0.1 * batch_variance
        np.testing.assert_allclose(layer.moving_mean, mean, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, variance, atol=1e-5)
    before = [v.numpy() for v in layer.variables]
    outputs = layer(tf.constant(images, tf.float32), training=False)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    np.testing.assert_allclose(
        outputs, numpy_reference.normalize(images, mean, variance, np.ones(2), np.zeros(2)), atol=1e-5
    )


def test_averages_move_once_a_call_in_a_graph_whose_output_nobody_reads():
    layer = BatchNormalization(2)
    images = tf.constant(5.0 + normal(2, 3, 3, 2), tf.float32)
    function = tf.function(lambda x: [layer(x, training=True)][1:], autograph=False)
    function(images)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * batch_moments(images)[0], rtol=1e-5)


def test_statistics_of_bfloat16_images_are_float32():
    layer = BatchNormalization(2)
    images = tf.cast(5.0 + 2.0 * normal(2, 9, 9, 2), tf.bfloat16)
    assert layer(images, training=True).dtype == tf.bfloat16
    mean, variance = numpy_reference.batch_moments(tf.cast(images, tf.float64).numpy())
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


def test_training_is_keyword_only():
    with pytest.raises(TypeError):
        BatchNormalization(1)(tf.zeros([1, 2, 2, 1]), True)
