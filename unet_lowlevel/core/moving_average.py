"""Averaged weights."""

import contextlib
from collections.abc import Sequence

import tensorflow as tf


class MovingAverage(tf.Module):
    """Exponential moving average of variables: smoother than the weights themselves, and often better.

    average' = d average + (1 - d) variable,  d = min(decay, (1 + step) / (10 + step))

    The smaller decay of the first steps lets go of the random start. Batch normalization's statistics
    are averaged along with the weights that they belong to.

    Reference: Polyak & Juditsky 1992 (averaging of iterates).
    """

    def __init__(self, variables: Sequence[tf.Variable], decay: float):
        super().__init__("moving_average")
        self.decay = decay
        # A plain tuple of the averaged variables would be tracked, and saved, a second time.
        self._follow = lambda: variables
        self.averages = [tf.Variable(v, trainable=False, name=v.name.split(":")[0]) for v in variables]

    def update(self, step: tf.Tensor) -> None:
        """Moves the averages after step `step` (integer tensor, 0 for the first)."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.averages, self._follow(), strict=True):
            average.assign_sub((1.0 - decay) * (average - variable))

    @contextlib.contextmanager
    def in_place(self):
        """Within this context the variables hold their averages; afterwards their own values again."""
        own = [variable.numpy() for variable in self._follow()]
        for variable, average in zip(self._follow(), self.averages, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self._follow(), own, strict=True):
                variable.assign(value)
