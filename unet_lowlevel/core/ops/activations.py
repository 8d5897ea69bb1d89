"""Non-linearities."""

import tensorflow as tf


def elu(images: tf.Tensor) -> tf.Tensor:
    """output = x where x > 0, else exp(x) - 1. Reference: Clevert et al. 2016, equation 15 (alpha = 1)."""
    return tf.nn.elu(images)


def relu(images: tf.Tensor) -> tf.Tensor:
    """output = max(x, 0)."""
    return tf.nn.relu(images)


ACTIVATIONS = {"elu": elu, "relu": relu}
