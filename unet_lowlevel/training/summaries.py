"""Writes to TensorBoard; no other module does.

Training and validation use the same tags in two folders, so that their curves overlay.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.plugins.histogram.metadata import create_summary_metadata
from tensorflow.core.util.event_pb2 import Event

from unet_lowlevel.config import Config
from unet_lowlevel.disk import put_in_place, sync
from unet_lowlevel.settings import to_json

# Shown beside the curve.
DESCRIPTIONS = {
    "epoch/mean_iou": "IoU of foreground and background, averaged over the thresholds 0.5, 0.55, ... 0.95: the "
    "score of the 2019 project. It is often above 0.4 without any foreground; the best epoch is chosen by the Dice."
}
# Shown beside the pictures; see `pictures.comparison`.
LEGEND = "image, truth, prediction, errors: blue missed, red found too much, yellow another class; gray has no label"
HISTOGRAM = create_summary_metadata(display_name=None, description=None)


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
        """Every setting as a table."""
        rows = [
            f"| {section}.{name} | {json.dumps(value)} |"
            for section, part in to_json(config).items()
            for name, value in part.items()
        ]
        with self.writers["train"].as_default(step=0):
            tf.summary.text("configuration", "\n".join(["| setting | value |", "| --- | --- |", *rows]))

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
