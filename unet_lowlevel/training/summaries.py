"""Writes to TensorBoard; no other module does.

Training and validation use the same tags in two folders, so that their curves overlay. The graph of the network has a
folder of its own, and so has what belongs to the run as a whole.
"""

import contextlib
import functools
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.pr_curve import metadata as pr_curves
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text import metadata as texts
from tensorflow.core.framework.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorflow.core.util.event_pb2 import Event

from unet_lowlevel.config import Config
from unet_lowlevel.disk import put_in_place, sync
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.scoring.counts import CURVE, class_scores
from unet_lowlevel.settings import load_json, to_json
from unet_lowlevel.training.descriptions import described, overview
from unet_lowlevel.training.graphs import readable_graph
from unet_lowlevel.training.levels import tag_of

# In the run folder.
FOLDERS = ("train", "validation", "network", "summary")
# Scores that runs are compared by: columns of history.csv, in the epoch whose weights are kept.
BEST = ("dice", "iou", "loss")
# {page of TensorBoard: what makes the metadata by which it finds its values, of a sentence about them}.
PAGES = {
    "scalars": lambda words: scalars.create_summary_metadata(None, words),
    "images": lambda words: images.create_summary_metadata(None, words, converted_to_tensor=True),
    "histograms": lambda words: histograms.create_summary_metadata(None, words),
    "text": lambda words: texts.create_summary_metadata(None, words),
    "pr_curves": lambda words: pr_curves.create_summary_metadata(None, words, len(CURVE)),
    "custom_scalars": lambda words: custom_scalars.create_summary_metadata(),
}


@functools.cache
def metadata(page: str, words: str | None) -> SummaryMetadata:
    """Metadata for one of the `PAGES`."""
    found = SummaryMetadata.FromString(PAGES[page](words).SerializeToString())
    if page == "custom_scalars":
        found.data_class = DATA_CLASS_TENSOR  # without it TensorBoard takes the page for empty
    return found


class Summaries:
    """Writers for the `FOLDERS` of a run. The horizontal axis is the training step."""

    def __init__(self, run: Path, folders: Iterable[str] = FOLDERS):
        """Opens files of events in some of the `FOLDERS`."""
        self.run = run
        self.writers = {folder: tf.summary.create_file_writer(str(run / folder)) for folder in folders}

    def write(self, folder: str, step: int, page: str, values: Mapping[str, Any]) -> None:
        """Values by tag for one of the `PAGES`, all in one event.

        The functions of `tf.summary` write one by one, which takes several times as long.
        """
        summary = Summary()
        for tag, value in values.items():
            tensor, about = tf.make_tensor_proto(value), metadata(page, described(tag))
            summary.value.add(tag=tag, tensor=tensor, metadata=about)
        with self.writers[folder].as_default(step=step):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())

    def scalars(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        """Points of curves, by tag."""
        self.write(folder, step, "scalars", {tag: np.float32(value) for tag, value in values.items()})

    def steps(self, steps: Iterable[tuple[int, dict[str, tf.Tensor]]]) -> None:
        """Curves of the training with a point for each step: (step, values by name)."""
        for step, values in steps:
            self.scalars("train", step, {f"step/{name}": float(value) for name, value in values.items()})

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures of validation images, uint8 [H, W, 3] by tag."""
        self.write("validation", step, "images", {tag: encoded(picture) for tag, picture in pictures.items()})

    def curves(self, step: int, counts: np.ndarray) -> None:
        """The precision-recall curve of each foreground class in the validation images.

        Args:
            counts: `counts.threshold_counts` at `counts.CURVE`, int64 [K, T, 2, 2].
        """
        found = {}
        for k, of_class in enumerate(counts, start=1):
            (tn, fp), (fn, tp) = np.moveaxis(of_class, 0, -1)
            scores = class_scores(of_class)
            data = np.stack([tp, fp, tn, fn, scores["precision"][:, 1], scores["recall"][:, 1]])
            found[f"precision_recall/class_{k}"] = data.astype(np.float32)
        self.write("validation", step, "pr_curves", found)

    def confusion(self, step: int, confusion: np.ndarray) -> None:
        """Which part of the validation pixels of each true class was predicted as which class, as a table.

        Args:
            confusion: int64 [classes, classes], rows the truth.
        """
        names = ["background", *(f"class {k}" for k in range(1, len(confusion)))]
        rows = []
        for name, row in zip(names, confusion, strict=True):
            rows.append([name, *(f"{share:.2%}" for share in row / max(row.sum(), 1)), f"{row.sum():,}"])
        self.write("validation", step, "text", {"epoch/confusion": markdown_table(["truth", *names, "pixels"], rows)})

    def histograms(self, step: int, names: list[str], weights: list[tf.Variable], gradients: list[tf.Tensor]) -> None:
        """The distribution of each weight and of its last gradient, by level."""
        found = {}
        for name, weight, gradient in zip(names, weights, gradients, strict=True):
            found[tag_of(name, "weights")] = buckets(weight.numpy())
            found[tag_of(name, "gradients")] = buckets(gradient.numpy())
        self.write("train", step, "histograms", found)

    def graph(self, part: str, function: tf.types.experimental.GenericFunction) -> None:
        """The graph that `function` is compiled to, into part "train" or "network"."""
        with self.writers[part].as_default(step=0):
            tf.summary.graph(readable_graph(function))

    def configuration(self, config: Config) -> None:
        """Settings and plan as tables; settings to compare runs by; which curves stand together."""
        sections = to_json(config)
        rows = [[f"{name}.{key}", json.dumps(value)] for name, part in sections.items() for key, value in part.items()]
        settings = {name: value for part in sections.values() for name, value in part.items()}
        compared = {
            name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
            for name, value in settings.items()
        }
        texts = {"configuration": markdown_table(["setting", "value"], rows)}
        if (self.run / "plan.json").is_file():
            plan = load_json(self.run / "plan.json")["plan"]
            reasons = [[each["setting"], json.dumps(each["value"]), each["reason"]] for each in plan]
            texts["plan"] = markdown_table(["setting", "value", "reason"], reasons)
        self.write("summary", 0, "text", texts)
        self.write("summary", 0, "custom_scalars", {custom_scalars.CONFIG_SUMMARY_TAG: overview().SerializeToString()})
        with self.writers["summary"].as_default(step=0):
            # The page shows first what differs between runs; those of equal settings would be one without names.
            hparams.hparams(compared, trial_id=f"{self.run.absolute().parent.name}/{self.run.absolute().name}")

    def result(self, row: Mapping[str, Any]) -> None:
        """The scores of the epoch whose weights are kept, its `row` of history.csv, and the model card."""
        self.scalars("summary", row["step"], {f"best/{name}": row[f"validation_{name}"] for name in BEST})
        self.scalars("summary", row["step"], {"best/epoch": row["epoch"]})
        card = self.run / "model_card.md"
        if card.is_file():
            self.write("summary", row["step"], "text", {"model_card": card.read_text(encoding="utf-8")})

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


def add_result(run: Path, row: Mapping[str, Any]) -> None:
    """`Summaries.result` after a training, which is safe by then: what cannot be written is left out."""
    with contextlib.suppress(OSError, tf.errors.OpError), contextlib.closing(Summaries(run, ["summary"])) as summaries:
        summaries.result(row)
        summaries.flush()


def encoded(picture: np.ndarray) -> list[bytes]:
    """Width, height and PNG of a picture, as TensorBoard wants them; as fast as a PNG can be made."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=1, compress_type=3)
    return [str(picture.shape[1]).encode(), str(picture.shape[0]).encode(), file.getvalue()]


def buckets(values: np.ndarray) -> np.ndarray:
    """The data of a histogram in TensorBoard: left edge, right edge and count of 30 buckets, float64 [30, 3].

    Values that are not finite are left out; the loss of the next step shows them.
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

    So it does with the result, which is removed from whatever step. A last record that was cut off when the training
    was killed is removed too.
    """
    for path in sorted(path for folder in FOLDERS for path in (run / folder).glob("events.*")):
        kept, dropped = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                if event.step <= (min(step, 0) if path.parent.name == "summary" else step):
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
