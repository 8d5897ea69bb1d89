"""Keras in the benchmark: the functional model, trained by `fit`."""

import time

import numpy as np
import tensorflow as tf

from benchmark.peer_ours import use_threads
from benchmark.peers import Task, assign, timed
from unet_lowlevel.core.more_losses import make_loss
from unet_lowlevel.reference.keras_unet import functional_unet
from unet_lowlevel.reference.weights import model_variables


def network(task: Task) -> tf.keras.Model:
    """The model with the task's weights."""
    model = functional_unet(task.config.model)
    assign(model_variables(model), task.weights())
    return model


class StepTimes(tf.keras.callbacks.Callback):
    """Seconds and loss of each step of `fit`, without what `fit` does between epochs."""

    def __init__(self):
        super().__init__()
        self.seconds, self.losses = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))  # the mean of the epoch so far
        self.seconds.append(time.perf_counter() - self.start)


class Training:
    """`fit` with Keras' Adam and our loss."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        loss = make_loss(task.config.loss)
        self.model = network(task)
        self.model.compile(
            tf.keras.optimizers.Adam(task.config.optimizer.learning_rate),
            loss=lambda labels, logits: loss(tf.cast(labels[..., 0], tf.int32), tf.cast(logits, tf.float32)),
            jit_compile=False,  # as Keras chooses by itself on a CPU
        )
        images, labels = task.batch()
        self.batches = tf.data.Dataset.from_tensors((images, labels[..., np.newaxis])).cache().repeat().prefetch(2)

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each step."""
        times = StepTimes()
        self.model.fit(self.batches, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False, callbacks=[times])
        totals = [0.0, *(mean * (i + 1) for i, mean in enumerate(times.losses))]
        return times.seconds, np.diff(totals).tolist()


class Inference:
    """`predict_on_batch`, the compiled function without the loop of `predict`."""

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.model = network(task)
        self.model.compile(jit_compile=False)
        self.picture = tf.constant(task.picture())

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.model.predict_on_batch(self.picture), times)
        return seconds, np.asarray(logits[-1], np.float32)
