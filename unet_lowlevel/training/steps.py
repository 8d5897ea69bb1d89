"""The steps of a configuration: the training step of `core/`, with fast forms unless --plain; the evaluation step."""

import tensorflow as tf

from unet_lowlevel.config import Config
from unet_lowlevel.core import fast, optimizers
from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.core.more_losses import make_loss
from unet_lowlevel.core.ops.cropping import mirror_crop
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.geometry import smallest_valid_size, valid_margin
from unet_lowlevel.scoring.counts import CURVE, OF_CURVE, logit_counts, probability_counts


def train_step(model: UNet, config: Config, crop: tuple[int, int], total_steps: int) -> TrainStep:
    """The `TrainStep` of a configuration, which also counts pixels for the curves; for arguments see `TrainStep`."""
    make_optimizer = optimizers.make_optimizer if config.model.plain else fast.make_optimizer
    optimizer = make_optimizer(config.optimizer, list(model.trained_variables().values()))
    ignored = config.data.ignored

    def counts(labels: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        found = logit_counts(labels, logits, config.training.decision_threshold, ignored)
        return {name: tf.reduce_sum(count, 0, keepdims=True) for name, count in found.items()}

    return TrainStep(model, make_loss(config.loss, ignored), optimizer, config, crop, total_steps, counts)


def whole_logits(model: UNet, images: tf.Tensor) -> tf.Tensor:
    """Logits of every pixel of the images, for prediction: [N, H, W, in_channels] -> [N, H, W, classes].

    For a valid network the images are extended by mirroring, so that its output covers them.

    Reference: Ronneberger et al. 2015, figure 2.
    """
    if model.config.padding == "same":
        return model(images, training=False)
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    before = -valid_margin(model.config) // 2
    sides = (smallest_valid_size(model.config, side) for side in (height, width))
    return model(mirror_crop(images, before, before, *sides), training=False)[:, :height, :width]


class EvaluationStep(tf.Module):
    """Probabilities, loss and counts of whole images, without any change to the network."""

    def __init__(self, model: UNet, config: Config):
        super().__init__("evaluation_step")
        self.model = model
        self.config = config
        self.loss = make_loss(config.loss, config.data.ignored)
        self.compiled = tf.function(
            self.evaluate,
            input_signature=[
                tf.TensorSpec([None, None, None, model.config.in_channels], tf.float32, "images"),
                tf.TensorSpec([None, None, None], tf.int32, "labels"),
                tf.TensorSpec([None, None, None], tf.int32, "truth"),
            ],
            autograph=False,
        )

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, truth: tf.Tensor | None = None) -> dict:
        """Runs `evaluate` in its compiled form; without `truth` the labels are it."""
        return self.compiled(images, labels, labels if truth is None else truth)

    def evaluate(self, images: tf.Tensor, labels: tf.Tensor, truth: tf.Tensor) -> dict:
        """Applies the network to whole images, as in prediction.

        The loss is without weight maps, which guide learning but do not measure the result. So losses of trainings with
        and without them can be compared.

        Args:
            images: float32 [N, h, w, C], normalized, of any size.
            labels: int32 [N, h, w], for the loss.
            truth: int32 [N, H, W], the labels at the size as stored, for the counts.

        Returns:
            loss (scalar), probabilities [N, H, W, K], and per image confusion and thresholds, see
            `counts.probability_counts`; curve: the same as thresholds, for a precision-recall curve.
        """
        logits = whole_logits(self.model, images)
        p = probabilities(logits)
        if self.config.data.resizes:
            p = tf.image.resize(p, tf.shape(truth)[1:])
        training, ignored = self.config.training, self.config.data.ignored
        counted = probability_counts(truth, p, training.decision_threshold, ignored, CURVE)
        curve = counted["thresholds"]
        counted |= {"thresholds": curve[:, :, OF_CURVE], "curve": curve}
        return {"loss": self.loss(labels, logits), "probabilities": p} | counted
