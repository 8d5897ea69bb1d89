"""Sizes: of valid networks, of what a network sees, of tiles. Whole numbers only, no tensors.

A pixel of the output depends on those of the input within some distance, and on no others. A tile is therefore
computed in a window that is wider by that distance, and what comes out is what the whole image would have given.
"""

from dataclasses import dataclass

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.errors import UserError


def lost_by_block(config: ModelConfig) -> int:
    """Pixels that the convolutions of a block look beyond theirs, both sides together."""
    return config.convolutions_per_block * (config.kernel_size - 1)


def valid_margin(config: ModelConfig) -> int:
    """Pixels that a valid network takes from each axis: 184 for the paper (572 -> 388); 0 in same mode."""
    if config.padding == "same":
        return 0
    # Once at the bottleneck and twice, going down and going up, at every other level; a pixel of level
    # l is worth 2^(l - 1) pixels of the image.
    return lost_by_block(config) * (2 ** (config.depth - 1) + 2 * (2 ** (config.depth - 1) - 1))


def smallest_valid_size(config: ModelConfig, output_size=1):
    """The smallest legal input side of a valid network whose output has at least `output_size` pixels.

    `output_size` is a whole number from 1 up or an integer tensor; so is the result.
    """
    lost = lost_by_block(config)
    one_bottleneck_pixel = 1 + lost
    for _ in range(config.depth - 1):
        one_bottleneck_pixel = 2 * one_bottleneck_pixel + lost
    # Each further bottleneck pixel adds 2^(depth - 1) pixels to both input and output.
    missing = output_size + valid_margin(config) - one_bottleneck_pixel
    multiple = 2 ** (config.depth - 1)
    return one_bottleneck_pixel + -(-missing // multiple) * multiple


def check_valid_size(config: ModelConfig, side: int) -> None:
    """Raises a `UserError` that names legal sizes when `side` is none of a valid network."""
    smallest, multiple = smallest_valid_size(config), 2 ** (config.depth - 1)
    if side < smallest or (side - smallest) % multiple:
        above = smallest_valid_size(config, max(side - valid_margin(config), 1))
        raise UserError(
            f"An input side of {side} pixels does not fit a valid network of depth {config.depth}: use {above}, or "
            f"another of {smallest}, {smallest + multiple}, {smallest + 2 * multiple} and so on in steps of {multiple}."
        )


def receptive_field(path: list[tuple[str, int]]) -> int:
    """The side of the image's square behind one value at the end of a path of layers.

    Walking back from one value, a width w of values needs of the layer before:
    convolution of k: w + k - 1;  pooling of k: w k;  transposed convolution of stride k:
    ceil((w - 1) / k) + 1, because w neighbours can straddle that many squares.

    Args:
        path: (kind, k) of the layers from the image on.
    """
    width = 1
    for kind, k in reversed(path):
        width = {"convolution": width + k - 1, "pooling": width * k, "up": -(-(width - 1) // k) + 1}[kind]
    return width


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


def reach(config: ModelConfig) -> list[int]:
    """How far beyond a tile the features of each level must be right on their way up, in pixels of that level.

    reach[0] = 0 at the output; what is right so far at a level takes half the pixels of the level below it, rounded
    up, once the level's own convolutions have had theirs: reach[l] = ceil((reach[l - 1] + lost / 2) / 2).
    """
    found = [0]
    for _ in range(config.depth - 1):
        found.append(-(-(found[-1] + lost_by_block(config) // 2) // 2))
    return found


def surroundings(config: ModelConfig) -> int:
    """Pixels around a tile that a "same" network has to see, on each side: 96 at depth 5.

    From the bottleneck down to the image a pixel of a level is two of the level above it, and each block looks
    half of `lost_by_block` further; rounded up to a multiple of 2^(depth - 1).
    """
    multiple = 2 ** (config.depth - 1)
    needed = reach(config)[-1] + lost_by_block(config) // 2
    for _ in range(config.depth - 1):
        needed = 2 * needed + lost_by_block(config) // 2
    return -(-needed // multiple) * multiple


def smallest_tile_size(config: ModelConfig) -> int:
    """Side of the smallest window that is of use: a third of it is tile, below which nearly all work is surroundings.

    288 at depth 5, and no less than 64, which always fits.
    """
    margin = valid_margin(config) or 2 * surroundings(config)
    return max(margin * 3 // 2, 64)
