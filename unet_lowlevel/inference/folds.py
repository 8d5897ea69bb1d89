"""Predicts and scores the held-out images of each fold of a cross-validation."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.formats.writing import make_output
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.evaluation import counts_of
from unet_lowlevel.inference.predictor import Predictor, WorkingImage
from unet_lowlevel.inference.results import collected, output_names, write_found
from unet_lowlevel.run_folder import write_csv
from unet_lowlevel.scoring import SCORES, score_text
from unet_lowlevel.scoring.curves import known_mean
from unet_lowlevel.scoring.intervals import number
from unet_lowlevel.scoring.scorers import scores_of
from unet_lowlevel.terminal import Progress

# What the table shows; scores.csv has every score.
SHOWN = ("dice", "iou", "mean_iou", "precision", "recall", "pixel_error", "soft_dice")
SHOWN += ("ap_50", "ap_75", "hd95", "surface_distance")
SHOWN += ("rand_error", "v_rand", "v_info", "warping_error", "splits_and_mergers")


@dataclass(frozen=True)
class Fold:
    """The result of a fold on its held-out images.

    Attributes:
        images: number of held-out images.
        counts: `evaluation.counts_of`, summed over them.
        epoch: of the weights used.
        seconds: of training and validation.
    """

    images: int
    counts: dict[str, np.ndarray]
    epoch: int
    seconds: float

    def nothing_found(self) -> bool:
        """Whether no pixel of the foreground was found, although there is some."""
        confusion = self.counts["confusion"]
        return bool(confusion[1:].any() and not confusion.diagonal()[1:].any())

    def to_json(self) -> dict:
        return vars(self) | {"counts": {name: values.tolist() for name, values in self.counts.items()}}

    def has(self, scores: Sequence[str]) -> bool:
        """Whether these of `scoring.SCORES` were counted."""
        return all(name in self.counts for name in scores)

    def only(self, scores: Sequence[str]) -> "Fold":
        """Without counts of scores other than `scores`, so that all folds have the same."""
        kept = {name: count for name, count in self.counts.items() if name in scores or name not in SCORES}
        return dataclasses.replace(self, counts=kept)

    @classmethod
    def from_json(cls, values, source: Path) -> "Fold":
        """Reads what `to_json` gave; a `UserError` names the file `source`."""
        try:
            counts = {name: np.array(count) for name, count in values["counts"].items()}
            if "instances" in counts and counts["instances"].ndim == 2:  # not by class, as version 0.1 counted
                del counts["instances"]
            scores_of(counts)
            return cls(int(values["images"]), counts, int(values["epoch"]), float(values["seconds"]))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, IndexError):
            raise UserError(
                f"{source} does not hold the counts of a fold: move it away, and they are made anew."
            ) from None


def predict_held_out(
    predictor: Predictor,
    pairs: list[Pair],
    samples: list[Sample],
    output: Path,
    scores: Sequence[str],
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Writes OUTPUT/<stem>.png and OUTPUT/<stem>_probability.png of every sample, as prediction does.

    Files that an interrupted prediction left there are replaced.

    Args:
        pairs: the files of each sample.
        samples: as `gather` gives them, at the resolution of the network.
        scores, progress: see `evaluation.evaluate_pairs`.

    Returns:
        `evaluation.counts_of`, summed over the samples.
    """
    classes, total = predictor.config.model.classes, []
    make_output(output)
    for pair, sample in zip(pairs, progress(samples), strict=True):
        image = WorkingImage(sample.image, sample.truth.shape, predictor.networks, [sample.normalization])
        probabilities = predictor.whole([image])
        names = output_names(sample.stem, classes, ".png", with_probabilities=True)
        for name in names.values():
            (output / name).unlink(missing_ok=True)
        whole = [(slice(None), slice(None), probabilities)]
        channels = [str(k) for k in range(classes)]
        found = collected(predictor, whole, image.size, output, channels=channels)
        write_found(output, names, found, sample.image, classes)
        everywhere = np.ones(image.size, bool)
        total.append(counts_of(predictor, pair, sample.truth, probabilities, everywhere, scores, predictor.separation))
    return {name: np.sum([counts[name] for counts in total], axis=0) for name in total[0]}


def score_rows(folds: list[Fold]) -> list[dict]:
    """A row for each fold, their mean and sample standard deviation (n - 1), and a row of all images pooled.

    Folds without a score, such as that of a class which none of their images has, are left out of its mean.
    The pooled scores come from the counts summed over all folds: every image is held out once.
    """
    rows = [
        {"fold": index, "images": fold.images}
        | {name: float(value) for name, value in scores_of(fold.counts).items()}
        | {"epoch": fold.epoch, "seconds": fold.seconds}
        for index, fold in enumerate(folds)
    ]
    numbers = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0] if name != "fold"}
    known = {name: values[~np.isnan(values)] for name, values in numbers.items()}
    mean = {"fold": "mean"} | {name: float(known_mean(values)) for name, values in numbers.items()}
    deviation = {"fold": "std"} | {
        name: float(values.std(ddof=1)) if values.size > 1 else math.nan for name, values in known.items()
    }
    counts = {name: sum(fold.counts[name] for fold in folds) for name in folds[0].counts}
    pooled = {name: float(value) for name, value in scores_of(counts).items()}
    images = sum(fold.images for fold in folds)
    seconds = sum(fold.seconds for fold in folds)
    return [*rows, mean, deviation, {"fold": "pooled", "images": images, "seconds": seconds} | pooled]


def write_scores(path: Path, rows: list[dict]) -> None:
    """Writes the rows of `score_rows` as CSV."""
    lines = ([row.get(name) for name in rows[0]] for row in rows)
    write_csv(path, rows[0], ([number(cell) if isinstance(cell, float) else cell for cell in line] for line in lines))


def scores_table(rows: list[dict]) -> str:
    """The rows of `score_rows` as a text table."""
    scores, mean = [name for name in SHOWN if name in rows[0]], rows[-3]
    lines = [[name.replace("_", " ") for name in ("fold", "images", *scores, "epoch", "seconds")]]
    for row in rows:
        images, epoch = (f"{row[name]:.4g}" if name in row else "" for name in ("images", "epoch"))
        texts = (score_text(number(row[name]), like=number(mean[name])) for name in scores)
        lines.append([str(row["fold"]), images, *texts, epoch, f"{row['seconds']:.0f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )
