"""The steps of a configuration: what they take from the settings."""

import pytest
import tensorflow as tf
from tiny_training import tiny_config

from unet_lowlevel.core import fast
from unet_lowlevel.training.steps import EvaluationStep, train_step


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
