"""The mean of what counts, for partly labelled images."""

import tensorflow as tf


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """mean = sum_i mask[i] values[i] / sum_i mask[i];  0 where the mask is 0 throughout

    Args:
        values: float32, of any shape.
        mask: float32, 1 or 0, of a shape that can be broadcast to that of the values.

    Returns:
        scalar.
    """
    mask = tf.broadcast_to(mask, tf.shape(values))
    return tf.math.divide_no_nan(tf.reduce_sum(mask * values), tf.reduce_sum(mask))
