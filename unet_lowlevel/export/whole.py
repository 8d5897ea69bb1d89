"""All that happens to an image on its way to a mask, as one graph: what is exported."""

import tensorflow as tf

from unet_lowlevel.config import DataConfig
from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.views import Flip
from unet_lowlevel.scoring.counts import predicted_labels
from unet_lowlevel.training.steps import whole_logits


class Whole(tf.Module):
    """images [N, H, W, C] as stored -> probabilities [N, H, W, K] and mask [N, H, W], as `Predictor` computes them.

    Images of a batch are of one size; each is normalized by itself.
    """

    def __init__(self, predictor: Predictor, *, statistics: tf.DType = tf.float64):
        """Of the first network of `predictor`; the type in which images are normalized, float64 as in training."""
        super().__init__("whole")
        self.data, self.views, self.statistics = predictor.config.data, predictor.views, statistics
        self.threshold = predictor.config.training.decision_threshold
        self.channels = predictor.config.model.in_channels
        model = predictor.networks[0].model
        # A function of its own, so that several signatures share one copy of the weights.
        self.network = tf.function(
            lambda images: probabilities(whole_logits(model, images)),
            input_signature=[tf.TensorSpec([None, None, None, self.channels], tf.float32)],
            autograph=False,
        )

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predicts.

        Args:
            images: of any real dtype [N, H, W, C].

        Returns:
            probabilities float32 [N, H, W, K], K = 1: of the foreground, else of every class; mask uint8 [N, H, W], the
            class of each pixel.
        """
        pixels = tf.cast(images, self.statistics)
        pixels = area_resized(pixels, self.data) if self.data.resizes else pixels
        normalized = normalize(pixels, self.data)
        views = [turned_back(self.network(turned(normalized, view)), view) for view in self.views]
        found = tf.add_n(views) / len(views) if len(views) > 1 else views[0]
        if self.data.resizes:
            found = tf.image.resize(found, tf.shape(images)[1:3])
        return {"probabilities": found, "mask": tf.cast(predicted_labels(found, self.threshold), tf.uint8)}


def normalize(pixels: tf.Tensor, data: DataConfig) -> tf.Tensor:
    """`samples.normalization` of each image [N, H, W, C], float32."""
    if data.normalization == "range":
        low, high = data.normalization_range
        return tf.cast(tf.clip_by_value((pixels - low) / (high - low), 0, 1), tf.float32)
    shift, scale = shift_and_scale(pixels, data)
    return tf.cast((pixels - shift) / scale, tf.float32)


def shift_and_scale(pixels: tf.Tensor, data: DataConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Those of `samples.Normalization` for "standard" and "minmax", [N, 1, 1, 1] of [N, H, W, C]."""
    axes = [1, 2, 3]
    low, high = (reduce(pixels, axes, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    if data.normalization == "minmax":
        shift, scale = low, high - low
    else:
        shift = tf.reduce_mean(pixels, axes, keepdims=True)
        scale = tf.sqrt(tf.reduce_mean(tf.square(pixels - shift), axes, keepdims=True))
    constant = tf.equal(low, high)
    return tf.where(constant, low, shift), tf.where(constant, tf.ones_like(scale), scale)


def area_resized(images: tf.Tensor, data: DataConfig) -> tf.Tensor:
    """`resolution.resized_image` of images [N, H, W, C] of float32 or float64."""
    # The axis last, as matrix products need it, and back again.
    for there, back in (([0, 3, 2, 1], [0, 3, 2, 1]), ([0, 3, 1, 2], [0, 2, 3, 1])):
        axis_last = tf.transpose(images, there)
        n, _, rest, side = tf.unstack(tf.shape(axis_last))
        working = tf.constant(data.image_size) if data.image_size else scaled(side, data.resolution)
        # One product for all images: where `tf.matmul` has to repeat a transposed matrix for each, it writes wrong
        # numbers, and beyond its memory (TensorFlow 2.21).
        shares = area_shares(side, working, images.dtype)[tf.newaxis]
        product = tf.matmul(tf.reshape(axis_last, [1, -1, side]), shares, transpose_b=True)
        images = tf.transpose(tf.reshape(product, [n, images.shape[-1], rest, working]), back)
    return images


def scaled(side: tf.Tensor, factor: float) -> tf.Tensor:
    """max(1, round(side factor)), int32."""
    return tf.maximum(tf.cast(tf.round(tf.cast(side, tf.float32) * factor), tf.int32), 1)


def area_shares(length: tf.Tensor, working: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Which share of each of `working` pixels each of `length` pixels covers that span the same axis.

    share[i, j] = max(0, min((i + 1) length, (j + 1) working) - max(i length, j working)) / length

    Returns:
        `dtype` [working, length]; each row adds up to 1.
    """
    ends = tf.range(1, working + 1)[:, tf.newaxis] * length
    others = tf.range(1, length + 1)[tf.newaxis] * working
    overlap = tf.minimum(ends, others) - tf.maximum(ends - length, others - working)
    return tf.cast(tf.maximum(overlap, 0), dtype) / tf.cast(length, dtype)


def turned(images: tf.Tensor, view: Flip) -> tf.Tensor:
    """`view.of` each of the images [N, H, W, C]."""
    return reversed_axes(tf.transpose(images, [0, 2, 1, 3]) if view.exchanged else images, view)


def turned_back(found: tf.Tensor, view: Flip) -> tf.Tensor:
    """What was found for the views [N, H', W', K], as that of the images [N, H, W, K]."""
    found = reversed_axes(found, view)
    return tf.transpose(found, [0, 2, 1, 3]) if view.exchanged else found


def reversed_axes(images: tf.Tensor, view: Flip) -> tf.Tensor:
    axes = [axis for axis, wanted in ((1, view.upside_down), (2, view.left_right)) if wanted]
    return tf.reverse(images, axes) if axes else images
