"""Writes to TensorBoard; no other module does.

Training and validation use the same tags in two folders, so that their curves overlay.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent
from tensorboard.plugins.histogram.metadata import create_summary_metadata
from tensorflow.core.framework.summary_pb2 import DATA_CLASS_TENSOR
from tensorflow.core.util.event_pb2 import Event

from unet_lowlevel.config import Config
from unet_lowlevel.disk import put_in_place, sync
from unet_lowlevel.settings import to_json

# Shown beside the curve: what it is, what is healthy, and what to do if it is not.
DESCRIPTIONS = {
    "epoch/loss": "The mean loss of an image. Both curves fall; where that of the validation rises while that of the "
    "training falls, the network learns by heart: more data, larger random changes, or --dropout-rate.",
    "epoch/dice": "The Dice of all pixels, the mean over the foreground classes, at the threshold of the run: 1 is "
    "perfect, 0 finds nothing. By that of the validation the best epoch is chosen.",
    "epoch/iou": "The intersection over union at the same threshold, Dice / (2 - Dice) of one class: the same order of "
    "networks in smaller numbers.",
    "epoch/mean_iou": "IoU of foreground and background, averaged over the thresholds 0.5, 0.55, ... 0.95: the "
    "score of the 2019 project. It is often above 0.4 without any foreground; the best epoch is chosen by the Dice.",
    "step/loss": "The loss of the batch of each step: a rough curve, whose trend counts. Where it jumps up and stays, "
    "lower --learning-rate or set --clip-norm 1.",
    "step/learning_rate": "The learning rate of each step: the schedule as it was meant. It jumps where a training was "
    "resumed with other --epochs.",
    "step/gradient_norm": "The length of the gradient of each step, before clipping. Ten times the usual now and then "
    "is what --clip-norm is for; near 0 from the start, nothing is learned: look at masks and --learning-rate.",
    "training/learning_rate": "The learning rate of the last step of an epoch.",
    "training/gradient_norm": "The length of the gradient in the last step of an epoch, before clipping.",
    "training/weight_norm": "The length of all weights. It grows slowly and levels off; where it keeps growing, try "
    "--weight-decay.",
    "training/images_per_second": "Images a second in the training steps of an epoch. Where it falls, something else "
    "runs on the machine, or its memory is full.",
}
# Shown beside the pictures; see `pictures.comparison`.
LEGEND = "image, truth, prediction, errors: blue missed, red found too much, yellow another class; gray has no label"
HISTOGRAM = create_summary_metadata(display_name=None, description=None)
LAYOUT = custom_scalars.create_summary_metadata()
LAYOUT.data_class = DATA_CLASS_TENSOR  # without it TensorBoard takes the page for empty


class Summaries:
    """Writers for RUN/train and RUN/validation. The horizontal axis is the training step."""

    def __init__(self, run: Path):
        self.run = run
        self.writers = {name: tf.summary.create_file_writer(str(run / name)) for name in ("train", "validation")}

    def scalars(self, part: str, step: int, values: dict[str, float]) -> None:
        """Curves: `values` by tag, into part "train" or "validation"."""
        with self.writers[part].as_default(step=step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value, description=DESCRIPTIONS.get(tag))

    def steps(self, steps: Iterable[tuple[int, dict[str, tf.Tensor]]]) -> None:
        """Curves of the training with a point for each step: (step, values by name)."""
        for step, values in steps:
            self.scalars("train", step, {f"step/{name}": float(value) for name, value in values.items()})

    def pictures(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """Comparisons of validation images, uint8 [H, W, 3] by stem."""
        with self.writers["validation"].as_default(step=step):
            for stem, picture in pictures.items():
                tag = f"image_truth_prediction_errors/{stem}"
                tf.summary.image(tag, picture[np.newaxis], description=LEGEND)

    def histograms(self, step: int, names: list[str], weights: list[tf.Variable], gradients: list[tf.Tensor]) -> None:
        """The distribution of each weight and of its last gradient, under the weight's name."""
        with self.writers["train"].as_default(step=step):
            for name, weight, gradient in zip(names, weights, gradients, strict=True):
                tf.summary.write(f"weights/{name}", buckets(weight.numpy()), metadata=HISTOGRAM)
                tf.summary.write(f"gradients/{name}", buckets(gradient.numpy()), metadata=HISTOGRAM)

    def graph(self, function: tf.types.experimental.GenericFunction) -> None:
        """The graph that `function` was compiled to."""
        with self.writers["train"].as_default(step=0):
            tf.summary.graph(function.get_concrete_function().graph)

    def configuration(self, config: Config) -> None:
        """Every setting as a table; and which curves stand together on the page of custom scalars."""
        rows = [
            f"| {section}.{name} | {json.dumps(value)} |"
            for section, part in to_json(config).items()
            for name, value in part.items()
        ]
        with self.writers["train"].as_default(step=0):
            tf.summary.text("configuration", "\n".join(["| setting | value |", "| --- | --- |", *rows]))
            layout = overview().SerializeToString()
            tf.summary.write(custom_scalars.CONFIG_SUMMARY_TAG, layout, metadata=LAYOUT)

    def flush(self) -> None:
        """Writes all to the disk."""
        for writer in self.writers.values():
            writer.flush()
        for part in self.writers:
            for path in (self.run / part, *(self.run / part).glob("events.*")):
                sync(path)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


def overview() -> Layout:
    """The first charts to look at."""
    charts = {
        "Loss": ["epoch/loss"],
        "Dice": ["epoch/dice"],
        "Loss of each step": ["step/loss"],
        "Learning rate": ["step/learning_rate"],
        "Gradient norm": ["step/gradient_norm"],
    }
    shown = [Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in charts.items()]
    return Layout(category=[Category(title="Overview", chart=shown)])


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
    """Removes the events after `step` from RUN/train and RUN/validation: the resumed training writes them again.

    A last record that was cut off when the training was killed is removed too.
    """
    for path in sorted((*run.glob("train/events.*"), *run.glob("validation/events.*"))):
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
