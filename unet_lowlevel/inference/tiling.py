"""Prediction of large images tile by tile; see `geometry.py` for which part of an image a tile needs."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.fast import FoldedUNet, box
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.geometry import Span, reach, spans


def read_window(image: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """The window of an image [H, W, C], mirrored where it lies outside: [window_size, window_size', C].

    If the image is mapped from a file, only the rows of the window are read.
    """
    rows = mirror_indices(rows.window, rows.window_size, image.shape[0]).numpy()
    columns = mirror_indices(columns.window, columns.window_size, image.shape[1]).numpy()
    top, left = rows.min(), columns.min()
    seen = image[top : rows.max() + 1, left : columns.max() + 1]
    return seen[rows - top][:, columns - left]


def in_tiles(
    image: np.ndarray, size: int, config: ModelConfig, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Computes an image [H, W, C] tile by tile.

    Args:
        image: in memory, or mapped from a file.
        size: side in pixels of the largest window.
        config: of the network.
        compute: takes a window [h, w, C] and the core int32 [2, 2], returns the result of the core; see `tile_logits`.

    Yields:
        rows, columns, and what `compute` gives for the pixels there.
    """
    height, width = image.shape[:2]
    for rows, columns in itertools.product(spans(height, size, config), spans(width, size, config)):
        tile_rows, tile_columns = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        yield tile_rows, tile_columns, in_window(image, rows, columns, compute)


def in_window(
    image: np.ndarray, rows: Span, columns: Span, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """What `compute` gives for one tile of an image; see `in_tiles`."""
    computed = compute(read_window(image, rows, columns), np.array([rows.core, columns.core], np.int32))
    below = computed[rows.inside : rows.inside + rows.stop - rows.start]
    return below[:, columns.inside : columns.inside + columns.stop - columns.start]


def tile_logits(model: UNet, window: tf.Tensor, core: tf.Tensor) -> tf.Tensor:
    """Logits of the core of a window.

    Args:
        model: of any implementation.
        window: float32 [N, H, W, in_channels], sides that the network takes without padding.
        core: int32 [2, 2], (first, last + 1) row and column of the network's output; in a "same" network multiples of
            2^(depth - 1).

    Returns:
        float32 [N, last + 1 - first, ..., classes]
    """
    images = tf.cast(window, model.config.precision)
    if isinstance(model, FoldedUNet) and model.config.padding == "same":
        return tf.cast(model.core(images, core, reach(model.config)), tf.float32)
    return tf.cast(box(model.forward(images, training=False), core[:, 0], core[:, 1]), tf.float32)
