"""Sizes of valid networks, receptive fields and tiles. Integers only, no tensors.

An output pixel depends only on input pixels within some distance. A tile is computed in a window that is wider by that
distance, so the result is the same as for the whole image.
"""

from dataclasses import dataclass

from unet_lowlevel.config import Config, ModelConfig
from unet_lowlevel.errors import UserError

# Side of the largest crop that is chosen, in pixels of the working resolution: time and memory of a step grow with its
# square.
LARGEST_CROP = 256


def lost_by_block(config: ModelConfig) -> int:
    """Pixels that the convolutions of a block see beyond their output, both sides together."""
    return config.convolutions_per_block * (config.kernel_size - 1)


def valid_margin(config: ModelConfig) -> int:
    """Pixels that a valid network loses per axis; 0 in same mode.

    >>> 572 - valid_margin(Config.of(preset="paper").model)
    388
    """
    if config.padding == "same":
        return 0
    # One block at the bottleneck, two (down and up) at every other level; a pixel of level l covers 2^(l - 1) pixels.
    return lost_by_block(config) * (2 ** (config.depth - 1) + 2 * (2 ** (config.depth - 1) - 1))


def smallest_valid_size(config: ModelConfig, output_size=1):
    """The smallest legal input side of a valid network whose output has at least `output_size` pixels.

    `output_size`, 1 or more, is an int or an integer tensor; so is the result.
    """
    lost = lost_by_block(config)
    one_bottleneck_pixel = 1 + lost
    for _ in range(config.depth - 1):
        one_bottleneck_pixel = 2 * one_bottleneck_pixel + lost
    # Each further bottleneck pixel adds 2^(depth - 1) pixels to both input and output.
    missing = output_size + valid_margin(config) - one_bottleneck_pixel
    multiple = 2 ** (config.depth - 1)
    return one_bottleneck_pixel + -(-missing // multiple) * multiple


def legal_size(config: ModelConfig, side: int) -> int:
    """The smallest side that the network takes as it is, and whose output has at least `side` pixels."""
    multiple = 2 ** (config.depth - 1)
    return smallest_valid_size(config, side) if config.padding == "valid" else -(-side // multiple) * multiple


def check_valid_size(config: ModelConfig, side: int) -> None:
    """Raises a `UserError` that names legal sizes if a valid network cannot take `side`."""
    smallest, multiple = smallest_valid_size(config), 2 ** (config.depth - 1)
    if side < smallest or (side - smallest) % multiple:
        above = smallest_valid_size(config, max(side - valid_margin(config), 1))
        raise UserError(
            f"An input side of {side} pixels does not fit a valid network of depth {config.depth}: use {above}, or "
            f"another of {smallest}, {smallest + multiple}, {smallest + 2 * multiple} and so on in steps of {multiple}."
        )


def crops_in(size: tuple[int, int], config: Config) -> float:
    """How many crops of a training fit into an image of this height and width, by their area; at least 1.

    Args:
        size: of the image as the network sees it.
        config: with a resolved crop size.
    """
    return max(size[0] * size[1] / learned_side(config) ** 2, 1.0)


def learned_side(config: Config) -> int:
    """Side in pixels of what the network puts out of a training crop; 1 where that is nothing."""
    return max(config.training.crop_size - valid_margin(config.model), 1)


def range_of_starts(size, crop, margin: int):
    """The first and the last pixel at which a window may begin, along each axis; none if the last is before the first.

    The window may extend beyond the image by half of `margin`, the pixels that a valid network loses per axis, on each
    side, so that the network's output reaches the image's border.

    Args:
        size, crop: height and width of image and window: an integer array or tensor, and what can be subtracted.
        margin: in pixels.
    """
    half = margin // 2
    return -half, size + (margin - half) - crop


def receptive_field(path: list[tuple[str, int]]) -> int:
    """Side in pixels of the image square that one value at the end of a path of layers depends on.

    A width of w values at the output of a layer depends on this width at its input:
    convolution of k: w + k - 1;  pooling of k: w k;  transposed convolution of stride k:
    ceil((w - 1) / k) + 1, because w neighbours can straddle that many squares.

    Args:
        path: (kind, k) of each layer, from the image on; kind is "convolution", "pooling" or "up".

    >>> receptive_field([("convolution", 3), ("convolution", 3)])
    5
    >>> receptive_field([("convolution", 3), ("pooling", 2), ("convolution", 3)])
    8
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
        window: first pixel of the window; outside the image, the window is filled by mirroring.
        window_size: side of the window, legal for the network.
        core: (first, last + 1) of the part of the network's output to compute: the tile, rounded outwards.
        inside: first pixel of the tile, counted from the start of the core.
    """

    start: int
    stop: int
    window: int
    window_size: int
    core: tuple[int, int]
    inside: int


def spans(length: int, size: int, config: ModelConfig) -> list[Span]:
    """The tiles that cover an axis of `length` pixels, in windows of at most about `size` pixels.

    >>> [(tile.start, tile.stop, tile.window, tile.window_size) for tile in spans(1000, 512, ModelConfig())]
    [(0, 364, -4, 464), (364, 636, 268, 464), (636, 1000, 540, 464)]
    """
    return (spans_of_valid if config.padding == "valid" else spans_of_same)(length, size, config)


def spans_of_valid(length: int, size: int, config: ModelConfig) -> list[Span]:
    """The overlap-tile strategy. Tiles begin at multiples of 2^(depth - 1), to be pooled as in the whole image.

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
    """The image is mirrored up to a multiple of 2^(depth - 1), as in `UNet`; windows and tiles begin at such multiples.

    Windows end at the border of the mirrored image: there the network pads with zeros, with or without tiles.
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
    """How far beyond a tile the features of each level must be correct on the way up, in pixels of that level.

    reach[0] = 0 at the output. The block of a level needs lost / 2 pixels more, and a pixel of the next deeper level
    covers two of them: reach[l] = ceil((reach[l - 1] + lost / 2) / 2).
    """
    found = [0]
    for _ in range(config.depth - 1):
        found.append(-(-(found[-1] + lost_by_block(config) // 2) // 2))
    return found


def surroundings(config: ModelConfig) -> int:
    """Pixels around a tile that a "same" network must see, on each side: 96 at depth 5.

    From the bottleneck to the image each level doubles the distance, and its block adds half of `lost_by_block`. The
    sum is rounded up to a multiple of 2^(depth - 1).
    """
    multiple = 2 ** (config.depth - 1)
    needed = reach(config)[-1] + lost_by_block(config) // 2
    for _ in range(config.depth - 1):
        needed = 2 * needed + lost_by_block(config) // 2
    return -(-needed // multiple) * multiple


def smallest_tile_size(config: ModelConfig) -> int:
    """Side of the smallest useful window: a third of it is tile; in smaller ones nearly all work is surroundings.

    288 at depth 5 in same mode; at least 64, which always fits into memory.
    """
    margin = valid_margin(config) or 2 * surroundings(config)
    return max(margin * 3 // 2, 64)
