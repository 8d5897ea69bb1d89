"""The training loop: epochs, validation, early stopping, checkpoints, history."""

import contextlib
import csv
import io
import math
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from unet_lowlevel import metrics
from unet_lowlevel.config import Config
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.pictures import comparison
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.training.checkpoints import Checkpoints, Progress
from unet_lowlevel.training.step import EvaluationStep, TrainStep
from unet_lowlevel.training.summaries import Summaries
from unet_lowlevel.unet import UNet

HISTORY = (
    "epoch",
    "step",
    "seconds",
    "train_loss",
    "validation_loss",
    "validation_dice",
    "validation_iou",
    "validation_mean_iou",
    "images_per_second",
    "train_dice",
    "train_iou",
    "train_mean_iou",
    "learning_rate",
    "gradient_norm",
    "weight_norm",
)


class Tally:
    """Sums loss and counts over images; the scores come out at the end."""

    def __init__(self):
        self.images, self.loss, self.confusion, self.thresholds = 0, 0.0, 0, 0

    def add(self, result: dict, images: int) -> None:
        """Adds the result of a `TrainStep` or an `EvaluationStep` over so many images."""
        self.images += images
        self.loss += float(result["loss"]) * images
        self.confusion = self.confusion + result["confusion"].numpy().sum(0)
        self.thresholds = self.thresholds + result["thresholds"].numpy().sum(0)

    def scores(self) -> dict[str, float]:
        """loss, dice, iou, mean_iou: mean loss over the images, pooled scores."""
        pooled = metrics.scores(self.confusion, self.thresholds)
        return {"loss": self.loss / self.images} | {name: float(pooled[name]) for name in ("dice", "iou", "mean_iou")}

    def only_class(self) -> int | None:
        """The class of every prediction, if it is the same one although the truth has others."""
        predicted, true = self.confusion.sum(0), self.confusion.sum(1)
        return int(predicted.argmax()) if np.count_nonzero(predicted) == 1 < np.count_nonzero(true) else None


class Trainer:
    """Trains a network on samples and writes the run folder."""

    def __init__(self, config: Config, run: Path, training: list[Sample], validation: list[Sample]):
        """Builds the network and everything around it; writes nothing yet.

        Args:
            config: complete, with in_channels and crop_size resolved.
            run: the run folder; it exists when `fit` is called.
            training, validation: with normalized images.
        """
        self.config, self.run = config, run
        self.training, self.validation = training, validation
        self.model = UNet(config.model, seed=config.training.seed)
        if config.training.output_bias_prior:
            self.model.set_output_bias(class_frequencies(training, config.model.classes))
        self.batches = TrainingBatches(training, config)
        total_steps = config.training.epochs * self.batches.steps_per_epoch
        crop = (config.training.crop_size,) * 2
        self.train_step = TrainStep(self.model, config, crop, total_steps)
        self.evaluation_step = EvaluationStep(self.model, config)
        self.progress = Progress()
        self.history: list[dict] = []

    def fit(self, *, resume: bool = False) -> dict:
        """Trains to the last epoch, or until validation stops getting better.

        Args:
            resume: go on from the newest checkpoint of the run, if it has one.

        Returns:
            the history row of the best epoch.

        Raises:
            UserError: when the loss is not finite, or a checkpoint cannot be restored.
        """
        training = self.config.training
        checkpoints = Checkpoints(
            self.run,
            training.checkpoints_to_keep,
            model=self.model,
            train_step=self.train_step,
            progress=self.progress,
        )
        if resume and checkpoints.newest.latest_checkpoint:
            checkpoints.restore()
            self.history = read_history(self.run / "history.csv", int(self.progress.epoch))
        summaries = Summaries(self.run)
        if not self.history:
            summaries.configuration(self.config)
            summaries.graph(self.train_step.compiled)
        first = int(self.progress.epoch)
        steps = self.batches.steps_per_epoch
        # The bar is for a terminal; a log gets the line of each epoch only.
        with (
            tqdm(
                total=training.epochs * steps, initial=first * steps, unit="step", disable=not sys.stderr.isatty()
            ) as bar,
            contextlib.closing(summaries),
        ):
            for epoch in range(first + 1, training.epochs + 1):
                if self.stops_early(epoch):
                    say(
                        bar,
                        f"stopped: validation mean IoU was not better than {float(self.progress.best_mean_iou):.4f} "
                        f"for {training.patience} epochs",
                    )
                    break
                start = time.perf_counter()
                row, gradients = self.train_epoch(epoch, bar)
                average = self.train_step.average
                with average.in_place() if average else contextlib.nullcontext():
                    row |= self.validate(epoch, summaries, bar)
                    if row["validation_mean_iou"] > float(self.progress.best_mean_iou):
                        self.progress.best_mean_iou.assign(row["validation_mean_iou"])
                        self.progress.best_epoch.assign(epoch)
                        checkpoints.save_best(epoch)
                row["seconds"] = time.perf_counter() - start
                self.progress.epoch.assign(epoch)
                self.write_epoch(row, gradients, summaries)
                checkpoints.save(epoch)
                say(bar, epoch_line(row, training.epochs))
        return self.history[int(self.progress.best_epoch) - 1]

    def stops_early(self, epoch: int) -> bool:
        patience = self.config.training.patience
        return bool(patience) and epoch - 1 - int(self.progress.best_epoch) >= patience and epoch > 1

    def train_epoch(self, epoch: int, bar: tqdm) -> tuple[dict, list[tf.Tensor]]:
        """All training steps of an epoch; returns its part of the history row and the last gradients."""
        tally, start = Tally(), time.perf_counter()
        for images, labels, index in self.batches.of_epoch(epoch):
            result = self.train_step(images, labels)
            if not math.isfinite(float(result["loss"])):
                raise UserError(self.not_finite(result, index.numpy()))
            tally.add(result, len(index))
            bar.set_postfix(loss=f"{tally.loss / tally.images:.4f}", iou=self.newest_iou(), refresh=False)
            bar.update()
        seconds = time.perf_counter() - start
        scores = tally.scores()
        row = {
            "epoch": epoch,
            "step": int(self.train_step.step),
            "images_per_second": tally.images / seconds,
            **{f"train_{name}": scores[name] for name in scores},
            **{name: float(result[name]) for name in ("learning_rate", "gradient_norm", "weight_norm")},
        }
        return row, result["gradients"]

    def newest_iou(self) -> str:
        """The last validation IoU, for the progress bar."""
        return f"{self.history[-1]['validation_iou']:.4f}" if self.history else "-"

    def not_finite(self, result: dict, index: np.ndarray) -> str:
        names = listed([self.training[i].stem for i in index], 8)
        kept = f"the checkpoints in {self.run} are as they were" if self.history else "no epoch was finished yet"
        return (
            f"The loss is {float(result['loss'])} at step {int(self.train_step.step)} (images {names}): look at these "
            f"images, or lower --learning-rate or set --clip-norm 1; {kept}."
        )

    def validate(self, epoch: int, summaries: Summaries, bar: tqdm) -> dict:
        """Loss and scores over the whole validation images, one by one; draws some of them."""
        tally, pictures = Tally(), {}
        chosen = np.linspace(0, len(self.validation) - 1, min(self.config.training.pictures, len(self.validation)))
        chosen = set(chosen.round().astype(int).tolist())
        for i, sample in enumerate(self.validation):
            labels = sample.label[np.newaxis].astype(np.int32)
            result = self.evaluation_step(tf.constant(sample.image[np.newaxis]), tf.constant(labels))
            tally.add(result, 1)
            if i in chosen:
                predicted = metrics.predicted_labels(result["probabilities"], self.config.training.threshold)
                pictures[sample.stem] = comparison(sample.image, sample.label, predicted[0].numpy())
        only_class = tally.only_class()
        if only_class is not None:
            say(
                bar,
                f"warning: all validation pixels are predicted as class {only_class} in epoch {epoch}; if it stays so, "
                "try --overfit-one-batch, then look at masks and --learning-rate",
            )
        step = int(self.train_step.step)
        summaries.pictures(step, {f"image_truth_prediction_errors/{stem}": p for stem, p in pictures.items()})
        return {f"validation_{name}": value for name, value in tally.scores().items()}

    def write_epoch(self, row: dict, gradients: list[tf.Tensor], summaries: Summaries) -> None:
        """Adds an epoch to TensorBoard and history.csv."""
        step = row["step"]
        for part in ("train", "validation"):
            scores = {f"epoch/{name}": row[f"{part}_{name}"] for name in ("loss", "dice", "iou", "mean_iou")}
            summaries.scalars(part, step, scores)
        more = ("learning_rate", "gradient_norm", "weight_norm", "images_per_second")
        summaries.scalars("train", step, {f"training/{name}": row[name] for name in more})
        summaries.histograms(step, self.train_step.weights, gradients)
        summaries.flush()
        self.history.append(row)
        write_history(self.run / "history.csv", self.history)


def say(bar: tqdm, text: str) -> None:
    """Prints a line above the bar, at once also into a file."""
    bar.write(text)
    sys.stdout.flush()


def epoch_line(row: dict, epochs: int) -> str:
    """What a log says of an epoch."""
    left = (epochs - row["epoch"]) * row["seconds"]
    return (
        f"epoch {row['epoch']}/{epochs}: train loss {row['train_loss']:.4f}, validation loss "
        f"{row['validation_loss']:.4f}, Dice {row['validation_dice']:.4f}, IoU {row['validation_iou']:.4f}, mean IoU "
        f"{row['validation_mean_iou']:.4f}; {row['images_per_second']:.1f} images/s, "
        f"{tqdm.format_interval(left)} left"
    )


def write_history(path: Path, rows: list[dict]) -> None:
    """Writes history.csv whole, in the order of `HISTORY`; numbers read back exactly as they were."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_history(path: Path, epochs: int) -> list[dict]:
    """The first `epochs` rows of history.csv; later ones belong to an epoch that will run again."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(row[name]) for name in HISTORY} for row in csv.DictReader(file)][:epochs]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore the file, or train anew in another folder."
        ) from None
    if len(rows) < epochs:
        raise UserError(f"{path} has {len(rows)} epochs, but the checkpoint has {epochs}: restore the file.")
    return [row | {"epoch": int(row["epoch"]), "step": int(row["step"])} for row in rows]
