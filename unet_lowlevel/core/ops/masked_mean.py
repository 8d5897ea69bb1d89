"""Means over the images of all replicas, and of what counts in partly labelled images."""

import tensorflow as tf

from unet_lowlevel.core.replicas import alone, summed


def mean(values: tf.Tensor) -> tf.Tensor:
    """mean = sum_i values[i] / number of values; of several replicas, the part of this one in the mean over all.

    The parts add up to the mean, and their gradients to its gradient.

    Args:
        values: float32, of any shape.

    Returns:
        scalar.
    """
    if alone():
        return tf.reduce_mean(values)
    return tf.reduce_sum(values) / summed(tf.cast(tf.size(values), values.dtype))


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """mean = sum_i mask[i] values[i] / sum_i mask[i];  0 where the mask is 0 throughout; see `mean` for replicas.

    Args:
        values: float32, of any shape.
        mask: float32, 1 or 0, of a shape that can be broadcast to that of the values.

    Returns:
        scalar.
    """
    mask = tf.broadcast_to(mask, tf.shape(values))
    return tf.math.divide_no_nan(tf.reduce_sum(mask * values), summed(tf.reduce_sum(mask)))


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    values, mask = array("1 2  3 4", 1, 2, 2), array("1 1  0 1", 1, 2, 2, dtype="float32")
    show(masked_mean, by_hand.masked_mean, values, mask)
