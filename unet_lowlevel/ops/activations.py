"""Non-linearities."""

import tensorflow as tf


def elu(images: tf.Tensor) -> tf.Tensor:
    """output = x where x > 0, else exp(x) - 1. Reference: Clevert et al. 2016, equation 15 (alpha = 1)."""
    return tf.nn.elu(images)


def elu_for_training(images: tf.Tensor) -> tf.Tensor:
    """`elu` in the form that is quickest when it stands alone, as it does while training."""
    return elu_through_float32(images) if images.dtype == tf.bfloat16 else elu(images)


@tf.custom_gradient
def elu_through_float32(images: tf.Tensor):
    """`elu` of bfloat16 images: TensorFlow's own takes longer than a float32 one with the conversions around it.

    Only forwards; the gradient, gradient where output > 0, else gradient (output + 1), is quick in bfloat16.
    """
    outputs = tf.cast(elu(tf.cast(images, tf.float32)), images.dtype)
    return outputs, lambda gradient: tf.raw_ops.EluGrad(gradients=gradient, outputs=outputs)


def relu(images: tf.Tensor) -> tf.Tensor:
    """output = max(x, 0)."""
    return tf.nn.relu(images)


ACTIVATIONS = {"elu": elu, "relu": relu}
TRAINING_ACTIVATIONS = ACTIVATIONS | {"elu": elu_for_training}
