"""The training step: forward, loss, gradient, update. All that happens to a weight is in this file."""

from collections.abc import Callable

import tensorflow as tf

from unet_lowlevel.config import Config
from unet_lowlevel.core.accumulation import in_parts
from unet_lowlevel.core.loss_scale import LossScale
from unet_lowlevel.core.moving_average import MovingAverage
from unet_lowlevel.core.ops.cropping import crop_like
from unet_lowlevel.core.optimizers import SGD, Adam, clip_by_global_norm, global_norm, learning_rate_at
from unet_lowlevel.core.replicas import average_variables, summed
from unet_lowlevel.core.unet import UNet


class TrainStep(tf.Module):
    """One update of the network's weights, compiled into a graph once.

    Owns the step counter, the optimizer and the averaged weights: with the model, all that has to be remembered.
    """

    def __init__(
        self,
        model: UNet,
        loss: Callable[..., tf.Tensor],
        optimizer: Adam | SGD,
        config: Config,
        crop: tuple[int, int],
        total_steps: int,
        counts: Callable[[tf.Tensor, tf.Tensor], dict] | None = None,
    ):
        """Prepares the step.

        Args:
            model: the network to train.
            loss: of labels, logits and, with weight maps, those; see `losses.py`.
            optimizer: of `model.trained_variables()`.
            config: clipping, schedule, averaging, weight maps, seed, accumulation, loss scaling.
            crop: height and width of the training images.
            total_steps: of the whole training, for the schedule.
            counts: {name: tensor} of labels and logits, which the step returns as well, summed, for curves.
        """
        super().__init__("train_step")
        self.model, self.loss, self.optimizer, self.config = model, loss, optimizer, config
        self.total_steps, self.counts = total_steps, counts
        self.names, self.weights = map(list, zip(*model.trained_variables().items(), strict=True))
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.loss_scale = LossScale() if config.model.precision == "float16" else None
        decay = config.optimizer.ema_decay
        self.average = MovingAverage(list(model.named_variables().values()), decay) if decay else None
        # One signature, the number of images left open: the smaller last batch of an epoch is not another graph.
        signature = [
            tf.TensorSpec([None, *crop, model.config.in_channels], tf.float32, "images"),
            tf.TensorSpec([None, *crop], tf.int32, "labels"),
        ]
        if config.loss.weight_map:
            signature.append(tf.TensorSpec([None, *crop], tf.float32, "weights"))
        self.compiled = tf.function(self.update, input_signature=signature, autograph=False)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor) -> dict:
        """Runs `update` in its compiled form, with weights exactly if the configuration asks for weight maps."""
        return self.compiled(images, labels, *weights)

    def update(self, images: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor) -> dict:
        """Moves every weight once, against the gradient of the loss on this batch.

        Args:
            images: float32 [N, H, W, C], normalized.
            labels: int32 [N, H, W].
            weights: float32 [N, H, W], how much each pixel counts in the loss; none: all alike.

        Returns:
            loss (scalar), learning_rate, gradient_norm; gradients, one for each weight; and what `counts` gives.
        """
        step = self.step.value()
        parts = in_parts(self.gradient, self.config.training.accumulate, images, labels, *weights)
        loss, gradients, counts = map(summed, parts)  # of replicas that share the batch
        average_variables([v for v in self.model.named_variables().values() if not v.trainable], images)
        with tf.name_scope("optimizer"):
            if self.loss_scale:
                gradients = self.loss_scale.undo(gradients)
            gradient_norm = global_norm(gradients)
            clip_norm = self.config.optimizer.clip_norm
            clipped = clip_by_global_norm(gradients, gradient_norm, clip_norm) if clip_norm else gradients
            learning_rate = learning_rate_at(step, self.config.optimizer, self.total_steps)
            self.optimizer.apply(self.weights, clipped, step, learning_rate)
            self.step.assign_add(1)
            if self.average:
                self.average.update(step)
        results = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": gradient_norm, "gradients": gradients}
        return results | counts

    def gradient(self, share: tf.Tensor, before: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor):
        """What some images of the batch add to its loss, to the (scaled) gradient and to the counts; see `in_parts`."""
        with tf.name_scope("dropout_seed"):
            seed = tf.concat([[self.config.training.seed, tf.cast(self.step, tf.int32)], before], 0)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.weights)
            logits = self.model(images, training=True, seed=seed)
            with tf.name_scope("loss"):  # a valid network speaks of the middle of its input only
                labels, *maps = (crop_like(pixels, logits) for pixels in (labels, *weights))
                loss = share * self.loss(labels, logits, *maps)
        with tf.name_scope("counts"):
            counts = self.counts(labels, logits) if self.counts else {}
        return loss, tape.gradient(loss, self.weights, self.loss_scale and self.loss_scale.scale), counts
