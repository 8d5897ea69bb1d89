"""Non-linearities."""

import tensorflow as tf


def elu(images: tf.Tensor) -> tf.Tensor:
    """output = x where x > 0, else exp(x) - 1. Reference: Clevert et al. 2016, equation 15 (alpha = 1)."""
    return tf.nn.elu(images)


def relu(images: tf.Tensor) -> tf.Tensor:
    """output = max(x, 0)."""
    return tf.nn.relu(images)


ACTIVATIONS = {"elu": elu, "relu": relu}


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    values = array("-3 -1 -0.1  0.1 1 3", 1, 2, 3, 1)
    show(elu, by_hand.elu, values)
    show(relu, by_hand.relu, values)
