"""The training loop: epochs, validation, early stopping, checkpoints, history."""

import contextlib
import functools
import math
import operator
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from unet_lowlevel.config import Config
from unet_lowlevel.core import fast
from unet_lowlevel.core.optimizers import global_norm
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import listed
from unet_lowlevel.memory import check_available, prediction_bytes, within_memory
from unet_lowlevel.scoring import counts
from unet_lowlevel.terminal import OnStep, on_terminal, say, wrapped
from unet_lowlevel.training.distributed import Replicas
from unet_lowlevel.training.drawings import feature_maps, picture, receptive_fields, to_draw
from unet_lowlevel.training.history import epoch_line
from unet_lowlevel.training.initial_weights import begin_with
from unet_lowlevel.training.interruption import Stopped, StopSignals
from unet_lowlevel.training.journal import Journal
from unet_lowlevel.training.levels import level_curves
from unet_lowlevel.training.profiling import Profile
from unet_lowlevel.training.steps import EvaluationStep, train_step
from unet_lowlevel.training.totals import Totals


class Trainer:
    """Trains a network on samples and writes the run folder."""

    def __init__(
        self,
        config: Config,
        run: Path,
        training: list[Sample],
        validation: list[Sample],
        network: Callable[..., UNet] = fast.network,
        replicas: Replicas | None = None,
    ):
        """Builds the network and everything around it; writes nothing yet.

        Args:
            config: with in_channels and crop_size resolved.
            run: the run folder; it must exist when `fit` is called.
            training, validation: samples, in memory or in files.
            network: makes the network of `config.model` and a seed.
            replicas: where it runs; None: one replica in this process.

        Raises:
            UserError: when a validation image is too large for the memory, or the weights of --init cannot be used.
        """
        check_validation(config, validation)
        self.config, self.run = config, run
        self.training, self.validation = training, validation
        self.replicas = replicas or Replicas()
        self.batches = TrainingBatches(training, config, self.replicas.of_worker)
        smallest = self.batches.images_in(self.batches.steps_per_epoch - 1)
        self.replicas.check(smallest, config.training.accumulate)
        self.total_steps = config.training.epochs * self.batches.steps_per_epoch
        crop = (config.training.crop_size,) * 2
        with self.replicas.scope():
            self.model = network(config.model, seed=config.training.seed)
            if config.training.output_bias_prior:
                self.model.set_output_bias(class_frequencies(training, config.model.classes))
            begin_with(self.model, config.training.init, run)
            self.train_step = train_step(self.model, config, crop, self.total_steps)
        self.step = self.replicas.compiled(self.train_step)
        self.evaluation_step = EvaluationStep(self.model, config)
        self.received: signal.Signals | None = None  # it asked the training to end, perhaps in the last epoch

    def fit(self, *, resume: bool = False, on_step: OnStep | None = None) -> dict:
        """Trains to the last epoch, or until validation stops improving.

        Args:
            resume: go on from the newest checkpoint of the run, if it has one.
            on_step: called after every step with its number and the mean loss of the epoch so far.

        Returns:
            the history row of the epoch whose weights are kept.

        Raises:
            UserError: when the loss is not finite, a checkpoint cannot be restored, memory runs out, or the disk is
                full.
            Stopped: after a signal, with the state saved.
        """
        training = self.config.training
        self.journal = Journal(self.config, self.run, self.model, self.train_step, resume=resume)
        if self.replicas.workers > 1:
            self.journal.set_state(self.replicas.told(self.journal.state()))
            self.replicas.synchronize(self.train_step.variables)
        self.profile = Profile(self.run, training.profile)
        self.journal.note_learning_rate(self.total_steps)
        if int(self.train_step.step.numpy()) == 0 and self.replicas.chief:
            self.show_beginning()
        first = len(self.journal.history)
        steps = self.batches.steps_per_epoch
        with (
            tqdm(
                total=training.epochs * steps, initial=self.journal.step, unit="step", disable=not on_terminal()
            ) as bar,
            contextlib.closing(self.journal),
            contextlib.closing(self.profile),
            StopSignals() as signals,
        ):
            for epoch in range(first + 1, training.epochs + 1):
                if self.journal.out_of_patience():
                    say(self.journal.verdict_on_patience())
                    break
                with within_memory(self.step_too_large):
                    row, gradients, levels = self.train_epoch(epoch, bar, on_step, signals)
                start, average = time.perf_counter(), self.train_step.average
                with average.in_place() if average else contextlib.nullcontext():
                    row |= self.validate(epoch)
                    self.journal.keep_weights(row, self.counted)
                row["seconds"] += time.perf_counter() - start
                self.journal.end_epoch(row, self.train_step.names, self.train_step.weights, gradients, levels)
                say(epoch_line(row, training.epochs))
                wanted = self.replicas.total(np.array(int(bool(signals.received))))
                self.received = signals.received or (signal.SIGTERM if wanted else None)
                if self.received and epoch < training.epochs:
                    raise Stopped(self.received, row["step"])
        return self.journal.kept()

    def train_epoch(
        self, epoch: int, bar: tqdm, on_step: OnStep | None, signals: StopSignals
    ) -> tuple[dict, list[tf.Tensor], dict[str, float]]:
        """Runs the training steps of an epoch; if the training was stopped within it, the remaining ones.

        Returns:
            the epoch's part of the history row, the last gradients, and the curves of the levels.

        Raises:
            UserError: when the loss, or anything that would be saved, is not finite.
        """
        totals, start = self.journal.totals, time.perf_counter()
        spent = totals.seconds
        for *batch, index in self.batches.of_epoch(epoch, totals.steps):
            images = self.batches.images_in(totals.steps)
            if totals.steps == self.batches.steps_per_epoch - 1:
                before = [weight.read_value() for weight in self.train_step.weights]
            with self.profile.step():
                result = self.step(bool(signals.received), images, *batch)
            asked = bool(result.pop("stop"))  # by any process, before the step
            if not math.isfinite(float(result["loss"])):
                step = int(self.train_step.step.numpy())
                names = listed([self.training[i].stem for i in index.numpy()], 8)
                raise self.journal.diverged(
                    f"The loss is {float(result['loss'])} at step {step} (images {names}): look at these images, or"
                )
            totals.add(result, images)
            self.journal.add_step(result)
            totals.seconds = spent + time.perf_counter() - start
            bar.set_postfix(loss=f"{totals.loss / totals.images:.4f}", iou=self.newest_iou(), refresh=False)
            bar.update()
            if on_step:
                on_step(int(self.train_step.step.numpy()), totals.loss / totals.images)
            if totals.steps < self.batches.steps_per_epoch:  # the end of the epoch saves by itself
                stop = asked if self.replicas.workers > 1 else bool(signals.received)
                if stop or self.journal.due():
                    self.journal.save_within_epoch()
                if stop:
                    raise Stopped(signals.received or signal.SIGTERM, self.journal.step)
        scores = totals.scores()
        row = {
            "epoch": epoch,
            "step": int(self.train_step.step.numpy()),
            "seconds": totals.seconds,
            "images_per_second": totals.images / totals.seconds,
            **{f"train_{name}": scores[name] for name in scores},
            **{name: float(result[name]) for name in ("learning_rate", "gradient_norm")},
            "weight_norm": float(global_norm(self.train_step.weights)),
        }
        self.journal.check_finite(row["step"], row)
        step, gradients = self.train_step, result["gradients"]
        levels = {}
        if self.replicas.chief:
            levels = level_curves(self.model, step.names, before, step.weights, gradients, batch[0][:1])
        return row, gradients, levels

    def newest_iou(self) -> str:
        """The last validation IoU, for the progress bar."""
        history = self.journal.history
        return f"{history[-1]['validation_iou']:.4f}" if history else "-"

    def step_too_large(self) -> str:
        return step_too_large(
            self.config, self.journal.what_is_kept(), can_recompute=isinstance(self.model, fast.FastUNet)
        )

    def evaluate(self, sample: Sample) -> dict:
        """The result of the `EvaluationStep` for a sample alone."""
        labels = [tf.constant(label[np.newaxis].astype(np.int32)) for label in sample.labels]
        return self.evaluation_step(tf.constant(sample.normalized()[np.newaxis]), *labels)

    def show_beginning(self) -> None:
        """Adds to TensorBoard what there is before the first step: graphs, and pictures of what is not yet learned."""
        side, config = self.config.training.crop_size, self.config.model
        signature = [tf.TensorSpec([None, side, side, config.in_channels], config.precision, "images")]
        forward = functools.partial(self.model.forward, training=False)
        with self.journal.writing():
            self.journal.summaries.graph("network", tf.function(forward, signature, autograph=False))
            if not self.replicas.strategy:
                self.journal.summaries.graph("train", self.train_step.compiled)
        pictures = {}
        for i in self.to_draw():
            sample = self.validation[i]
            with within_memory(lambda sample=sample: image_too_large(sample, self.journal.what_is_kept())):
                pictures |= self.drawn(sample, self.evaluate(sample)["probabilities"])
            if i == 0:
                pictures[f"receptive_field/{sample.stem}"] = receptive_fields(config, sample.normalized())
        self.journal.pictures(0, pictures)

    def to_draw(self, epoch: int = 0) -> list[int]:
        """`drawings.to_draw` of the validation images; nothing where another process draws."""
        return to_draw(epoch, len(self.validation), self.config.training) if self.replicas.chief else []

    def drawn(self, sample: Sample, probabilities: tf.Tensor) -> dict[str, np.ndarray]:
        """Pictures of a validation image by tag; of the first one also its feature maps."""
        pictures = {f"pictures/{sample.stem}": picture(sample, probabilities[0].numpy(), self.config)}
        maps = feature_maps(self.model, sample.normalized()) if sample is self.validation[0] else None
        return pictures if maps is None else pictures | {f"feature_maps/{sample.stem}": maps}

    def validate(self, epoch: int) -> dict:
        """Loss and scores of the validation images, computed whole, one by one; draws some, keeps the counts of all."""
        totals, pictures, found = Totals(), {}, []
        classes = max(self.config.model.classes, 2)
        curve = np.zeros((classes - 1, len(counts.CURVE), 2, 2), np.int64)
        self.counted: dict[str, dict[str, np.ndarray]] = {}
        to_draw = self.to_draw(epoch)
        for i, sample in enumerate(self.validation):
            counts_here = i % self.replicas.workers == self.replicas.worker
            if counts_here or i in to_draw:
                with within_memory(lambda sample=sample: image_too_large(sample, self.journal.what_is_kept())):
                    result = self.evaluate(sample)
                    if i in to_draw:
                        pictures |= self.drawn(sample, result["probabilities"])
            if counts_here:
                found.append((i, {name: result[name].numpy().tolist() for name in ("loss", "confusion", "thresholds")}))
                curve += result["curve"][0].numpy()
        for i, result in sorted(self.replicas.gathered(found), key=operator.itemgetter(0)):
            stem = self.validation[i].stem
            if not math.isfinite(result["loss"]):
                raise self.journal.diverged(f"The validation loss of {stem} is {result['loss']} in epoch {epoch}:")
            totals.add(result, 1)
            self.counted[stem] = {name: np.array(result[name][0]) for name in ("confusion", "thresholds")}
        warn_of_one_class(totals.confusion, epoch)
        step, curve = int(self.train_step.step.numpy()), self.replicas.total(curve)
        self.journal.validated(step, pictures, totals.confusion, curve)
        return {f"validation_{name}": value for name, value in totals.scores().items()}


def warn_of_one_class(confusion: np.ndarray, epoch: int) -> None:
    """Says among the lines of the epochs if all pixels are predicted as one class although the truth has others."""
    predicted, true = confusion.sum(0), confusion.sum(1)
    if np.count_nonzero(predicted) == 1 and np.count_nonzero(true) > 1:
        text = (
            f"warning: all validation pixels are predicted as class {predicted.argmax()} in epoch {epoch}; if it stays "
            "so, try --overfit-one-batch, then look at masks and --learning-rate"
        )
        say(wrapped(text))


def step_too_large(config: Config, kept: str, *, can_recompute: bool) -> str:
    """The message when a training step runs out of memory; a run that has begun cannot change these settings."""
    batch_size, crop_size = config.training.batch_size, config.training.crop_size
    remedies = [f"--batch-size {batch_size // 2}"] if batch_size > 1 else []
    remedies += ["a smaller --crop-size"]
    remedies += ["--recompute"] if can_recompute and not config.model.recompute else []
    return (
        f"A training step ran out of memory with --batch-size {batch_size} and --crop-size {crop_size}: start another "
        f"--run with {' or '.join(remedies)}, or free some memory; {kept}."
    )


def check_validation(config: Config, samples: list[Sample]) -> None:
    """Raises a `UserError` if the largest image would run out of memory, before hours of training are lost."""
    largest = max(samples, key=lambda sample: math.prod(sample.size))
    needed = prediction_bytes(config.model, math.prod(largest.size))
    if largest.original_label is not None:  # at whose size the probabilities are scored
        needed += 4 * config.model.classes * largest.original_label.size
    with within_memory(lambda: image_too_large(largest, "nothing was written")):
        check_available(needed)


def image_too_large(sample: Sample, kept: str) -> str:
    """The message when the validation of a whole image runs out of memory; training uses only crops."""
    height, width = sample.size
    return (
        f"The validation of {sample.stem}, which is computed whole, ran out of memory at {height} x {width} pixels: "
        "start another --run with the image and its mask cut into smaller ones, with a lower --resolution or "
        f"--image-size, or with smaller images in --validation-list, or free some memory; {kept}."
    )
