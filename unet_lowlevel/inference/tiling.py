"""Images larger than memory allows at once: tile by tile, each shown with as much of its surroundings as counts.

A pixel of the output depends on those of the input within some distance, and on no others. A tile is therefore
computed in a window that is wider by that distance, and what comes out is what the whole image would have given.
"""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.losses import probabilities
from unet_lowlevel.memory import OUT_OF_MEMORY, check_available, prediction_bytes
from unet_lowlevel.ops.cropping import mirror_indices
from unet_lowlevel.unet import UNet, smallest_valid_size, valid_margin


@dataclass(frozen=True)
class Span:
    """A tile and its window along one axis.

    Attributes:
        start, stop: the tile, pixels start ... stop - 1 of the image.
        window: first pixel of the window; it and others may lie outside of the image, where that is mirrored.
        window_size: side of the window, one that the network takes.
        core: (first, last + 1) of what the network computes of the window: the tile, with what rounds it up.
        inside: where the tile begins in that.
    """

    start: int
    stop: int
    window: int
    window_size: int
    core: tuple[int, int]
    inside: int


def spans(length: int, size: int, config: ModelConfig) -> list[Span]:
    """The tiles that cover an axis of `length` pixels, in windows of at most about `size` pixels."""
    return (spans_of_valid if config.padding == "valid" else spans_of_same)(length, size, config)


def spans_of_valid(length: int, size: int, config: ModelConfig) -> list[Span]:
    """The overlap-tile strategy; tiles begin at multiples of 2^(depth - 1), or they would be pooled differently.

    Reference: Ronneberger et al. 2015, figure 2.
    """
    multiple, margin = 2 ** (config.depth - 1), valid_margin(config)
    largest = max((size - margin) // multiple * multiple, multiple)
    count = -(-length // largest)
    side = length if count == 1 else -(-length // (count * multiple)) * multiple
    window = smallest_valid_size(config, side)
    tiles = [(start, min(start + side, length)) for start in range(0, length, side)]
    return [Span(start, stop, start - margin // 2, window, (0, stop - start), 0) for start, stop in tiles]


def spans_of_same(length: int, size: int, config: ModelConfig) -> list[Span]:
    """The image is mirrored up to a multiple of 2^(depth - 1), as for `UNet`; windows and tiles keep to such multiples.

    At the image's border a window ends with it, for there the network pads with zeros, with or without tiles.
    """
    multiple, margin = 2 ** (config.depth - 1), surroundings(config)
    padded = -(-length // multiple) * multiple
    before = (padded - length) // 2
    count = 1 if padded <= size else max(-(-(padded - 2 * margin) // max(size - 2 * margin, multiple)), 1)
    window = -(-(padded + 2 * margin * (count - 1)) // (count * multiple)) * multiple
    windows = [min(i * (window - 2 * margin), padded - window) for i in range(count)]
    edges = [0, *(first + margin for first in windows[1:]), padded]
    found = []
    for first, low, high in zip(windows, edges[:-1], edges[1:], strict=True):
        start, stop = max(low - before, 0), min(high - before, length)
        found.append(Span(start, stop, first - before, window, (low - first, high - first), start + before - low))
    return found


def span_around(start: int, stop: int, length: int, config: ModelConfig) -> Span:
    """The window around any part of an axis, pixels start ... stop - 1, pooled as in the whole image."""
    multiple = 2 ** (config.depth - 1)
    if config.padding == "valid":
        low, margin = start // multiple * multiple, valid_margin(config)
        window = smallest_valid_size(config, stop - low)
        return Span(start, stop, low - margin // 2, window, (0, stop - low), start - low)
    padded, margin = -(-length // multiple) * multiple, surroundings(config)
    before = (padded - length) // 2
    low, high = (start + before) // multiple * multiple, -(-(stop + before) // multiple) * multiple
    first, last = max(low - margin, 0), min(high + margin, padded)
    return Span(start, stop, first - before, last - first, (low - first, high - first), start + before - low)


def half_width(config: ModelConfig) -> int:
    """By how many pixels the convolutions of a block look beyond theirs, on each side."""
    return config.convolutions_per_block * (config.kernel_size // 2)


def reach(config: ModelConfig) -> list[int]:
    """How far beyond a tile the features of each level must be right on their way up, in pixels of that level.

    reach[0] = 0 at the output; what is right so far at a level takes half the pixels of the level below it, rounded
    up, once the level's own convolutions have had theirs: reach[l] = ceil((reach[l - 1] + half_width) / 2).
    """
    found = [0]
    for _ in range(config.depth - 1):
        found.append(-(-(found[-1] + half_width(config)) // 2))
    return found


def surroundings(config: ModelConfig) -> int:
    """Pixels around a tile that a "same" network has to see, on each side: 96 at depth 5.

    From the bottleneck down to the image a pixel of a level is two of the level above it, and each block looks
    `half_width` further; rounded up to a multiple of 2^(depth - 1).
    """
    multiple = 2 ** (config.depth - 1)
    needed = reach(config)[-1] + half_width(config)
    for _ in range(config.depth - 1):
        needed = 2 * needed + half_width(config)
    return -(-needed // multiple) * multiple


def smallest_tile_size(config: ModelConfig) -> int:
    """Side of the smallest window that is of use: a third of it is tile, below which nearly all work is surroundings.

    288 at depth 5, and no less than 64, which always fits.
    """
    margin = valid_margin(config) or 2 * surroundings(config)
    return max(margin * 3 // 2, 64)


def read_window(image: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """The window of an image [H, W, C], mirrored where it lies outside: [window_size, window_size', C].

    Of an image that is mapped from a file only the rows of the window are read.
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
        compute: takes a window [h, w, C] and the core int32 [2, 2], gives what becomes of the core; see `tile_logits`.

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

    In a "same" network each level computes on its way up only what the core depends on. That is most of the work, and
    so it is done for little more than the core and not for the whole window.

    Args:
        model: of any implementation.
        window: float32 [N, H, W, in_channels], sides that the network takes without padding.
        core: int32 [2, 2], (first, last + 1) row and column of the network's output; in a "same" network multiples of
            2^(depth - 1).

    Returns:
        float32 [N, last + 1 - first, ..., classes]
    """
    images = tf.cast(window, model.config.precision)
    if model.config.padding == "valid" or type(model) is not UNet:  # which Keras' layers are not: they come as a whole
        logits = model.forward(images, training=False, seed=None)
        return tf.cast(box(logits, core[:, 0], core[:, 1]), tf.float32)
    features, skips = model.encoder(images, training=False)
    features = model.bottleneck(features, training=False)
    beyond, ends = reach(model.config), tf.shape(window)[1:3]
    origin = tf.zeros([2], tf.int32)  # of the features, in pixels of their level

    def needed(features, level):
        """What the levels above depend on, and where it begins in pixels of the level."""
        scale = 2**level
        first = tf.maximum(core[:, 0] // scale - beyond[level], 0)
        last = tf.minimum(core[:, 1] // scale + beyond[level], ends // scale)
        return box(features, first - origin, last - origin), first, last

    decoder = model.decoder
    below = range(model.config.depth - 1, 0, -1)
    for level, up, block in zip(below, decoder.ups, decoder.levels, strict=True):
        features, first, last = needed(features, level)
        origin = 2 * first
        skip = box(skips[level - 1], origin, 2 * last)
        features = decoder.level(up, block, features, skip, training=False, seed=None)
    features, *_ = needed(features, 0)
    return tf.cast(model.output(features), tf.float32)


def box(features: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Rows and columns first ... last - 1 of [N, H, W, C]; both int32 [2]."""
    return features[:, first[0] : last[0], first[1] : last[1]]


class TiledNetwork:
    """The probabilities that a network gives for images of any size, whole where they are small enough."""

    def __init__(self, model: UNet, tile_size: int):
        """Compiles the network for whole images and for tiles; `tile_size` is that of the largest window, in pixels."""
        self.model, self.tile_size = model, tile_size
        images = tf.TensorSpec([None, None, None, model.config.in_channels], tf.float32)
        self.whole = tf.function(
            lambda images: probabilities(self.model.whole(images)), input_signature=[images], autograph=False
        )
        self.tile = tf.function(
            lambda window, core: probabilities(tile_logits(self.model, window, core)),
            input_signature=[images, tf.TensorSpec([2, 2], tf.int32)],
            autograph=False,
        )

    def fits(self, image: np.ndarray) -> bool:
        """Whether the image [H, W, C] is computed whole."""
        return all(len(spans(side, self.tile_size, self.model.config)) == 1 for side in image.shape[:2])

    def largest_tile(self, image: np.ndarray) -> int:
        """Pixels of what is computed at once of the image [H, W, C], without its surroundings."""
        axes = [spans(side, self.tile_size, self.model.config) for side in image.shape[:2]]
        return math.prod(max(span.stop - span.start for span in axis) for axis in axes)

    def tiles(self, image: np.ndarray, normalize: Normalization) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """The probabilities of an image [H, W, C] part by part: rows, columns, float32 [rows, columns, K].

        When memory runs out the image begins anew, in smaller tiles: what then comes replaces what came before.

        Raises:
            UserError: when memory runs out with the smallest tiles.
        """
        while True:
            try:
                check_available(prediction_bytes(self.model.config, self.largest_tile(image)))
                yield from self.parts(image, normalize)
                return
            except OUT_OF_MEMORY as error:
                side = min(self.tile_size, max(image.shape[:2]))
                if not self.lower_tile_size(side):
                    height, width = image.shape[:2]
                    raise UserError(
                        f"An image of {height} x {width} pixels ran out of memory even with --tile-size {side}: end "
                        "other programs, or use a machine with more memory."
                    ) from error

    def lower_tile_size(self, side: int) -> bool:
        """To the half of `side`, at which memory ran out, for this image and the next; False if that is of no use."""
        smaller = max(side // 2, smallest_tile_size(self.model.config))
        if smaller >= side:
            return False
        self.tile_size = smaller
        tqdm.write(
            f"note: memory ran out for {side} x {side} pixels at once: going on as with --tile-size {smaller}",
            file=sys.stderr,
        )
        return True

    def parts(self, image: np.ndarray, normalize: Normalization) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """As `tiles`, with the tile size as it is."""
        if self.fits(image):
            yield slice(None), slice(None), self.of_batch(normalize(image)[np.newaxis])[0]
            return

        yield from in_tiles(image, self.tile_size, self.model.config, functools.partial(self.of_window, normalize))

    def part(self, image: np.ndarray, normalize: Normalization, rows: slice, columns: slice) -> np.ndarray:
        """The probabilities of a part of an image [H, W, C], in one window: float32 [rows, columns, K].

        `image` may be anything with a shape that gives the pixels of a rectangle; `rows` and `columns` have both ends.
        """
        parts = zip((rows, columns), image.shape[:2], strict=True)
        around = [span_around(part.start, part.stop, length, self.model.config) for part, length in parts]
        return in_window(image, *around, functools.partial(self.of_window, normalize))

    def of_window(self, normalize: Normalization, window: np.ndarray, core: np.ndarray) -> np.ndarray:
        """Probabilities float32 [..., K] of the core of a window [h, w, C], see `tile_logits`."""
        return self.tile(tf.constant(normalize(window)[np.newaxis]), tf.constant(core))[0].numpy()

    def of_batch(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 [N, H, W, K] of whole images [N, H, W, C], normalized."""
        return self.whole(tf.constant(images)).numpy()
