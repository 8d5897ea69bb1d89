"""Where the replicas of a training run: in this process, or one in each of several, on this machine or others.

Every process runs the same training. The first is the chief: it alone reads and writes the run folder, and tells the
others the settings, the split of the data and the state that a resumed training goes on from.
"""

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from unet_lowlevel.core.replicas import summed
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.errors import UserError, WorkerLost

# What TensorFlow raises when another process is lost.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


class Replicas:
    """The replicas of a training, of which this process has one or more.

    Attributes:
        strategy: TensorFlow's, or None for a single replica.
        worker, workers: the number of this process, from 0, and how many there are.
        local, count: how many replicas this process has, and how many there are.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, worker: int = 0, workers: int = 1):
        self.strategy, self.worker, self.workers = strategy, worker, workers
        self.count = strategy.num_replicas_in_sync if strategy else 1
        self.local = self.count // workers

    @property
    def chief(self) -> bool:
        return self.worker == 0

    def scope(self) -> contextlib.AbstractContextManager:
        """Variables that are made within it exist on every replica, with the same values."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def share(self, batch_size: int, replica: int) -> int:
        """The first image of a batch that this replica sees. The last is that before the first of the next replica."""
        return batch_size * replica // self.count

    def of_worker(self, batch_size: int) -> slice:
        """The images of a batch that the replicas of this process see."""
        first = self.worker * self.local
        return slice(self.share(batch_size, first), self.share(batch_size, first + self.local))

    def check(self, images: int, parts: int = 1) -> None:
        """Raises a `UserError` unless each replica has at least one of the images of each part of a batch.

        On none TensorFlow 2.21 computes wrongly: a convolution of an empty batch returns as many channels as it got.
        """
        if images < self.count * parts:
            replicas = f"{self.count} replicas" if self.count > 1 else ""
            who = " with ".join(filter(None, [replicas, f"{parts} parts (--accumulate)" if parts > 1 else ""]))
            raise UserError(
                f"{who} cannot share a batch of {images} images, as an epoch has here: take another --batch-size, or "
                "set --steps-per-epoch, which makes all batches full."
            )

    def compiled(self, train_step: TrainStep) -> Callable[..., dict]:
        """`train_step` as a function of whether this process wants to stop, the size of the batch, and its images here.

        Its results have "stop" as well: whether any process wants to.
        """
        strategy = self.strategy
        if not strategy:
            return lambda stop, _, *batch: {"stop": stop, **train_step(*batch)}
        first = self.worker * self.local
        signature = train_step.compiled.input_signature

        def on_replica(stop, *parts):
            own = self.number_here() * len(signature)
            return {"stop": summed(stop), **train_step.update(*parts[own : own + len(signature)])}

        run = tf.function(
            lambda *inputs: strategy.run(on_replica, inputs),
            input_signature=[tf.TensorSpec([], tf.int32), *signature * self.local],
            autograph=False,
        )

        def step(stop: bool, batch_size: int, *batch: tf.Tensor) -> dict:
            edges = [self.share(batch_size, first + i) - self.share(batch_size, first) for i in range(self.local + 1)]
            parts = [part[start:end] for start, end in itertools.pairwise(edges) for part in batch]
            results = run(tf.constant(int(stop)), *parts)
            return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], results)

        return step

    def number_here(self) -> int:
        """The number of the replica that this is called by, among those of its process."""
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return int(tf.get_static_value(number)) - self.worker * self.local

    def total(self, values: np.ndarray) -> np.ndarray:
        """values of process 0 + values of process 1 + ..., in every process; of one shape and dtype in all of them."""
        if self.workers == 1:
            return values
        found = self.strategy.experimental_local_results(self.sum_of(values.dtype.name)(tf.constant(values.ravel())))
        return found[0].numpy().reshape(values.shape)

    @functools.cache  # noqa: B019 (there is one object of this class in a process, and it lives as long)
    def sum_of(self, dtype: str) -> Callable[[tf.Tensor], Any]:
        """What adds up a vector of each process."""

        def on_replica(values):
            return summed(values if self.number_here() == 0 else tf.zeros_like(values))

        return tf.function(
            lambda values: self.strategy.run(on_replica, (values,)),
            input_signature=[tf.TensorSpec([None], dtype)],
            autograph=False,
        )

    def told(self, what: Any = None, speaker: int = 0) -> Any:
        """In every process what the speaker, by default the chief, says: anything that fits into JSON."""
        if self.workers == 1:
            return what
        text = json.dumps(what).encode() if self.worker == speaker else b""
        length = int(self.total(np.array(len(text))))
        characters = np.frombuffer(text.ljust(length, b"\0"), np.uint8).astype(np.int32)
        return json.loads(bytes(self.total(characters).tolist()))

    def gathered(self, values: list) -> list:
        """In every process the values of all, process by process: anything that fits into JSON."""
        return list(itertools.chain.from_iterable(self.told(values, speaker) for speaker in range(self.workers)))

    def synchronize(self, variables: Sequence[tf.Variable]) -> None:
        """Gives the variables in every process the values that they have in the chief."""
        for variable in variables:
            own = variable.numpy()
            variable.assign(self.total(own if self.chief else np.zeros_like(own)))

    @contextlib.contextmanager
    def others(self):
        """Turns what TensorFlow raises when another process is lost into a `WorkerLost`."""
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise WorkerLost(
                f"Worker {self.worker} of {self.workers} has lost another ({type(error).__name__}): start all of them "
                "again, worker 0 with --resume if its run folder has a checkpoint."
            ) from None
