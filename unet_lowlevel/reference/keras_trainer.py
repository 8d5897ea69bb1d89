"""Training by Keras' `compile` and `fit`, in place of `training/trainer.py` and `core/step.py`.

It writes the same run folder. This module adds what `fit` does not do by itself: a loss from integer labels,
scores from counts, gradients for TensorBoard, an exact resumption.
"""

import contextlib
import math
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import Config, OptimizerConfig
from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.core.more_losses import Loss, make_loss
from unet_lowlevel.core.ops.cropping import crop_like
from unet_lowlevel.core.optimizers import global_norm, learning_rate_at
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies, without_autotuning
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.memory import within_memory
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.weights import write_keras
from unet_lowlevel.scoring import counts
from unet_lowlevel.terminal import OnStep, say
from unet_lowlevel.training.drawings import picture, to_draw
from unet_lowlevel.training.history import epoch_line
from unet_lowlevel.training.initial_weights import begin_with
from unet_lowlevel.training.interruption import Stopped, StopSignals
from unet_lowlevel.training.journal import Journal
from unet_lowlevel.training.steps import whole_logits
from unet_lowlevel.training.trainer import (
    check_validation,
    image_too_large,
    step_too_large,
    warn_of_one_class,
)


class FittedUNet(tf.keras.Model):
    """What `fit` trains: the functional network between the padding and cropping that let it take any size."""

    def __init__(self, unet: KerasUNet):
        super().__init__()
        self.unet = unet
        self.network = unet.network

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Images [N, H, W, C] -> logits; of the middle for training in valid mode, else of every pixel."""
        return self.unet(images, training=True) if training else whole_logits(self.unet, images)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> tf.Tensor:
        """The loss of logits at the resolution of the images; see `whole_images` for labels of two sizes."""
        labels = y[0] if isinstance(y, tuple) else y
        return super().compute_loss(x, labels, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict:
        """The scores of probabilities at the size of the labels as stored."""
        p = probabilities(y_pred)
        if isinstance(y, tuple):
            y = y[1]
            p = tf.image.resize(p, tf.shape(y)[1:3])
        return super().compute_metrics(x, y, p, sample_weight)


class Scores(tf.keras.metrics.Metric):
    """dice, iou and mean_iou of all images since the last reset, from counts of pixels; see `counts.scores`."""

    def __init__(self, classes: int, threshold: float, ignored: int | None = None):
        super().__init__(name="scores")
        self.threshold, self.ignored = threshold, ignored
        at_least_two = max(classes, 2)
        self.confusion = self.add_weight(shape=[at_least_two] * 2, initializer="zeros", dtype="int64")
        self.thresholds = self.add_weight(
            shape=[at_least_two - 1, len(counts.THRESHOLDS), 2, 2], initializer="zeros", dtype="int64"
        )

    def update_state(self, labels, p, sample_weight=None) -> None:
        """Counts labels [N, H, W, 1], or with weights [N, H, W, 2], and probabilities [N, H', W', K]."""
        labels = tf.cast(labels[..., 0], tf.int32)
        counted = counts.probability_counts(crop_like(labels, p), p, self.threshold, self.ignored)
        self.confusion.assign_add(tf.reduce_sum(counted["confusion"], 0))
        self.thresholds.assign_add(tf.reduce_sum(counted["thresholds"], 0))

    def result(self) -> dict[str, tf.Tensor]:
        names = ("dice", "iou", "mean_iou")

        def scores(confusion, thresholds):
            values = counts.scores(confusion, thresholds)
            return [values[name] for name in names]

        return dict(
            zip(names, tf.numpy_function(scores, [self.confusion, self.thresholds], [tf.float64] * 3), strict=True)
        )


class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """`learning_rate_at` as a schedule of Keras."""

    def __init__(self, config: OptimizerConfig, total_steps: int):
        self.config, self.total_steps = config, total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return learning_rate_at(step, self.config, self.total_steps)


class KeepsGradients:
    """Adds `gradients`, those of the last step, to a Keras optimizer, for TensorBoard."""

    def build(self, variables) -> None:
        super().build(variables)
        self.gradients = [self.add_variable_from_reference(variable, "gradient") for variable in variables]

    def apply(self, grads, trainable_variables=None) -> None:
        for kept, gradient in zip(self.gradients, grads, strict=True):
            kept.assign(gradient)
        super().apply(grads, trainable_variables)


class Adam(KeepsGradients, tf.keras.optimizers.Adam):
    """Keras' Adam."""


class SGD(KeepsGradients, tf.keras.optimizers.SGD):
    """Keras' SGD."""


def make_optimizer(config: OptimizerConfig, total_steps: int, model: tf.keras.Model) -> tf.keras.optimizers.Optimizer:
    """The Keras optimizer that updates as `optimizers.make_optimizer` and `TrainStep` do, built for the model.

    Raises:
        UserError: when averaged weights are asked for.
    """
    if config.ema_decay:
        raise UserError(
            f"--ema-decay is {config.ema_decay}, but Keras' averages leave out batch normalization's statistics: leave "
            "the flag out, or train with train_lowlevel.py or train_highlevel.py."
        )
    rate, clip, decay = Schedule(config, total_steps), config.clip_norm or None, config.weight_decay or None
    if config.optimizer == "adam":
        optimizer = Adam(rate, global_clipnorm=clip, weight_decay=decay)
    else:
        optimizer = SGD(rate, config.momentum, config.nesterov, global_clipnorm=clip, weight_decay=decay)
    optimizer.exclude_from_weight_decay([variable for variable in model.trainable_variables if len(variable.shape) < 2])
    optimizer.build(model.trainable_variables)
    return optimizer


class KerasTrainer:
    """Trains a `KerasUNet` on samples by `fit` and writes the run folder, as `Trainer` does for the other networks."""

    def __init__(self, config: Config, run: Path, training: list[Sample], validation: list[Sample]):
        """Builds the network and compiles it; writes nothing yet. For the arguments see `Trainer`.

        Raises:
            UserError: for settings that Keras lacks; see also `Trainer`.
        """
        check_validation(config, validation)
        self.config, self.run, self.validation = config, run, validation
        self.unet = KerasUNet(config.model, seed=config.training.seed)
        if config.training.output_bias_prior:
            self.unet.set_output_bias(class_frequencies(training, config.model.classes))
        begin_with(self.unet, config.training.init, run)
        self.batches = TrainingBatches(training, config)
        self.total_steps = config.training.epochs * self.batches.steps_per_epoch
        self.model = FittedUNet(self.unet)
        self.scores = Scores(config.model.classes, config.training.decision_threshold, config.data.ignored)
        self.model.compile(
            make_optimizer(config.optimizer, self.total_steps, self.model),
            loss=packed_loss(make_loss(config.loss, config.data.ignored)),
            metrics=[self.scores],
            jit_compile=False,  # the same compilation for all implementations
        )

    def fit(self, *, resume: bool = False, on_step: OnStep | None = None) -> dict:
        """As `Trainer.fit`, but only at the end of epochs the state is saved and a signal ends the training."""
        self.journal = Journal(self.config, self.run, self.unet, self.model.optimizer, resume=resume)
        self.journal.note_learning_rate(self.total_steps)
        channels = self.config.model.in_channels
        if not self.journal.history:
            self.journal.summaries.graph(
                "network", tf.function(self.model, [tf.TensorSpec([None, None, None, channels])], autograph=False)
            )
        with contextlib.closing(self.journal), StopSignals() as signals:
            if self.journal.out_of_patience():
                say(self.journal.verdict_on_patience())
            else:
                batches = self.batches.dataset.map(
                    lambda images, *masks: (images, tf.stack([tf.cast(mask, tf.float32) for mask in masks[:-1]], -1))
                )
                writes_run_folder = WritesRunFolder(self, on_step, signals)
                with within_memory(writes_run_folder.too_large), self.batches.mistakes_told():
                    self.model.fit(
                        batches.apply(tf.data.experimental.assert_cardinality(self.batches.steps_per_epoch)),
                        validation_data=whole_images(self.validation, channels),
                        initial_epoch=len(self.journal.history),
                        epochs=self.config.training.epochs,
                        callbacks=[writes_run_folder],
                        verbose=1 if on_terminal() else 0,
                        shuffle=False,  # the batches are shuffled already
                    )
        return self.journal.kept()


def packed_loss(loss: Loss) -> Loss:
    """`loss` of one tensor, as Keras wants it: labels [N, H, W, 1], or labels and weight map [N, H, W, 2]."""

    def unpacked(packed: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        labels, *weights = tf.unstack(crop_like(packed, logits), axis=-1)
        return loss(tf.cast(labels, tf.int32), logits, *weights)

    return unpacked


def on_terminal() -> bool:
    return sys.stdout.isatty()


def whole_images(samples: list[Sample], channels: int) -> tf.data.Dataset:
    """Images float32 [1, h, w, C] and labels int32 [1, h, w, 1], one by one.

    Of samples that are shrunk there are two labels, the second of the size as stored, int32 [1, H, W, 1].
    """
    labels = (tf.TensorSpec([1, None, None, 1], tf.int32),) * len(samples[0].labels)

    def of_sample(sample: Sample) -> tuple:
        found = tuple(label[None, ..., None] for label in sample.labels)
        return sample.normalized()[None], found if len(found) > 1 else found[0]

    images = tf.data.Dataset.from_generator(
        lambda: map(of_sample, samples),
        output_signature=(
            tf.TensorSpec([1, None, None, channels], tf.float32),
            labels if len(labels) > 1 else labels[0],
        ),
    )
    return (
        images.apply(tf.data.experimental.assert_cardinality(len(samples)))
        .prefetch(2)
        .with_options(without_autotuning())
    )


class WritesRunFolder(tf.keras.callbacks.Callback):
    """Connects `fit` with the journal: the epoch's batches, best weights, history, curves, early stopping."""

    def __init__(self, trainer: KerasTrainer, on_step: OnStep | None, signals: StopSignals):
        super().__init__()
        self.trainer, self.journal, self.on_step, self.signals = trainer, trainer.journal, on_step, signals
        self.validating: Sample | None = None

    def too_large(self) -> str:
        """The message when memory runs out."""
        kept = self.journal.what_is_kept()
        if self.validating:
            return image_too_large(self.validating, kept)
        return step_too_large(self.trainer.config, kept, can_recompute=False)

    def on_epoch_begin(self, epoch, logs=None):
        # Keras counts from 0. The dataset is iterated anew after this.
        self.trainer.batches.epoch.assign(epoch + 1)
        self.start, self.images = time.perf_counter(), 0
        self.validating = None

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        if not math.isfinite(logs["loss"]):
            raise self.journal.diverged(f"The loss is {logs['loss']} at step {step}: look at the images, or")
        if self.on_step:
            self.on_step(step, logs["loss"])

    def on_test_begin(self, logs=None):
        self.training_seconds = time.perf_counter() - self.start
        self.sums: list[dict[str, np.ndarray]] = []

    def on_test_batch_begin(self, batch, logs=None):
        self.validating = self.trainer.validation[batch]

    def on_test_batch_end(self, batch, logs=None):
        scores = self.trainer.scores
        self.sums.append({"confusion": scores.confusion.numpy(), "thresholds": scores.thresholds.numpy()})

    def on_epoch_end(self, epoch, logs=None):
        config, optimizer = self.trainer.config, self.model.optimizer
        step = int(optimizer.iterations)
        names = {id(variable): name for name, variable in self.trainer.unet.named_variables().items()}
        weights = [variable.value for variable in self.model.trainable_variables]
        gradients = [gradient.value for gradient in optimizer.gradients]
        row = {
            "epoch": epoch + 1,
            "step": step,
            "images_per_second": self.trainer.batches.images_per_epoch / self.training_seconds,
            **{f"train_{name}": logs[name] for name in ("loss", "dice", "iou", "mean_iou")},
            **{f"validation_{name}": logs[f"val_{name}"] for name in ("loss", "dice", "iou", "mean_iou")},
            "learning_rate": float(learning_rate_at(step - 1, config.optimizer, self.trainer.total_steps)),
            "gradient_norm": float(global_norm(gradients)),
            "weight_norm": float(global_norm(weights)),
        }
        self.journal.check_finite(step, row)
        # The metric still holds the counts of the validation.
        warn_of_one_class(self.trainer.scores.confusion.numpy(), epoch + 1)
        self.journal.pictures(step, self.pictures(epoch + 1))
        if self.journal.keep_weights(row, self.counts()):
            with self.journal.writing():
                write_keras(self.trainer.unet.network, self.journal.run / "best.keras")
        row["seconds"] = time.perf_counter() - self.start
        self.journal.end_epoch(row, [names[id(weight)] for weight in weights], weights, gradients)
        if not on_terminal():  # on a terminal Keras shows the same beside its bar
            say(epoch_line(row, config.training.epochs))
        if self.signals.received and epoch + 1 < config.training.epochs:
            raise Stopped(self.signals.received, step)
        if self.journal.out_of_patience():
            say(self.journal.verdict_on_patience())
            self.model.stop_training = True

    def counts(self) -> dict[str, dict[str, np.ndarray]]:
        """{stem: `counts.probability_counts`} of the validation images: differences of the sums up to each."""
        stems = [sample.stem for sample in self.trainer.validation]
        each = {name: np.diff([sums[name] for sums in self.sums], axis=0, prepend=0) for name in self.sums[0]}
        return {stem: {name: values[i] for name, values in each.items()} for i, stem in enumerate(stems)}

    def pictures(self, epoch: int) -> dict:
        """Validation pictures by tag, of the images that are drawn after this epoch."""
        samples, config = self.trainer.validation, self.trainer.config
        pictures = {}
        for sample in (samples[i] for i in to_draw(epoch, len(samples), config.training)):
            self.validating = sample
            p = probabilities(whole_logits(self.trainer.unet, tf.constant(sample.normalized()[None])))
            p = tf.image.resize(p, sample.truth.shape)[0].numpy()
            pictures[f"pictures/{sample.stem}"] = picture(sample, p, config)
        return pictures
