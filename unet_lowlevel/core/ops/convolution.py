"""Convolution."""

import tensorflow as tf

from unet_lowlevel.core.ops.initializers import bias_variable, weight_variable


def conv2d(images: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None = None, padding: str = "same") -> tf.Tensor:
    """Slides a filter over the images, one pixel at a time.

    output[n, y, x, o] = bias[o] + sum over i, j, c of images[n, y + i - p, x + j - q, c] * weight[i, j, c, o]

    with p = q = 0 in "valid" mode and p, q = half the filter (pixels outside are 0) in "same" mode.
    As everywhere in deep learning this is a correlation: the filter is not flipped.

    Args:
        images: float [N, H, W, in_channels]; their dtype is what is computed in.
        weight: float [height, width, in_channels, out_channels].
        bias: float [out_channels] or None.
        padding: "same" or "valid".

    Returns:
        [N, H, W, out_channels], or in valid mode [N, H - height + 1, W - width + 1, out_channels].

    Raises:
        ValueError: when the channels do not fit, or the images are smaller than a "valid" filter.
    """
    # TensorFlow itself would take twice as many channels for a grouped convolution, end the process for
    # a missing batch axis, and return uninitialized memory for images one pixel smaller than the filter.
    if not images.shape.is_compatible_with([None, None, None, weight.shape[2]]):
        raise ValueError(f"images {images.shape} do not fit a filter for [N, H, W, {weight.shape[2]}]")
    sides = zip(images.shape[1:3], weight.shape[:2], strict=True)
    if padding == "valid" and any(side is not None and side < filter_side for side, filter_side in sides):
        raise ValueError(f"images {images.shape} are smaller than the filter {weight.shape}")
    outputs = tf.nn.conv2d(images, tf.cast(weight, images.dtype), strides=1, padding=padding.upper())
    return outputs if bias is None else tf.nn.bias_add(outputs, tf.cast(bias, images.dtype))


class Conv2D(tf.Module):
    """A convolution that owns `weight` [k, k, in_channels, out_channels] and `bias` [out_channels]."""

    def __init__(
        self, in_channels, out_channels, kernel_size: int, *, seed: int, padding="same", use_bias=True, name="conv"
    ):
        """Creates the variables.

        Args:
            in_channels, out_channels: at least 1.
            kernel_size: side of the square filter, in pixels.
            seed: of the first weights.
            padding: "same" or "valid".
            use_bias: False where batch normalization follows, which would take the bias away again.
            name: of the scope.
        """
        super().__init__(name)
        self.padding = padding
        with self.name_scope:
            shape = [kernel_size, kernel_size, in_channels, out_channels]
            self.weight = weight_variable(shape, kernel_size**2 * in_channels, seed)
            self.bias: tf.Variable = bias_variable(out_channels) if use_bias else None

    @tf.Module.with_name_scope
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """[N, H, W, in_channels] -> [N, H', W', out_channels]; see `conv2d`."""
        return conv2d(images, self.weight, self.bias, self.padding)


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    corner = array("0 0 1 1  0 0 1 1  0 1 1 1  1 1 1 2", 1, 4, 4, 1)
    edges = array("1 0 -1  2 0 -2  1 0 -1", 3, 3, 1, 1)
    show(conv2d, by_hand.conv2d, corner, edges, array("0.5", 1))
