"""The U of a network with its real shapes, as SVG."""

import argparse
import itertools
import math
import re
from pathlib import Path
from typing import NamedTuple

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.config import PRESETS, ModelConfig
from unet_lowlevel.settings import resolve
from unet_lowlevel.summary import shape_text, summarize
from unet_lowlevel.terminal import say, show_path

WIDTH, MARGIN, ROW, HALF, GAP, INDENT = 880, 26, 36, 12, 26, 40  # pixels; HALF a bar's height, GAP between levels
# {what makes a feature map: (colour of its arrow and frame, fill of its bar)}; a concatenation has two halves
COLORS = {"images": ("#1f2328", "#f6f8fa"), "conv": ("#0969da", "#ddf4ff"), "pool": ("#cf222e", "#ffebe9")}
COLORS |= {"concat": ("#59636e", "url(#halves)"), "up": ("#1a7f37", "#dafbe1"), "output": ("#8250df", "#fbefff")}
HALVES = "".join(f'<stop offset="0.5" stop-color="{COLORS[kind][1]}"/>' for kind in ("conv", "up"))
HEAD = 'markerWidth="6" markerHeight="6" refX="5.5" refY="2.75" orient="auto"><path d="M0,0 L5.5,2.75 L0,5.5 Z"'
STYLE = 'font-family="Helvetica, Arial, sans-serif" font-size="13" stroke-width="1.5" style="border-radius: 8px"'
LAYER = re.compile(r"(?:(encoder|decoder|bottleneck)/)?(?:level_(\d)/)?(images|conv|pool|concat|output)")


class Map(NamedTuple):
    """A feature map: what makes it, its shape, the middle of its bar, and half the bar's width."""

    kind: str
    shape: tuple[int, int, int]
    x: float
    y: float
    half: float


def levels_of(config: ModelConfig, size: int) -> list[tuple[list[Map], list[Map]]]:
    """The feature maps of each level in the order of computation: (down on the left, up on the right)."""
    levels: list[tuple[list[Map], list[Map]]] = [([], []) for _ in range(config.depth)]
    layers = [("images", (size, size, config.in_channels))]
    layers += [(layer.name, layer.shape) for layer in summarize(config, size, size)]
    rows, half = config.convolutions_per_block + 1, lambda side: 62 + 15 * max(math.log2(side) - 4, 0)
    for name, shape in layers:
        if found := LAYER.match(name):  # batch normalization and up-convolution have no bar of their own
            part, level, kind = found.groups()
            i = (config.depth if part == "bottleneck" else int(level or 1)) - (kind != "pool")
            up = part == "decoder" or kind == "output"
            row = rows - 1 - len(levels[i][1]) if up else len(levels[i][0])
            x = WIDTH / 2 if i == config.depth - 1 else MARGIN + half(size) + i * INDENT
            y = MARGIN + 1.5 * ROW + i * (ROW * rows + GAP) + row * ROW
            levels[i][up].append(Map(kind, shape, WIDTH - x if up else x, y, half(shape[0])))
    return levels


def text(x: float, y: float, words: str, kind: str = "images", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" dy="0.36em" fill="{COLORS[kind][0]}" text-anchor="{anchor}">{words}</text>'


def arrow(kind: str, *points: tuple[float, float]) -> str:
    line = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{line}" fill="none" stroke="{COLORS[kind][0]}" marker-end="url(#{kind})"/>'


def links(upper: tuple[list[Map], list[Map]], lower: tuple[list[Map], list[Map]], copy: str) -> list[str]:
    """The arrows between two levels: the copy in the middle, pooling on the left, up-convolution on the right."""
    skip, joined, first, last = upper[0][-1], upper[1][0], lower[0][0], (lower[1] or lower[0])[-1]
    left, right, y = skip.x + 28, joined.x + 28, skip.y + HALF
    down, up = [(left, y), (left, first.y - HALF)], [(right, last.y - HALF), (right, y)]
    if not lower[1]:  # around a corner: the bottleneck lies in the middle
        down[1:] = [(left, first.y), (first.x - first.half, first.y)]
        up[:1] = [(last.x + last.half, last.y), (right, last.y)]
    labels = [text(left + 9, y + 19, "max pool 2x2", "pool", "start"), text(WIDTH / 2, skip.y - 11, copy, "concat")]
    labels.append(text(right - 9, y + 19, "up-convolution 2x2", "up", "end"))
    copied = (skip.x + skip.half, skip.y), (joined.x - joined.half, joined.y)
    return [*labels, arrow("concat", *copied), arrow("pool", *down), arrow("up", *up)]


def draw(config: ModelConfig, size: int, preset: str) -> str:
    """The network for images of size x size pixels, as the text of an SVG file."""
    levels, copy, k = levels_of(config, size), "copy" + " and crop" * (config.padding == "valid"), config.kernel_size
    foot, parameters = levels[-1][0][-1].y, sum(layer.parameters for layer in summarize(config, size, size))
    parts = [f'<linearGradient id="halves">{HALVES}</linearGradient><rect width="100%" height="100%" fill="#fff"/>']
    parts.append(text(WIDTH / 2, MARGIN + 18, f"preset {preset}: {parameters:,} parameters"))
    parts += [f'<marker id="{kind}" {HEAD} fill="{color}"/></marker>' for kind, (color, _) in COLORS.items()]
    for upper, lower in itertools.pairwise(levels):
        parts += links(upper, lower, copy)
    for side, way in ((side, HALF * way) for level in levels for side, way in zip(level, (1, -1), strict=True)):
        for kind, shape, x, y, half in side:
            place = f'x="{x - half:g}" y="{y - HALF:g}" width="{2 * half:g}" height="{2 * HALF}" rx="3"'
            parts.append(f'<rect {place} fill="{COLORS[kind][1]}" stroke="{COLORS[kind][0]}"/>')
            parts.append(text(x, y, shape_text(shape)))
        for a, b in itertools.pairwise(side):
            parts.append(arrow("output" if b.kind == "output" else "conv", (a.x, a.y + way), (b.x, b.y - way)))
    activation = config.activation.upper().replace("RELU", "ReLU")
    block = f"convolution {k}x{k}, {'batch normalization, ' * config.batch_normalization}{activation}"
    for kind, x, words in (("conv", MARGIN, block), ("output", 700, "convolution 1x1")):
        parts += [arrow(kind, (x, foot), (x + 26, foot)), text(x + 34, foot, words, kind, "start")]
    frame = f'viewBox="0 0 {WIDTH} {foot + ROW + 8:g}" width="{WIDTH}" height="{foot + ROW + 8:g}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {frame} {STYLE}>', *parts, "</svg>\n"])


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Draws the U of a preset with its real shapes, as SVG.", "draw")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="SVG file to write")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="default", help="settings of the network")
    parser.add_argument("--size", metavar="N", type=int, help="side of the images (default: the preset's crop, or 256)")
    return run_command(draw_as_asked, parser, argv)


def draw_as_asked(arguments: argparse.Namespace) -> None:
    config = resolve(arguments.preset, None, {"in_channels": 1})
    drawn = draw(config.model, arguments.size or config.training.crop_size or 256, arguments.preset)
    arguments.output.write_text(drawn, encoding="utf-8")
    say(f"wrote {show_path(arguments.output)}")
