"""Writes to TensorBoard; no other module does.

Training and validation use the same tags in two folders, so that their curves overlay. The graph of the network has a
folder of its own, and so has what belongs to the run as a whole.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.histogram.metadata import create_summary_metadata
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.pr_curve import metadata as pr_curves
from tensorflow.core.framework.summary_pb2 import DATA_CLASS_TENSOR
from tensorflow.core.util.event_pb2 import Event

from unet_lowlevel.config import Config
from unet_lowlevel.disk import put_in_place, sync
from unet_lowlevel.scoring.counts import class_scores
from unet_lowlevel.settings import load_json, to_json
from unet_lowlevel.training.descriptions import described, overview
from unet_lowlevel.training.graphs import readable_graph
from unet_lowlevel.training.levels import tag_of

HISTOGRAM = create_summary_metadata(display_name=None, description=None)
LAYOUT = custom_scalars.create_summary_metadata()
LAYOUT.data_class = DATA_CLASS_TENSOR  # without it TensorBoard takes the page for empty
# In the run folder.
FOLDERS = ("train", "validation", "network", "summary")
# Scores that runs are compared by: columns of history.csv, in the epoch whose weights are kept.
BEST = ("dice", "iou", "loss")
# The settings that TensorBoard's table of runs shows first; the others can be added to it.
FIRST = ("learning_rate", "batch_size", "crop_size", "depth", "base_channels")


class Summaries:
    """Writers for the `FOLDERS` of a run. The horizontal axis is the training step."""

    def __init__(self, run: Path, folders: Iterable[str] = FOLDERS):
        """Opens files of events in some of the `FOLDERS`."""
        self.run = run
        self.writers = {folder: tf.summary.create_file_writer(str(run / folder)) for folder in folders}

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Curves: `values` by tag, into one of the `FOLDERS`."""
        with self.writers[part].as_default(step=step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value, description=described(tag))

    def steps(self, steps: Iterable[tuple[int, dict[str, tf.Tensor]]]) -> None:
        """Curves of the training with a point for each step: (step, values by name)."""
        for step, values in steps:
            self.scalars("train", step, {f"step/{name}": float(value) for name, value in values.items()})

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures of validation images, uint8 [H, W, 3] by tag."""
        with self.writers["validation"].as_default(step=step):
            for tag, picture in pictures.items():
                data = [str(picture.shape[1]), str(picture.shape[0]), tf.io.encode_png(picture, compression=1)]
                metadata = images.create_summary_metadata(None, described(tag), converted_to_tensor=True)
                tf.summary.write(tag, tf.stack(data), metadata=metadata)

    def curves(self, step: int, counts: np.ndarray) -> None:
        """The precision-recall curve of each foreground class in the validation images.

        Args:
            counts: `counts.threshold_counts` at `counts.CURVE`, int64 [K, T, 2, 2].
        """
        with self.writers["validation"].as_default(step=step):
            for k, table in enumerate(counts, start=1):
                (tn, fp), (fn, tp) = np.moveaxis(table.astype(np.float64), 0, -1)
                scores = class_scores(table)
                data = np.stack([tp, fp, tn, fn, scores["precision"][:, 1], scores["recall"][:, 1]])
                tag = f"precision_recall/class_{k}"
                metadata = pr_curves.create_summary_metadata(None, described(tag), len(table))
                tf.summary.write(tag, data.astype(np.float32), metadata=metadata)

    def confusion(self, step: int, confusion: np.ndarray) -> None:
        """Which part of the validation pixels of each true class was predicted as which class, as a table.

        Args:
            confusion: int64 [classes, classes], rows the truth.
        """
        names = ["background", *(f"class {k}" for k in range(1, len(confusion)))]
        rows = [["truth", *names, "pixels"]]
        for name, row in zip(names, confusion, strict=True):
            rows.append([name, *(f"{share:.2%}" for share in row / max(row.sum(), 1)), f"{row.sum():,}"])
        with self.writers["validation"].as_default(step=step):
            tf.summary.text("epoch/confusion", table(rows))

    def histograms(self, step: int, names: list[str], weights: list[tf.Variable], gradients: list[tf.Tensor]) -> None:
        """The distribution of each weight and of its last gradient, by level."""
        with self.writers["train"].as_default(step=step):
            for name, weight, gradient in zip(names, weights, gradients, strict=True):
                tf.summary.write(tag_of(name, "weights"), buckets(weight.numpy()), metadata=HISTOGRAM)
                tf.summary.write(tag_of(name, "gradients"), buckets(gradient.numpy()), metadata=HISTOGRAM)

    def graph(self, part: str, function: tf.types.experimental.GenericFunction) -> None:
        """The graph that `function` is compiled to, into part "train" or "network"."""
        with self.writers[part].as_default(step=0):
            tf.summary.graph(readable_graph(function))

    def configuration(self, config: Config) -> None:
        """Settings and plan as tables; settings to compare runs by; which curves stand together."""
        sections = to_json(config)
        rows = [[f"{name}.{key}", json.dumps(value)] for name, part in sections.items() for key, value in part.items()]
        settings = {key: value for part in sections.values() for key, value in part.items()}
        compared = {
            name: settings[name] if isinstance(settings[name], (bool, int, float, str)) else json.dumps(settings[name])
            for name in dict.fromkeys((*FIRST, *settings))
        }
        metrics = [hparams.Metric(f"best/{name}") for name in (*BEST, "epoch")]
        with self.writers["summary"].as_default(step=0):
            tf.summary.text("configuration", table([["setting", "value"], *rows]))
            if (self.run / "plan.json").is_file():
                plan = load_json(self.run / "plan.json")["plan"]
                reasons = [[each["setting"], json.dumps(each["value"]), each["reason"]] for each in plan]
                tf.summary.text("plan", table([["setting", "value", "reason"], *reasons]))
            hparams.hparams_config([hparams.HParam(name) for name in compared], metrics)
            hparams.hparams(compared)
            layout = overview().SerializeToString()
            tf.summary.write(custom_scalars.CONFIG_SUMMARY_TAG, layout, metadata=LAYOUT)

    def result(self, row: Mapping[str, Any]) -> None:
        """The scores of the epoch whose weights are kept, its `row` of history.csv, and the model card."""
        self.scalars("summary", row["step"], {f"best/{name}": row[f"validation_{name}"] for name in BEST})
        self.scalars("summary", row["step"], {"best/epoch": row["epoch"]})
        card = self.run / "model_card.md"
        if card.is_file():
            with self.writers["summary"].as_default(step=row["step"]):
                tf.summary.text("model_card", card.read_text(encoding="utf-8"))

    def flush(self) -> None:
        """Writes all to the disk."""
        for writer in self.writers.values():
            writer.flush()
        for folder in self.writers:
            for path in (self.run / folder, *(self.run / folder).glob("events.*")):
                sync(path)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


def table(rows: list[list[str]]) -> str:
    """A table in Markdown, its head first."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def buckets(values: np.ndarray) -> np.ndarray:
    """The data of a histogram in TensorBoard: left edge, right edge and count of 30 buckets, float64 [30, 3].

    `tf.summary.histogram` takes ten times as long, because it uses a dozen TensorFlow operations for each. Values that
    are not finite are left out; the loss of the next step shows them.
    """
    # In float64, because 30 edges do not fit between two neighbouring float32 numbers.
    values = values[np.isfinite(values)].astype(np.float64)
    least, most = (values.min(), values.max()) if values.size else (0.0, 1.0)
    if least == most:  # edges around the only value, far enough from it to differ
        least, most = least - max(0.5, abs(least) / 2), most + max(0.5, abs(most) / 2)
    counts, edges = np.histogram(values, 30, (least, most))
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def forget_after(run: Path, step: int) -> None:
    """Removes the events after `step` from the `FOLDERS` of a run: the resumed training writes them again.

    A last record that was cut off when the training was killed is removed too.
    """
    for path in sorted(path for folder in FOLDERS for path in (run / folder).glob("events.*")):
        kept, dropped = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                if event.step <= step:
                    kept.append(record)
                else:
                    dropped = True
        except (tf.errors.DataLossError, DecodeError):
            dropped = True
        if dropped:
            # TensorBoard does not take this name for a file of events.
            temporary = path.with_name(f".{path.name.removeprefix('events.')}.tmp")
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in kept:
                    writer.write(record)
            put_in_place(temporary, path)
