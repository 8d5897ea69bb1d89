"""Pooling."""

import tensorflow as tf


def max_pool2d(images: tf.Tensor, size: int = 2) -> tf.Tensor:
    """Keeps the largest value of every size x size square.

    output[n, y, x, c] = max over i, j < size of images[n, y * size + i, x * size + j, c]

    Args:
        images: float [N, H, W, C], H and W multiples of `size`.
        size: side of the square and stride.

    Returns:
        [N, H / size, W / size, C]

    Raises:
        ValueError: when a known side is no multiple of `size`: TensorFlow would drop the remainder, and what comes up
            again in the decoder would no longer lie over the skip.
    """
    if any(side is not None and side % size for side in images.shape[1:3]):
        raise ValueError(f"images {images.shape} have a side that is no multiple of {size} to be pooled by")
    return tf.nn.max_pool2d(images, size, strides=size, padding="VALID")


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    show(max_pool2d, by_hand.max_pool2d, array("1 2 0 -1  4 3 -2 -3  -5 -6 9 8  -7 -8 7 6", 1, 4, 4, 1))
