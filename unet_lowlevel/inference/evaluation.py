"""Scores of a trained run on images whose masks are known."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel import metrics
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.samples import Sample, decoded
from unet_lowlevel.data.writing import refuse_existing, write_image
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.pictures import comparison, evenly, sheet
from unet_lowlevel.run_folder import write_text


def choose(pairs: list[Pair], split: dict, part: str) -> list[Pair]:
    """The pairs of --split: all of them, or those that the run held out.

    Raises:
        UserError: when held-out images are missing.
    """
    if part == "all":
        return pairs
    held_out = set(split[part])
    chosen = [pair for pair in pairs if pair.stem in held_out]
    missing = sorted(held_out - {pair.stem for pair in chosen})
    if missing:
        raise UserError(
            f"--split {part} needs images that the data lacks ({listed(missing)}): name the data of the training, or "
            "use --split all for other data."
        )
    return chosen


def evaluate(
    predictor: Predictor,
    pairs: list[Pair],
    output: Path,
    *,
    pictures: int = 0,
    progress: Callable[[Iterable], Iterable] = lambda items: items,
) -> dict:
    """Predicts every image whole and compares it with its mask.

    Writes OUTPUT/metrics.json and OUTPUT/per_image.csv, and with `pictures` OUTPUT/pictures.png: so many
    images evenly from the worst to the best Dice, each as image, truth, prediction and errors.

    Args:
        predictor: of a run.
        pairs: images and masks.
        output: folder, made when it does not exist.
        pictures: how many.
        progress: wraps the images, to show how far the work is.

    Returns:
        what metrics.json holds: dice, iou, mean_iou, precision, recall, pixel_error from the counts of all
        images together, images (their number), mean_over_images (the same scores, averaged over the
        images) and per_class (Dice, IoU, precision, recall of every class).

    Raises:
        UserError: before anything is written, when an image cannot be used or a file would be overwritten.

    One image at a time is in memory.
    """
    names = ["metrics.json", "per_image.csv", *(["pictures.png"] if pictures else [])]
    for name in names:
        refuse_existing(output / name)
    confusions, thresholds = [], []
    for pair, sample in zip(pairs, decoded(progress(pairs), predictor.config), strict=True):
        predictor.check_channels(sample.image, pair.image)
        probabilities = tf.constant(predictor.probabilities(sample.image)[np.newaxis])
        labels = tf.constant(sample.label[np.newaxis].astype(np.int32))
        counts = metrics.probability_counts(labels, probabilities, predictor.config.training.threshold)
        confusions.append(counts[0][0])
        thresholds.append(counts[1][0])
    confusions, thresholds = np.stack(confusions), np.stack(thresholds)
    per_image = metrics.scores(confusions, thresholds)
    pooled = metrics.scores(confusions.sum(0), thresholds.sum(0))
    classes = metrics.class_scores(confusions.sum(0))
    result = {
        **{name: float(value) for name, value in pooled.items()},
        "images": len(pairs),
        "mean_over_images": {name: float(values.mean()) for name, values in per_image.items()},
        "per_class": [
            {"class": k} | {name: float(values[k]) for name, values in classes.items()}
            for k in range(len(classes["iou"]))
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["stem", *per_image])
    writer.writerows([pair.stem, *(values[i] for values in per_image.values())] for i, pair in enumerate(pairs))
    write_text(output / "per_image.csv", table.getvalue())
    if pictures:
        ranked = np.argsort(per_image["dice"], kind="stable")
        chosen = [pairs[i] for i in ranked[evenly(len(pairs), pictures)]]
        shown = [compare(predictor, sample) for sample in decoded(chosen, predictor.config)]
        write_image(output / "pictures.png", sheet(shown))
    write_text(output / "metrics.json", json.dumps(result, indent=1) + "\n")
    return result


def compare(predictor: Predictor, sample: Sample) -> np.ndarray:
    """`pictures.comparison` of a sample with its prediction."""
    return comparison(sample.image, sample.label, predictor.labels(predictor.probabilities(sample.image)))
