"""Losses, all from logits: Dice, cross-entropy, their sum. `more_losses.py` has their relatives.

Every function takes `labels` int [N, H, W] with values 0 ... classes - 1, `logits` float32 [N, H, W, K] and returns a
float32 scalar, lower for better; of several replicas its part, see `ops/masked_mean.py`. K = 1 stands for one kind of
foreground: its probability is sigmoid(logits) and there are two classes. K >= 2 are K classes with softmax.

In the equations p[n, i, k] is the probability of class k at pixel i of image n, and g[n, i, k] is 1 where that is the
true class, else 0. "Foreground" classes are all but class 0. Sums and means over i are over the labelled pixels, over n
over the images that have some; 0 without any: `labelled`, float32 [N, H, W], is 1 where a pixel is labelled, else 0.
None, the default: all pixels are.
"""

from collections.abc import Sequence

import tensorflow as tf

from unet_lowlevel.core.ops.masked_mean import masked_mean, mean


def probabilities(logits: tf.Tensor) -> tf.Tensor:
    """p = sigmoid(logits) for one channel, softmax(logits) over the channels otherwise; [N, H, W, K]."""
    return tf.sigmoid(logits) if logits.shape[-1] == 1 else tf.nn.softmax(logits)


def foreground(labels: tf.Tensor, logits: tf.Tensor, labelled=None) -> tuple[tf.Tensor, tf.Tensor]:
    """g and p of the foreground classes, float32, both [N, H, W, max(K - 1, 1)], 0 where not labelled."""
    if logits.shape[-1] == 1:
        g, p = tf.cast(labels[..., tf.newaxis], tf.float32), tf.sigmoid(logits)
    else:
        g, p = tf.one_hot(labels, logits.shape[-1])[..., 1:], tf.nn.softmax(logits)[..., 1:]
    return (g, p) if labelled is None else (g * labelled[..., tf.newaxis], p * labelled[..., tf.newaxis])


def dice(labels, logits, *, smooth: float = 1.0, labelled=None) -> tf.Tensor:
    """Dice loss: one minus twice the overlap over the sum of the areas.

    loss = mean over n, k >= 1 of 1 - (2 sum_i p g + smooth) / (sum_i p + sum_i g + smooth)

    Args:
        labels, logits, labelled: see the module.
        smooth: in pixels; an image without foreground that is predicted as such has loss 0.

    Returns:
        scalar in [0, 1].

    Reference: Milletari et al. 2016, section 3, but with p and g instead of their squares in the
    denominator, as is usual today.
    """
    g, p = foreground(labels, logits, labelled)
    overlap = tf.reduce_sum(p * g, [1, 2])
    areas = tf.reduce_sum(p, [1, 2]) + tf.reduce_sum(g, [1, 2])
    # Without smooth, an empty image whose probabilities round to 0 has areas of 0.
    loss = 1.0 - tf.math.divide_no_nan(2.0 * overlap + smooth, areas + smooth)
    return mean(loss) if labelled is None else masked_mean(loss, tf.reduce_max(labelled, [1, 2])[..., None])


def pixel_cross_entropy(labels, logits) -> tf.Tensor:
    """-log of the probability of the true class at each pixel, float32 [N, H, W].

    softmax: log(sum_k exp(z_k)) - z_label;  sigmoid: log(1 + exp(-z)) for label 1, log(1 + exp(z)) for label 0

    Both are computed from the logits z, so that no probability is rounded to 0 or 1 before its logarithm.
    """
    if logits.shape[-1] == 1:
        z = logits[..., 0]
        # The usual max(z, 0) - z g + log(1 + exp(-|z|)) has a wrong gradient at z = 0, where a flat image starts.
        return tf.nn.softplus(tf.where(labels > 0, -z, z))
    g = tf.one_hot(labels, logits.shape[-1])
    return tf.reduce_logsumexp(logits, -1) - tf.reduce_sum(logits * g, -1)


def pixel_weights(labels, class_weights: Sequence[float], weight_map) -> tf.Tensor | float:
    """class_weights[label] * weight_map, float32 [N, H, W]; what is not given counts as 1.

    The paper's weight_map, which balances the classes by itself: w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)).

    Reference: Ronneberger et al. 2015, equation 2.
    """
    weights = tf.gather(tf.constant(class_weights, tf.float32), labels) if class_weights else 1.0
    return weights if weight_map is None else weights * weight_map


def cross_entropy(labels, logits, weight_map=None, *, class_weights: Sequence[float] = (), labelled=None) -> tf.Tensor:
    """Weighted cross-entropy, binary (K = 1) or softmax.

    loss = - mean over n, i of w[n, i] log p[n, i, label[n, i]],  w = class_weights[label] * weight_map

    The mean is over pixels, not over the sum of weights: weights all twice as large double the loss.

    Args:
        labels, logits, labelled: see the module.
        weight_map: float32 [N, H, W] or None; see `pixel_weights`.
        class_weights: one for each of max(K, 2) classes, background first; empty: all 1.

    Returns:
        scalar, 0 or more.

    Reference: Ronneberger et al. 2015, equation 1.
    """
    loss = pixel_weights(labels, class_weights, weight_map) * pixel_cross_entropy(labels, logits)
    return mean(loss) if labelled is None else masked_mean(loss, labelled)


def dice_cross_entropy(labels, logits, weight_map=None, *, smooth: float = 1.0, class_weights=(), labelled=None):
    """loss = dice + cross_entropy: the first sees regions, the second every pixel."""
    regions = dice(labels, logits, smooth=smooth, labelled=labelled)
    return regions + cross_entropy(labels, logits, weight_map, class_weights=class_weights, labelled=labelled)


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    labels, logits = array("0 1  1 0", 1, 2, 2, dtype="int32"), array("-2 3  -1 0", 1, 2, 2, 1)
    show(dice, by_hand.dice, labels, logits)
    show(cross_entropy, by_hand.cross_entropy, labels, logits)
