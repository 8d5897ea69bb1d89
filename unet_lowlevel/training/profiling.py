"""A profile of some training steps, for TensorBoard's page "Profile" (`--profile`)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

# The first steps of a process are left out: TensorFlow prepares its operations in them.
SKIPPED = 3


class Profile:
    """Records which operation took how long in the steps `SKIPPED` + 1 to `SKIPPED` + `steps` of this process."""

    def __init__(self, run: Path, steps: int):
        """Records nothing yet.

        Args:
            run: the run folder; the profile goes to RUN/plugins/profile.
            steps: how many; 0: none.
        """
        self.run, self.steps, self.number = run, steps, 0

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around each step."""
        self.number += 1
        if self.steps and self.number == SKIPPED + 1:
            tf.profiler.experimental.start(str(self.run))
        if not SKIPPED < self.number <= SKIPPED + self.steps:
            yield
            return
        with tf.profiler.experimental.Trace("train", step_num=self.number, _r=1):
            yield
        if self.number == SKIPPED + self.steps:
            self.close()

    def close(self) -> None:
        """Writes the profile, if it has been begun and not written."""
        if self.number > SKIPPED and self.steps:
            tf.profiler.experimental.stop()
            self.steps = 0
