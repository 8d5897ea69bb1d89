"""This project in the benchmark, also without its fast forms and in tiles; the input pipeline; tf.matmul."""

import contextlib
import dataclasses
import itertools
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmark.onednn import convolution_seconds
from benchmark.peers import MATRIX_SIZE, Task, assign, timed
from unet_lowlevel.core import fast, optimizers
from unet_lowlevel.core.ops.activations import elu
from unet_lowlevel.core.ops.batch_normalization import batch_moments, normalize
from unet_lowlevel.core.ops.convolution import conv2d
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.phantoms.phantom import draw_phantom
from unet_lowlevel.data.pipeline import TrainingBatches
from unet_lowlevel.data.samples import Normalization, Sample, with_normalization
from unet_lowlevel.data.storage import on_disk
from unet_lowlevel.inference.predictor import Predictor, WorkingImage
from unet_lowlevel.inference.results import canvas
from unet_lowlevel.settings import apply
from unet_lowlevel.training.steps import train_step, whole_logits

SAMPLES = 16
STREAMED_SAMPLES, STREAMED_SIDE = 8, 4096
# Untimed steps before the timed ones: they use up what the pipeline prepared while it waited; with a constant batch the
# pipeline stops working meanwhile.
SETTLING_STEPS = 4


def use_threads(threads: int, at_once: int = 0) -> None:
    """Lets an operation use so many threads, and so many operations run at once, by default as many."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(at_once or threads)


def network(task: Task) -> UNet:
    """The network with the task's weights."""
    unet = fast.network(task.config.model)
    assign(unet.named_variables(), task.weights())
    return unet


class Training:
    """The training step on a constant batch, with the scores and norms that it computes for the curves."""

    at_once = 0

    def __init__(self, task: Task):
        use_threads(task.threads, self.at_once)
        self.images, self.labels = map(tf.constant, task.batch())
        crop = (task.config.training.crop_size,) * 2
        self.step = train_step(network(task), task.config, crop, total_steps=10**6)

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each step."""
        return timed(lambda: float(self.step(self.images, self.labels)["loss"]), steps)


class Inference:
    """The network folded and compiled as `Predictor` does it, up to the logits."""

    at_once = 0
    prepared = fast.FoldedUNet

    def __init__(self, task: Task):
        use_threads(task.threads, self.at_once)
        unet = self.prepared(network(task))
        signature = [tf.TensorSpec([None, None, None, task.config.model.in_channels], tf.float32)]
        self.compiled = tf.function(lambda images: whole_logits(unet, images), signature, autograph=False)
        self.picture = tf.constant(task.picture())

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.compiled(self.picture).numpy(), times)
        return seconds, logits[-1]


class Recomputing(Training):
    """`Training` with --recompute."""

    def __init__(self, task: Task):
        super().__init__(dataclasses.replace(task, config=apply(task.config, {"recompute": True})))


class Logged:
    """What oneDNN says of each operation, in place of the output of a work; one operation after another."""

    at_once = 1

    def __init__(self, task: Task):
        os.environ["ONEDNN_VERBOSE"] = "1"  # which oneDNN reads with its first operation
        super().__init__(task)

    def run(self, times: int) -> tuple[list[float], list[str]]:
        """Seconds of each time, and the lines of all."""
        stdout = os.dup(1)
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 1)
            seconds, _ = super().run(times)
            os.dup2(stdout, 1)
            os.close(stdout)
            file.seek(0)
            return seconds, file.read().decode().splitlines()


class LoggedTraining(Logged, Training):
    """`Training` with what oneDNN says."""


class LoggedInference(Logged, Inference):
    """`Inference` with what oneDNN says."""


class Convolutions(LoggedTraining):
    """What `Training` would take if it had nothing to do but its convolutions."""

    def run(self, steps: int) -> tuple[list[float], None]:
        """Seconds that oneDNN needs for the convolutions of each step."""
        run = super().run
        return [convolution_seconds(run(1)[1]) for _ in range(steps)], None


# Without all fast forms, or without one: its name in `fast` is set to the definition. A process runs one of these.


class Plain(Training):
    """`Training` with --plain: without any fast form."""

    def __init__(self, task: Task):
        super().__init__(dataclasses.replace(task, config=apply(task.config, {"plain": True})))


class PlainInference(Inference):
    """The network that is not folded."""

    prepared = staticmethod(lambda unet: unet)


class JoinedParts(Training):
    """Training with `conv2d` of the joined features."""

    def __init__(self, task: Task):
        fast.conv2d_of_parts = lambda parts, *filters: conv2d(tf.concat(parts, -1), *filters)
        super().__init__(task)


class BatchMoments(Training):
    """Training with `normalize` and `batch_moments`."""

    def __init__(self, task: Task):
        def batch_norm(images, gamma, beta):
            mean, variance = batch_moments(tf.cast(images, gamma.dtype))
            return normalize(images, mean, variance, gamma, beta), mean, variance

        fast.batch_norm = batch_norm
        super().__init__(task)


class BFloat16Elu(Training):
    """Training with TensorFlow's own `elu` of bfloat16."""

    def __init__(self, task: Task):
        fast.shifted_elu = lambda images, shift: elu(images + tf.cast(shift, images.dtype))
        super().__init__(task)


class CopyingAdam(Training):
    """Training with `optimizers.Adam`."""

    def __init__(self, task: Task):
        fast.make_optimizer = optimizers.make_optimizer
        super().__init__(task)


class Throughput:
    """Many images as `predict_files` computes them: one by each thread, from normalized pixels to probabilities."""

    batch_size = 1

    def __init__(self, task: Task):
        use_threads(1, task.threads)
        self.predictor = Predictor([fast.FoldedUNet(network(task))], [task.config])
        networks = self.predictor.networks
        self.images = [[WorkingImage(image, image.shape[:2], networks, [Normalization()])] for image in task.many()]
        self.pool = ThreadPoolExecutor(task.threads)

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the probabilities [M, S, S, 1]."""
        seconds, found = timed(lambda: list(self.pool.map(self.predictor.whole, self.images)), times)
        return seconds, np.stack(found[-1])


class Whole:
    """A mask of an image of a quarter of the large side, computed by `Predictor` whole, up to 2048 pixels a side."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.folder, self.side = task.folder, task.large_size // 4
        self.predictor = Predictor([fast.FoldedUNet(network(task))], [task.config])

    def predict(self) -> None:
        # One row of pixels, repeated without a copy: an image that takes no memory.
        line = np.arange(self.side, dtype=np.uint8)[np.newaxis, :, np.newaxis]
        image = np.broadcast_to(line, [self.side, self.side, 1])
        working = WorkingImage(image, image.shape[:2], self.predictor.networks, [Normalization(127.5, 74.0)])
        mask = canvas([self.side, self.side], np.uint8, self.folder)
        for rows, columns, probabilities in self.predictor.tiles([working]):
            mask[rows, columns] = probabilities[..., 0] > 0.5

    def run(self, times: int) -> tuple[list[float], None]:
        """Seconds of each time."""
        return timed(self.predict, times)[0], None


class Tiled(Whole):
    """A mask of an image of the large size, tile by tile."""

    def __init__(self, task: Task):
        super().__init__(task)
        self.side = task.large_size


class Pipeline(Training):
    """The step in turn on a constant batch and fed by `TrainingBatches` with the default augmentations: from images in
    memory, and from large images streamed from files."""

    def __init__(self, task: Task):
        super().__init__(task)
        config = apply(task.config, {"steps_per_epoch": 100})
        side = config.training.crop_size * 5 // 4  # of the images, larger than the crop
        drawn = [draw_phantom(i // 4, i % 4, 4, (side, side), 0) for i in range(SAMPLES)]
        samples = [
            with_normalization(Sample(str(i), image[..., None], mask // 255), config.data)
            for i, (image, mask) in enumerate(drawn)
        ]
        self.folder = contextlib.ExitStack()  # never closed: the files are removed with the task's folder
        keep = self.folder.enter_context(on_disk(task.folder / "run"))
        tiles = -(-STREAMED_SIDE // side)
        stored = [
            keep(
                dataclasses.replace(
                    sample, image=np.tile(sample.image, (tiles, tiles, 1)), label=np.tile(sample.label, (tiles, tiles))
                )
            )
            for sample in samples[:STREAMED_SAMPLES]
        ]
        self.files = [mapped().filename for sample in stored for mapped in sample.maps.values()]
        self.feeds = {
            name: itertools.chain.from_iterable(batches.of_epoch(epoch) for epoch in itertools.count())
            for name, batches in (
                ("memory", TrainingBatches(samples, config)),
                ("files", TrainingBatches(stored, config)),
            )
        }

    def run(self, steps: int) -> tuple[list[float], dict[str, list[float]]]:
        """Seconds of the steps on the constant batch, and of as many fed steps: {source: seconds}."""
        constant = super().run(SETTLING_STEPS + steps)[0][SETTLING_STEPS:]
        fed = {}
        for name, feed in self.feeds.items():
            if name == "files":
                forget(self.files)

            def fed_step(feed=feed) -> None:
                images, labels, _ = next(feed)
                float(self.step(images, labels)["loss"])

            fed[name] = timed(fed_step, SETTLING_STEPS + steps)[0][SETTLING_STEPS:]
        return constant, fed


def forget(files: Iterable[Path]) -> None:
    """Drops the files from the system's cache, where the system allows it."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Matmul:
    """tf.matmul of square matrices."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.matrix = tf.cast(tf.random.stateless_normal([MATRIX_SIZE] * 2, [0, 0]), task.precision)

    def run(self, times: int) -> tuple[list[float], None]:
        """Seconds of each product."""
        return timed(lambda: tf.matmul(self.matrix, self.matrix)[0, 0].numpy(), times)[0], None
