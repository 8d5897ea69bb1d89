"""Variables and their first values.

Every variable draws from a random stream of its own, named by the scope it is created in. So the same seed gives the
same weights, whatever else the network holds and in whatever order it is built.
"""

import math
import zlib

import tensorflow as tf


def he_normal(shape, fan_in: float, seed: tuple[int, int]) -> tf.Tensor:
    """Draws weights = normal(mean 0, standard deviation sqrt(2 / fan_in)).

    With it the activations keep their variance from layer to layer when half of them are cut off.

    Args:
        shape: of the filter.
        fan_in: number of inputs that one output is the weighted sum of.
        seed: two integers; the same seed gives the same values.

    Returns:
        float32 tensor of `shape`.

    Reference: He et al. 2015, equation 10; Ronneberger et al. 2015, section 3.
    """
    return tf.random.stateless_normal(shape, seed, stddev=math.sqrt(2.0 / fan_in))


def weight_variable(shape, fan_in: float, seed: int) -> tf.Variable:
    """Creates a trainable float32 filter with He-normal values.

    Args:
        shape: [height, width, in_channels, out_channels] of a convolution, or
            [height, width, out_channels, in_channels] of a transposed convolution.
        fan_in: see `he_normal`; height * width * in_channels for a convolution.
        seed: the network's seed; the current name scope selects the stream.
    """
    stream = zlib.crc32(f"{tf.get_current_name_scope()}/weight".encode()) & 0x7FFFFFFF
    return tf.Variable(he_normal(shape, fan_in, (seed, stream)), name="weight")


def bias_variable(channels: int) -> tf.Variable:
    """Creates a trainable float32 vector [channels] of zeros."""
    return tf.Variable(tf.zeros([channels]), name="bias")


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import show

    def moments(fan_in):
        """Mean and standard deviation of 36,864 weights, beside 0 and sqrt(2 / fan_in)."""
        weight = he_normal([3, 3, 64, 64], fan_in, (0, 0))
        return tf.reduce_mean(weight), tf.math.reduce_std(weight)

    show(moments, by_hand.he_normal, 3 * 3 * 64, gradients=False, limit=1e-3)
