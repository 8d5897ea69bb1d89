"""The relatives of Dice and cross-entropy, and which loss a configuration names; see `losses.py` for p, g and K."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from unet_lowlevel.config import LossConfig
from unet_lowlevel.core.losses import (
    cross_entropy,
    dice,
    dice_cross_entropy,
    foreground,
    pixel_cross_entropy,
    pixel_weights,
    probabilities,
)
from unet_lowlevel.core.ops.masked_mean import masked_mean, mean
from unet_lowlevel.core.replicas import summed

Loss = Callable[..., tf.Tensor]


def batch_dice(labels, logits, *, smooth: float = 1.0, labelled=None) -> tf.Tensor:
    """Dice loss whose sums run over the whole batch: steadier where many images are empty.

    loss = mean over k >= 1 of 1 - (2 sum_n,i p g + smooth) / (sum_n,i p + sum_n,i g + smooth)

    The loss of a batch is not the mean of the losses of its images.

    Args:
        labels, logits, labelled: see `losses.py`.
        smooth: in pixels.

    Returns:
        scalar in [0, 1].

    Reference: see `losses.dice`.
    """
    g, p = foreground(labels, logits, labelled)
    overlap = tf.reduce_sum(p * g, [0, 1, 2])
    areas = tf.reduce_sum(p, [0, 1, 2]) + tf.reduce_sum(g, [0, 1, 2])
    overlap, areas = summed([overlap, areas])
    loss = 1.0 - tf.math.divide_no_nan(2.0 * overlap + smooth, areas + smooth)
    return mean(loss) if labelled is None else masked_mean(loss, tf.reduce_max(labelled))


def generalized_dice(labels, logits, *, labelled=None) -> tf.Tensor:
    """Generalized Dice loss: all classes in one ratio, rare ones weighted up.

    loss = mean over n of 1 - 2 (sum_k w sum_i p g) / (sum_k w sum_i (p + g)),  w = 1 / (sum_i g)^2

    The background counts as a class. A class that the image lacks, for which the paper's weight is infinite, has the
    largest weight of the classes that it has: a greater one would hide all others.

    Args:
        labels, logits, labelled: see `losses.py`.

    Returns:
        scalar in [0, 1].

    Reference: Sudre et al. 2017, equation 4.
    """
    p = probabilities(logits)
    if logits.shape[-1] == 1:
        p = tf.concat([1.0 - p, p], axis=-1)
    g = tf.one_hot(labels, p.shape[-1])
    if labelled is not None:
        g, p = g * labelled[..., tf.newaxis], p * labelled[..., tf.newaxis]
    area = tf.reduce_sum(g, [1, 2])
    weight = tf.math.divide_no_nan(1.0, tf.square(area))
    weight = tf.where(area > 0, weight, tf.reduce_max(weight, -1, keepdims=True))
    overlap = tf.reduce_sum(weight * tf.reduce_sum(p * g, [1, 2]), -1)
    areas = tf.reduce_sum(weight * (tf.reduce_sum(p, [1, 2]) + area), -1)
    loss = 1.0 - tf.math.divide_no_nan(2.0 * overlap, areas)
    return mean(loss) if labelled is None else masked_mean(loss, tf.reduce_max(labelled, [1, 2]))


def focal(
    labels, logits, weight_map=None, *, gamma: float = 2.0, class_weights: Sequence[float] = (), labelled=None
) -> tf.Tensor:
    """Focal loss: cross-entropy in which pixels that are right already hardly count.

    loss = - mean over n, i of w[n, i] (1 - q)^gamma log q,  q = p[n, i, label[n, i]]

    Args:
        labels, logits, weight_map, class_weights, labelled: see `cross_entropy`; the paper's alpha is a class weight.
        gamma: 0 or more; 0 is cross-entropy.

    Returns:
        scalar, 0 or more.

    Reference: Lin et al. 2017, equation 5.
    """
    loss = pixel_cross_entropy(labels, logits)
    # 1 - q = 1 - exp(-loss); expm1 stays exact where q is close to 1. The power's slope at 0 is infinite
    # for gamma < 1: the floor keeps the gradient finite.
    wrong = tf.maximum(-tf.math.expm1(-loss), 1e-7)
    loss = pixel_weights(labels, class_weights, weight_map) * tf.pow(wrong, gamma) * loss
    return mean(loss) if labelled is None else masked_mean(loss, labelled)


def tversky(labels, logits, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0, labelled=None) -> tf.Tensor:
    """Tversky loss: Dice with a price of its own for false positives (alpha) and false negatives (beta).

    loss = mean over n, k >= 1 of 1 - (T + smooth) / (T + alpha F+ + beta F- + smooth)
    T = sum_i p g,  F+ = sum_i p (1 - g),  F- = sum_i (1 - p) g

    Args:
        labels, logits, labelled: see `losses.py`.
        alpha, beta: 0 or more; 0.5 and 0.5 give the Dice loss with twice the `smooth`.
        smooth: in pixels.

    Returns:
        scalar in [0, 1].

    Reference: Salehi et al. 2017, equation 3.
    """
    g, p = foreground(labels, logits, labelled)
    overlap = tf.reduce_sum(p * g, [1, 2])
    false_positives = tf.reduce_sum(p * (1.0 - g), [1, 2])
    false_negatives = tf.reduce_sum((1.0 - p) * g, [1, 2])
    areas = overlap + alpha * false_positives + beta * false_negatives
    loss = 1.0 - tf.math.divide_no_nan(overlap + smooth, areas + smooth)
    return mean(loss) if labelled is None else masked_mean(loss, tf.reduce_max(labelled, [1, 2])[..., None])


def over_labelled(loss: Loss, ignored: int) -> Loss:
    """`loss` over the labelled pixels: those whose label is not `ignored`."""

    def of_labelled(labels, logits, *weight_map) -> tf.Tensor:
        labelled = labels != ignored
        labels = tf.where(labelled, labels, 0)  # a class: the others have no row in one-hot codes and class weights
        return loss(labels, logits, *weight_map, labelled=tf.cast(labelled, tf.float32))

    return of_labelled


def make_loss(config: LossConfig, ignored: int | None = None) -> Loss:
    """The loss that the configuration names, as a function (labels, logits) -> scalar.

    Cross-entropy, alone or with Dice, and focal loss take a third argument, a weight map float32 [N, H, W] or None.
    Pixels with the label `ignored` do not count; None: all pixels count.
    """
    smooth: dict[str, Any] = {"smooth": config.dice_smooth}
    class_weights: dict[str, Any] = {"class_weights": config.class_weights}
    table: dict[str, tuple[Loss, dict[str, Any]]] = {
        "dice": (dice, smooth),
        "batch_dice": (batch_dice, smooth),
        "generalized_dice": (generalized_dice, {}),
        "cross_entropy": (cross_entropy, class_weights),
        "dice_cross_entropy": (dice_cross_entropy, smooth | class_weights),
        "focal": (focal, class_weights | {"gamma": config.focal_gamma}),
        "tversky": (tversky, smooth | {"alpha": config.tversky_alpha, "beta": config.tversky_beta}),
    }
    function, options = table[config.loss]
    loss = functools.partial(function, **options)
    return loss if ignored is None else over_labelled(loss, ignored)
