"""Running out of memory: seen coming where that can be, and the one sentence that comes of it."""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory

# What NumPy raises; what TensorFlow does, also for a MemoryError in a function of the input pipeline; and what comes of
# oneDNN, whose operations say no more than that they were aborted.
OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.AbortedError)


@contextlib.contextmanager
def within_memory(message: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory into a `UserError` with what `message` says then."""
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise UserError(message()) from error


def prediction_bytes(config: ModelConfig, pixels: int) -> int:
    """About what prediction of so many pixels at once takes at its highest, beside the image itself.

    At its last level the network holds the skip, what was upsampled, and both of them joined, 4 base_channels numbers a
    pixel, and what a convolution makes of them; 6.1 to 6.4 were measured over widths, depths and precisions. At depth 1
    a convolution holds its input and its output.
    """
    channels = (6 if config.depth > 1 else 2) * config.base_channels
    return pixels * channels * tf.as_dtype(config.precision).size


def check_available(needed: int) -> None:
    """Raises a MemoryError when `needed` bytes cannot be had.

    Linux grants memory that it does not have; who then uses it is killed without a word. Where it does not grant it,
    TensorFlow may end the process just so.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(f"{needed} bytes are needed, but {available} are available")
