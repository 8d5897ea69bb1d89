"""Keras in the benchmark: the functional model, by the functions that `fit` and `predict` compile, without their loops;
with and without XLA."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmark import peers
from benchmark.peer_ours import use_threads
from benchmark.peers import Task, assign, in_batches, timed
from unet_lowlevel.core.more_losses import make_loss
from unet_lowlevel.reference.keras_unet import functional_unet
from unet_lowlevel.reference.weights import model_variables


def network(task: Task, jit_compile: bool, **compiled) -> tf.keras.Model:
    """The model with the task's weights, `compiled` as given."""
    model = functional_unet(task.config.model)
    assign(model_variables(model), task.weights())
    model.compile(jit_compile=jit_compile, **compiled)
    if model.jit_compile != jit_compile:  # Keras would go on without XLA
        raise ValueError("Keras does not compile this network with XLA")
    return model


class Training:
    """The step with Keras' Adam and our loss, on a constant batch."""

    jit_compile = False  # as Keras chooses by itself on a CPU

    def __init__(self, task: Task):
        use_threads(task.threads)
        loss = make_loss(task.config.loss)
        self.model = network(
            task,
            self.jit_compile,
            optimizer=tf.keras.optimizers.Adam(task.config.optimizer.learning_rate),
            loss=lambda labels, logits: loss(tf.cast(labels[..., 0], tf.int32), tf.cast(logits, tf.float32)),
        )
        self.model.make_train_function()
        images, labels = task.batch()
        self.batches = itertools.repeat((tf.constant(images), tf.constant(labels[..., np.newaxis])))

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each step."""
        self.model.reset_metrics()
        # Keras returns the mean since then.
        seconds, means = timed(lambda: float(self.model.train_function(self.batches)["loss"]), steps)
        return seconds, np.diff([0.0, *(mean * (i + 1) for i, mean in enumerate(means))]).tolist()


class JitTraining(Training):
    """`Training` compiled by XLA."""

    jit_compile = True


def predictor(model: tf.keras.Model) -> Callable:
    """A function of images that is compiled for them alone, not for batches of any size."""
    model.make_predict_function(force=True)
    predict = model.predict_function
    return lambda images: predict([(images,)]).numpy()


class Inference:
    """One image."""

    jit_compile = False

    def __init__(self, task: Task):
        use_threads(task.threads)
        self.predict = predictor(network(task, self.jit_compile))
        self.picture = tf.constant(task.picture())

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.predict(self.picture), times)
        return seconds, logits[-1].astype(np.float32)


class JitInference(Inference):
    """`Inference` compiled by XLA."""

    jit_compile = True


class Throughput(peers.Throughput):
    """Many images."""

    jit_compile = False

    def __init__(self, task: Task):
        use_threads(task.threads)
        model = network(task, self.jit_compile)
        super().__init__(task.many(), lambda size: in_batches(predictor(model), size))


class JitThroughput(Throughput):
    """`Throughput` compiled by XLA."""

    jit_compile = True
