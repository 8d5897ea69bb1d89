"""This project in the benchmark, and what only it is asked for: the input pipeline, and TensorFlow's matrix product."""

import itertools

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import apply
from unet_lowlevel.data.phantom import draw_phantom
from unet_lowlevel.data.pipeline import TrainingBatches
from unet_lowlevel.data.samples import Sample, with_normalization
from unet_lowlevel.inference.folding import folded
from unet_lowlevel.reference.peers import MATRIX_SIZE, Task, assign, timed
from unet_lowlevel.training.step import TrainStep
from unet_lowlevel.unet import UNet

SAMPLES = 16
# Steps before those that are timed: what the pipeline has prepared while it waited is used up by then, or, when the
# batch is a constant one, the pipeline has fallen asleep.
SETTLING_STEPS = 4


def use_threads(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def network(task: Task) -> UNet:
    """The network with the task's weights."""
    unet = UNet(task.config.model)
    assign(unet.named_variables(), task.weights())
    return unet


class Training:
    """`TrainStep` on a constant batch, with the scores and norms that it computes for the curves."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.images, self.labels = map(tf.constant, task.batch())
        crop = (task.config.training.crop_size,) * 2
        self.step = TrainStep(network(task), task.config, crop, total_steps=10**6)

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each step."""
        return timed(lambda: float(self.step(self.images, self.labels)["loss"]), steps)


class Inference:
    """The network folded and compiled as `Predictor` does it, up to the logits."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        unet = folded(network(task))
        signature = [tf.TensorSpec([None, None, None, task.config.model.in_channels], tf.float32)]
        self.compiled = tf.function(unet.whole, input_signature=signature, autograph=False)
        self.picture = tf.constant(task.picture())

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.compiled(self.picture).numpy(), times)
        return seconds, logits[-1]


class Pipeline(Training):
    """`TrainStep` in turn on a constant batch and fed by `TrainingBatches` with every augmentation."""

    def __init__(self, task: Task):
        super().__init__(task)
        config = apply(task.config, {"steps_per_epoch": 100})
        side = config.training.crop_size * 5 // 4  # of the images, so that they are cropped, too
        drawn = [draw_phantom(i // 4, i % 4, 4, (side, side), 0) for i in range(SAMPLES)]
        samples = [Sample(str(i), image[..., None], mask // 255) for i, (image, mask) in enumerate(drawn)]
        batches = TrainingBatches([with_normalization(sample, config.data) for sample in samples], config)
        self.batches = itertools.chain.from_iterable(batches.of_epoch(epoch) for epoch in itertools.count())

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds of the steps on the constant batch, and of as many that are fed."""

        def fed_step() -> None:
            images, labels, _ = next(self.batches)
            float(self.step(images, labels)["loss"])

        constant = super().run(SETTLING_STEPS + steps)[0]
        fed = timed(fed_step, SETTLING_STEPS + steps)[0]
        return constant[SETTLING_STEPS:], fed[SETTLING_STEPS:]


class Matmul:
    """tf.matmul of square matrices."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.matrix = tf.cast(tf.random.stateless_normal([MATRIX_SIZE] * 2, [0, 0]), task.precision)

    def run(self, times: int) -> tuple[list[float], None]:
        """Seconds of each product."""
        return timed(lambda: tf.matmul(self.matrix, self.matrix)[0, 0].numpy(), times)[0], None
