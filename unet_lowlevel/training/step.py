"""The training step: forward, loss, gradient, update. All that happens to a weight is in this file."""

import tensorflow as tf

from unet_lowlevel import metrics
from unet_lowlevel.config import Config
from unet_lowlevel.losses import make_loss, probabilities
from unet_lowlevel.ops.cropping import center_crop
from unet_lowlevel.optimizers import MovingAverage, clip_by_global_norm, global_norm, learning_rate_at, make_optimizer
from unet_lowlevel.unet import UNet


def fit_labels(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The labels, or weights, under the logits: a valid network speaks of the middle of its input only."""
    if labels.shape[1:3].is_fully_defined() and labels.shape[1:3] == logits.shape[1:3]:
        return labels
    return center_crop(labels, tf.shape(logits)[1], tf.shape(logits)[2])


class TrainStep(tf.Module):
    """One update of the network's weights, compiled into a graph once.

    Owns the step counter, the optimizer's slots and, where wished, the moving average of the weights:
    together with the model, all that training has to remember.
    """

    def __init__(self, model: UNet, config: Config, crop: tuple[int, int], total_steps: int):
        """Prepares the step.

        Args:
            model: the network to train.
            config: loss, optimizer, schedule, seed.
            crop: height and width of the training images.
            total_steps: of the whole training, for the schedule.
        """
        super().__init__("train_step")
        self.model = model
        self.config = config
        self.loss = make_loss(config.loss)
        trained = {name: variable for name, variable in model.named_variables().items() if variable.trainable}
        self.names, self.weights = list(trained), list(trained.values())
        self.optimizer = make_optimizer(config.optimizer, self.weights)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        decay = config.optimizer.ema_decay
        self.average = MovingAverage(list(model.named_variables().values()), decay) if decay else None
        self.total_steps = total_steps
        # One signature, the number of images left open: the smaller last batch of an epoch is not
        # another graph.
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

    def update(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None = None) -> dict:
        """Moves every weight once, against the gradient of the loss on this batch.

        Args:
            images: float32 [N, H, W, C], normalized.
            labels: int32 [N, H, W].
            weights: float32 [N, H, W], how much each pixel counts in the loss; None: all alike.

        Returns:
            loss (scalar), learning_rate, gradient_norm; counts of the batch as
            `metrics.counts` gives them per image: confusion, thresholds; gradients, one for each weight.
        """
        step = self.step.value()
        with tf.name_scope("dropout_seed"):
            seed = tf.stack([self.config.training.seed, tf.cast(step, tf.int32)])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.weights)
            logits = self.model(images, training=True, seed=seed)
            with tf.name_scope("loss"):
                labels = fit_labels(labels, logits)
                if weights is None:
                    loss = self.loss(labels, logits)
                else:
                    loss = self.loss(labels, logits, fit_labels(weights, logits))
        gradients = tape.gradient(loss, self.weights)
        with tf.name_scope("optimizer"):
            gradient_norm = global_norm(gradients)
            clip_norm = self.config.optimizer.clip_norm
            clipped = clip_by_global_norm(gradients, gradient_norm, clip_norm) if clip_norm else gradients
            learning_rate = learning_rate_at(step, self.config.optimizer, self.total_steps)
            self.optimizer.apply(self.weights, clipped, step, learning_rate)
            self.step.assign_add(1)
            if self.average:
                self.average.update(step)
        with tf.name_scope("metrics"):
            confusion, thresholds = metrics.counts(labels, logits, self.config.training.threshold)
        return {
            "loss": loss,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "confusion": confusion,
            "thresholds": thresholds,
            "gradients": gradients,
        }


class EvaluationStep(tf.Module):
    """Probabilities, loss and counts of whole images, without any change to the network."""

    def __init__(self, model: UNet, config: Config):
        super().__init__("evaluation_step")
        self.model = model
        self.config = config
        self.loss = make_loss(config.loss)
        self.compiled = tf.function(
            self.evaluate,
            input_signature=[
                tf.TensorSpec([None, None, None, model.config.in_channels], tf.float32, "images"),
                tf.TensorSpec([None, None, None], tf.int32, "labels"),
            ],
            autograph=False,
        )

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Runs `evaluate` in its compiled form."""
        return self.compiled(images, labels)

    def evaluate(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Looks at whole images with the network as it is used for prediction.

        The loss is without weight maps, which say what to learn first, not how good the result is; so losses of
        trainings with and without them can be compared.

        Args:
            images: float32 [N, H, W, C], normalized, of any size.
            labels: int32 [N, H, W].

        Returns:
            loss (scalar), probabilities [N, H, W, K], and per image confusion and thresholds as
            `metrics.counts` gives them.
        """
        logits = self.model.whole(images)
        p = probabilities(logits)
        confusion, thresholds = metrics.probability_counts(labels, p, self.config.training.threshold)
        return {
            "loss": self.loss(labels, logits),
            "probabilities": p,
            "confusion": confusion,
            "thresholds": thresholds,
        }
