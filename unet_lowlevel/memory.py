"""Running out of memory: predicted where possible, and reported in one sentence."""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory

# NumPy raises the first. TensorFlow raises the second, also for a MemoryError in the input pipeline, and the third when
# a oneDNN operation fails, which says no more than that it was aborted.
OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.AbortedError)


@contextlib.contextmanager
def within_memory(message: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory into a `UserError` with the text of `message()`."""
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise UserError(message()) from error


def prediction_bytes(config: ModelConfig, pixels: int) -> int:
    """Approximate peak bytes of predicting so many pixels at once, without the image itself.

    At its last level the network holds the skip, the upsampled features and both concatenated, 4 base_channels numbers
    a pixel, and the output of a convolution; 6.1 to 6.4 base_channels were measured over widths, depths and precisions.
    At depth 1 a convolution holds its input and its output.
    """
    channels = (6 if config.depth > 1 else 2) * config.base_channels
    return pixels * channels * tf.as_dtype(config.precision).size


def check_available(needed: int) -> None:
    """Raises a MemoryError if fewer than `needed` bytes are available.

    Linux promises more memory than it has, and kills the process that uses it. Where Linux refuses the memory,
    TensorFlow may end the process without an exception.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(f"{needed} bytes are needed, but {available} are available")
