"""Pooling."""

import tensorflow as tf


def max_pool2d(images: tf.Tensor, size: int = 2) -> tf.Tensor:
    """Keeps the largest value of every size x size square.

    output[n, y, x, c] = max over i, j < size of images[n, y * size + i, x * size + j, c]

    Args:
        images: float [N, H, W, C], H and W multiples of `size` (a remainder would be dropped).
        size: side of the square and stride.

    Returns:
        [N, H / size, W / size, C]
    """
    return tf.nn.max_pool2d(images, size, strides=size, padding="VALID")
