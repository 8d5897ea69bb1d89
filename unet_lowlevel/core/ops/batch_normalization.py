"""Batch normalization.

Two variances are in use: the batch's own, divided by n (biased), and the estimate for the population, divided by
n - 1. Here the batch's own is used everywhere, as in Keras. Ioffe & Szegedy 2015 (algorithm 2, step 10) would average
the other one; n counts all pixels of a batch, so that the difference is below a thousandth in practice.
"""

import tensorflow as tf

from unet_lowlevel.core.replicas import mean_of_batch

EPSILON = 1e-3
MOMENTUM = 0.9  # Of the moving averages: short trainings are common here, and 0.99 would lag behind them.


def batch_moments(images: tf.Tensor, mean_of=tf.reduce_mean) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance of each channel over batch, height and width.

    mean[c] = sum over n, y, x of images[n, y, x, c] / (N * H * W)
    variance[c] = sum over n, y, x of (images[n, y, x, c] - mean[c])^2 / (N * H * W)

    Args:
        images: float [N, H, W, C].
        mean_of: how to average; `replicas.mean_of_batch` counts the images of other replicas, too.

    Returns:
        mean [C], variance [C].
    """
    mean = mean_of(images, [0, 1, 2])
    return mean, mean_of(tf.square(images - mean), [0, 1, 2])


def normalize(images, mean, variance, gamma, beta, epsilon: float = EPSILON) -> tf.Tensor:
    """output = gamma * (images - mean) / sqrt(variance + epsilon) + beta, channel by channel.

    Args:
        images: float [N, H, W, C].
        mean, variance, gamma, beta: float [C].
        epsilon: keeps the root away from 0.

    Returns:
        [N, H, W, C]

    Reference: Ioffe & Szegedy 2015, algorithm 1.
    """
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    return images * tf.cast(scale, images.dtype) + tf.cast(beta - mean * scale, images.dtype)


class BatchNormalization(tf.Module):
    """Owns `gamma`, `beta` (trained) and `moving_mean`, `moving_variance` (averaged), all [channels]."""

    def __init__(self, channels: int, *, synchronized: bool = False, name: str = "batch_normalization"):
        """`synchronized`: a batch is what all replicas see of it, not only the images of this one."""
        super().__init__(name)
        self.mean_of = mean_of_batch if synchronized else tf.reduce_mean
        with self.name_scope:
            self.gamma = tf.Variable(tf.ones([channels]), name="gamma")
            self.beta = tf.Variable(tf.zeros([channels]), name="beta")
            self.moving_mean = tf.Variable(tf.zeros([channels]), trainable=False, name="moving_mean")
            self.moving_variance = tf.Variable(tf.ones([channels]), trainable=False, name="moving_variance")

    @tf.Module.with_name_scope
    def __call__(self, images: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Normalizes [N, H, W, channels].

        training=True: with the batch's statistics, and moves the averages towards them.
        training=False: with the averages, so that an image's result does not depend on its neighbours.
        """
        if not training:
            return normalize(images, self.moving_mean, self.moving_variance, self.gamma, self.beta)
        # In float32, whatever the layers compute in: a sum over all pixels has no room in bfloat16.
        mean, variance = batch_moments(tf.cast(images, self.gamma.dtype), self.mean_of)
        self.move_averages(mean, variance)
        return normalize(images, mean, variance, self.gamma, self.beta)

    def move_averages(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """moving = MOMENTUM * moving + (1 - MOMENTUM) * batch, of both statistics."""
        self.moving_mean.assign_sub((1.0 - MOMENTUM) * (self.moving_mean - mean))
        self.moving_variance.assign_sub((1.0 - MOMENTUM) * (self.moving_variance - variance))


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    def by_the_batch(images, gamma, beta):
        """Normalizes with the batch's own statistics, as in training.

        mean[c], variance[c] = of images[n, y, x, c] over n, y, x
        output = gamma * (images - mean) / sqrt(variance + epsilon) + beta
        """
        return normalize(images, *batch_moments(images), gamma, beta)

    images = array("0.1 30  0.2 20  0.3 20  0.4 10", 1, 2, 2, 2)
    show(by_the_batch, by_hand.batch_normalization, images, array("1 2", 2), array("0 5", 2))
