"""Dropout without hidden state."""

import tensorflow as tf


def dropout(images: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Sets a random share of the values to 0 and enlarges the others, so that the expectation stays.

    output = images * keep / (1 - rate), keep = 1 with probability 1 - rate, else 0

    Args:
        images: float, any shape.
        rate: share set to 0, in [0, 1).
        seed: int32 [2]; the same seed drops the same values.

    Returns:
        the shape of `images`.

    Reference: Srivastava et al. 2014, section 4 (here scaled while training instead of while testing).
    """
    keep = tf.random.stateless_uniform(tf.shape(images), seed) >= rate
    return tf.where(keep, images / (1.0 - rate), 0.0)
