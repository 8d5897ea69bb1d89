"""Transposed convolution: the U-Net's way up ("up-convolution")."""

import tensorflow as tf

from unet_lowlevel.core.ops.initializers import bias_variable, weight_variable


def conv2d_transpose(images: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None = None, stride: int = 2) -> tf.Tensor:
    """Enlarges the images by `stride`: every pixel paints the filter, scaled by its value, onto the output.

    output[n, y * stride + i, x * stride + j, o] += sum over c of images[n, y, x, c] * weight[i, j, o, c]

    It is the gradient of a convolution with this stride, hence the name. With a filter as large as the stride, as in
    the paper, the painted squares touch but never overlap. What a larger one paints beyond H * stride is cut off.

    Args:
        images: float [N, H, W, in_channels]; their dtype is what is computed in.
        weight: float [height, width, out_channels, in_channels]; mind the order.
        bias: float [out_channels] or None.
        stride: the factor.

    Returns:
        [N, H * stride, W * stride, out_channels]

    Raises:
        ValueError: when the channels do not fit.

    Reference: Ronneberger et al. 2015, section 2 ("up-convolution" 2x2).
    """
    if not images.shape.is_compatible_with([None, None, None, weight.shape[3]]):
        raise ValueError(f"images {images.shape} do not fit a filter for [N, H, W, {weight.shape[3]}]")
    n, height, width = tf.unstack(tf.shape(images)[:3])
    shape = [n, height * stride, width * stride, weight.shape[2]]
    outputs = tf.nn.conv2d_transpose(images, tf.cast(weight, images.dtype), shape, stride, padding="SAME")
    # The output's shape was computed inside the graph; what is known of it beforehand is said here.
    known = [None if side is None else side * stride for side in images.shape[1:3]]
    outputs.set_shape([images.shape[0], *known, weight.shape[2]])
    # Not by `tf.nn.bias_add`: in bfloat16 its gradient adds up in bfloat16, where a sum of many pixels stands still.
    return outputs if bias is None else outputs + tf.cast(bias, images.dtype)


class Conv2DTranspose(tf.Module):
    """A transposed convolution that owns `weight` [k, k, out_channels, in_channels] and `bias`; stride = k."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 2, *, seed: int, name: str = "up"):
        """Creates the variables; `kernel_size` is also the stride, so that each output pixel is painted once.

        Hence the fan-in is in_channels alone: one output pixel sums in_channels products, not k * k times as many.
        """
        super().__init__(name)
        self.stride = kernel_size
        with self.name_scope:
            self.weight = weight_variable([kernel_size, kernel_size, out_channels, in_channels], in_channels, seed)
            self.bias = bias_variable(out_channels)

    @tf.Module.with_name_scope
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """[N, H, W, in_channels] -> [N, k * H, k * W, out_channels]; see `conv2d_transpose`."""
        return conv2d_transpose(images, self.weight, self.bias, self.stride)


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    images, weight = array("1 2  3 -1", 1, 2, 2, 1), array("1 2  3 4", 2, 2, 1, 1)
    show(conv2d_transpose, by_hand.conv2d_transpose, images, weight, array("0.5", 1))
