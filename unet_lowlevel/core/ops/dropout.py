"""Dropout without hidden state."""

import tensorflow as tf

from unet_lowlevel.core.replicas import uniform_of_batch

fold_in = tf.random.experimental.stateless_fold_in


def dropout(images: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Sets a random share of the values to 0 and enlarges the others, so that the expectation stays.

    output = images * keep / (1 - rate), keep = 1 with probability 1 - rate, else 0

    Args:
        images: float, any shape.
        rate: share set to 0, in [0, 1).
        seed: int32 [3]; the same first two numbers drop the same values. The third tells how many images of the batch
            come before these, which are elsewhere: see `accumulation.py` and `replicas.py`.

    Returns:
        the shape of `images`.

    Reference: Srivastava et al. 2014, section 4 (here scaled while training instead of while testing).
    """
    keep = uniform_of_batch(tf.shape(images), seed) >= rate
    return tf.where(keep, images / (1.0 - rate), 0.0)


def seed_of_stream(seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Another seed for each stream; its third number stays."""
    return tf.concat([fold_in(seed[:2], stream), seed[2:]], 0)


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    show(dropout, by_hand.dropout, array("1 2 3 4  5 6 7 8  9 10 11 12  13 14 15 16", 1, 4, 4, 1), 0.25, [7, 1, 0])
