"""The steps of a configuration: what they take from the settings."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_training import tiny_config

from unet_lowlevel.config import IGNORED
from unet_lowlevel.core import fast
from unet_lowlevel.data.resolution import resized_values
from unet_lowlevel.training.steps import EvaluationStep, train_step, whole_logits


@pytest.mark.parametrize(("threshold", "foreground"), [(0.5, 64), (0.55, 64), (0.7, 0), (0.72, 0)])
def test_threshold_decides_in_training_and_in_validation(threshold, foreground):
    """With probabilities of 0.6 everywhere; 0.72 is none of the thresholds that are counted anyway."""
    config = tiny_config(threshold=threshold)
    model = fast.network(config.model)
    model.output.weight.assign(tf.zeros_like(model.output.weight))
    model.set_output_bias([0.4, 0.6])
    images, labels = tf.random.stateless_normal([1, 8, 8, 1], [0, 0]), tf.ones([1, 8, 8], tf.int32)
    for step in (EvaluationStep(model, config), train_step(model, config, (8, 8), total_steps=1)):
        confusion = step(images, labels)["confusion"][0].numpy()
        assert confusion.tolist() == [[0, 0], [64 - foreground, foreground]]


def test_validation_counts_the_pixels_as_stored():
    """The loss is of the labels at the resolution of the network, the counts of all pixels of the truth."""
    config = tiny_config(resolution=0.5, loss="cross_entropy", threshold=0.5)
    model = fast.network(config.model)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(1, 8, 8, 1)), tf.float32)
    labels, truth = (rng.integers(0, 2, (1, *size)).astype(np.int32) for size in ((8, 8), (15, 16)))
    z = whole_logits(model, images)[0, ..., 0].numpy()
    result = EvaluationStep(model, config)(images, tf.constant(labels), tf.constant(truth))
    expected = np.log1p(np.exp(np.where(labels[0] > 0, -z, z))).mean()
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-5)
    p = resized_values(1 / (1 + np.exp(-z[..., np.newaxis])), (15, 16))[..., 0]
    np.testing.assert_allclose(result["probabilities"][0, ..., 0], p, atol=1e-6)
    counted = [[int(((truth[0] == t) & ((p >= 0.5) == q)).sum()) for q in (False, True)] for t in (0, 1)]
    assert result["confusion"][0].numpy().tolist() == counted and np.sum(counted) == 15 * 16


def test_pixels_without_a_label_count_neither_in_training_nor_in_validation():
    config = tiny_config(ignore_value=[254], loss="cross_entropy")
    model = fast.network(config.model)
    images = tf.random.stateless_normal([1, 8, 8, 1], [0, 0])
    labels = np.array(tf.cast(images[..., 0] > 0, tf.int32))
    unlabelled = np.where(np.arange(8) < 3, IGNORED, labels)
    z = whole_logits(model, images)[0, ..., 0].numpy()
    expected = np.log1p(np.exp(np.where(labels[0] > 0, -z, z)))[:, 3:].mean()
    result = EvaluationStep(model, config)(images, tf.constant(unlabelled))
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-5)
    truth = [np.sum(labels[0, :, 3:] == k) for k in range(2)]
    for counts in (result, train_step(model, config, (8, 8), total_steps=1)(images, tf.constant(unlabelled))):
        assert counts["confusion"].numpy().sum((0, 2)).tolist() == truth
        assert (counts["thresholds"].numpy().sum((0, 1, 4)) == truth).all()
