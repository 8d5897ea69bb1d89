"""What the networks of a cross-validation find in the images that they have not seen, and how well."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel import metrics
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.writing import make_output, write_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.folders import output_names, step_of_gray
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.pictures import LABEL_PALETTE

SCORES = ("dice", "iou", "mean_iou", "precision", "recall", "pixel_error")
COLUMNS = ("fold", "images", *SCORES, "best_epoch", "seconds")


@dataclass(frozen=True)
class Fold:
    """What is known of a fold once its network has seen the images that were held out.

    Attributes:
        images: how many.
        confusion, thresholds: counts summed over them, see `metrics.scores`.
        best_epoch: whose weights were asked.
        seconds: of training and validation.
    """

    images: int
    confusion: np.ndarray
    thresholds: np.ndarray
    best_epoch: int
    seconds: float

    def to_json(self) -> dict:
        counts = {"confusion": self.confusion.tolist(), "thresholds": self.thresholds.tolist()}
        return vars(self) | counts

    @classmethod
    def from_json(cls, values, source: Path) -> "Fold":
        """What `to_json` gave, or a `UserError` that names the file it came from."""
        try:
            confusion, thresholds = (np.array(values[name], np.int64) for name in ("confusion", "thresholds"))
            metrics.scores(confusion, thresholds)
            return cls(
                int(values["images"]), confusion, thresholds, int(values["best_epoch"]), float(values["seconds"])
            )
        except (KeyError, TypeError, ValueError, OverflowError, IndexError):
            raise UserError(
                f"{source} does not hold the counts of a fold: move it away, and they are made anew."
            ) from None


def predict_held_out(
    predictor: Predictor,
    samples: list[Sample],
    output: Path,
    progress: Callable[[Iterable], Iterable] = lambda items: items,
) -> tuple[np.ndarray, np.ndarray]:
    """Writes OUTPUT/<stem>.png and OUTPUT/<stem>_probability.png of every sample, as prediction does.

    What an interrupted prediction has left there is made anew.

    Returns:
        confusion and threshold counts, summed over the samples; see `metrics.scores`.
    """
    classes, total = predictor.config.model.classes, []
    make_output(output)
    for sample in progress(samples):
        probabilities = predictor.probabilities(sample.image)
        labels = predictor.labels(probabilities)
        for what, name in output_names(sample.stem, classes, ".png", with_probabilities=True).items():
            path = output / name
            path.unlink(missing_ok=True)
            if what.isdecimal():
                write_image(path, np.rint(probabilities[..., int(what)] * 65535).astype(np.uint16))
            elif what == "colours":
                write_image(path, labels, LABEL_PALETTE)
            else:
                write_image(path, labels * step_of_gray(classes))
        truth = tf.constant(sample.label[np.newaxis].astype(np.int32))
        threshold = predictor.config.training.threshold
        counts = metrics.probability_counts(truth, tf.constant(probabilities[np.newaxis]), threshold)
        total.append([count[0].numpy() for count in counts])
    confusion, thresholds = (np.sum(counts, axis=0) for counts in zip(*total, strict=True))
    return confusion, thresholds


def score_rows(folds: list[Fold]) -> list[dict]:
    """A row of `COLUMNS` for each fold, their mean and standard deviation (of a sample: n - 1), and all images pooled.

    The pooled scores come from the sums of the counts of all folds: every image has been held out once.
    """
    rows = [
        {"fold": number, "images": fold.images}
        | one_score(fold.confusion, fold.thresholds)
        | {"best_epoch": fold.best_epoch, "seconds": fold.seconds}
        for number, fold in enumerate(folds)
    ]
    numbers = {name: np.array([row[name] for row in rows], np.float64) for name in COLUMNS[1:]}
    mean = {"fold": "mean"} | {name: float(values.mean()) for name, values in numbers.items()}
    deviation = {"fold": "std"} | {name: float(values.std(ddof=1)) for name, values in numbers.items()}
    pooled = one_score(sum(fold.confusion for fold in folds), sum(fold.thresholds for fold in folds))
    images = sum(fold.images for fold in folds)
    seconds = sum(fold.seconds for fold in folds)
    return [*rows, mean, deviation, {"fold": "pooled", "images": images, "seconds": seconds} | pooled]


def one_score(confusion: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    scores = metrics.scores(confusion, thresholds)
    return {name: float(scores[name]) for name in SCORES}


def scores_csv(rows: list[dict]) -> str:
    """The rows of `score_rows` as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def scores_table(rows: list[dict]) -> str:
    """The rows of `score_rows` for the eye."""
    lines = [[name.replace("_", " ") for name in COLUMNS]]
    for row in rows:
        counts = {name: f"{row[name]:.4g}" for name in ("images", "best_epoch") if name in row}
        texts = counts | {name: f"{row[name]:.4f}" for name in SCORES} | {"seconds": f"{row['seconds']:.0f}"}
        lines.append([str(row["fold"]), *(texts.get(name, "") for name in COLUMNS[1:])])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )
