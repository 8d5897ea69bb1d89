"""The network as prediction needs it: batch normalization folded into the convolutions, weights frozen."""

import dataclasses

import tensorflow as tf

from unet_lowlevel.ops.batch_normalization import EPSILON
from unet_lowlevel.ops.convolution import Conv2D
from unet_lowlevel.ops.transposed_convolution import Conv2DTranspose
from unet_lowlevel.unet import UNet


def fold_batch_normalization(weight, gamma, beta, moving_mean, moving_variance) -> tuple[tf.Tensor, tf.Tensor]:
    """A convolution and the normalization behind it as one convolution with a bias.

    scale = gamma / sqrt(moving_variance + epsilon)
    gamma (conv2d(x, weight) - moving_mean) / sqrt(moving_variance + epsilon) + beta
        = conv2d(x, weight * scale) + (beta - moving_mean * scale)

    Args:
        weight: float32 [height, width, in_channels, out_channels].
        gamma, beta, moving_mean, moving_variance: float32 [out_channels].

    Returns:
        weight [height, width, in_channels, out_channels], bias [out_channels]
    """
    scale = gamma * tf.math.rsqrt(moving_variance + EPSILON)
    return weight * scale, beta - moving_mean * scale


def folded(model: UNet) -> UNet:
    """A copy of a trained network that can only predict, with training=False: the same logits up to rounding, sooner.

    Its weights are constants, so that TensorFlow prepares them once, and joins convolution, bias and
    activation in one operation.
    """
    trained = model.named_variables()
    prediction = UNet(dataclasses.replace(model.config, batch_normalization=False, recompute=False))
    for name, variable in prediction.named_variables().items():
        scope, _, kind = name.rpartition("/")
        normalization = scope.replace("/conv_", "/batch_normalization_")
        if f"{normalization}/gamma" in trained:
            statistics = [trained[f"{normalization}/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance")]
            weight, bias = fold_batch_normalization(trained[f"{scope}/weight"], *statistics)
            variable.assign(weight if kind == "weight" else bias)
        else:
            variable.assign(trained[name])
    for module in prediction.submodules:
        if isinstance(module, (Conv2D, Conv2DTranspose)):
            module.weight, module.bias = tf.constant(module.weight.numpy()), tf.constant(module.bias.numpy())
    return prediction
