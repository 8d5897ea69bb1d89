"""Line charts as SVG, on a card of its own that is light or dark as the reader's system is."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 76, 24, 84, 64  # pixels; the last four around the plot
LEGEND_ROW, LETTER = 22, 7.4  # height of a line of the legend, width of a letter of it
# {in light, in dark}: told apart also by those who do not see all colours (Okabe & Ito 2008), as are the dashes.
COLORS = [("#0072b2", "#56b4e9"), ("#d55e00", "#ff9e4a"), ("#007a5a", "#3fd6a5"), ("#8f3f73", "#e79ccb")]
DASHES = ("none", "8 4", "2 4", "10 3 2 3")
MARKS = 16  # a line of at most so many points has a dot at each

# The values y that the seeds have at each x.
Line = Mapping[float, Sequence[float]]


class Axis(NamedTuple):
    """Values from `low` to `high` become pixels from `start` to `stop`; `step` lies between ticks, 0: logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    step: float = 0.0

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if not self.step:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Multiples of the step; on a logarithmic axis the powers of ten or, if they are few, also 2 and 5 times."""
        if self.step:
            first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
            return [i * self.step for i in range(first, last + 1)]
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1,) if math.log10(self.high / self.low) > 3 else (1, 2, 5)
        ticks = [k * 10.0**exponent for exponent in exponents for k in factors]
        return [tick for tick in ticks if self.low * (1 - 1e-6) <= tick <= self.high * (1 + 1e-6)]


def axis(
    values: Sequence[float], start: float, stop: float, *, logarithmic: bool = False, rounded: bool = False
) -> Axis:
    """The axis that holds all values; `rounded`: from a tick to a tick. Four to ten ticks are 1, 2 or 5 times 10^n."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = max(k * power for k in (1, 2, 5) if (high - low) / (k * power) >= 4 - 1e-9)
    if rounded:
        low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    return Axis(low, high, start, stop, 0.0 if logarithmic else step)


def style() -> str:
    """Colours of the card, of its text and of the lines, for light and for dark."""
    modes = []
    for dark, (card, ink, rule) in enumerate((("#ffffff", "#1f2328", "#d1d9e0"), ("#161b22", "#e6edf3", "#3d444d"))):
        rules = [f".card{{fill:{card}}}", f"text{{fill:{ink}}}", f".rule{{stroke:{rule}}}"]
        rules += [f".l{i}{{stroke:{color[dark]}}}.f{i}{{fill:{color[dark]}}}" for i, color in enumerate(COLORS)]
        modes.append("".join(rules))
    return f"<style>{modes[0]}@media(prefers-color-scheme:dark){{{modes[1]}}}</style>"


def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def number(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def drawn(i: int, line: Line, x: Axis, y: Axis) -> list[str]:
    """Line i: the mean of the seeds, over a band from the least to the most of them."""
    places = sorted(line)
    means = [(x.place(place), y.place(sum(line[place]) / len(line[place]))) for place in places]
    band = [(x.place(place), y.place(max(line[place]))) for place in places]
    band += [(x.place(place), y.place(min(line[place]))) for place in reversed(places)]
    points, around = (" ".join(f"{a:.1f},{b:.1f}" for a, b in way) for way in (means, band))
    parts = [f'<polygon points="{around}" class="f{i}" opacity="0.16"/>']
    parts.append(f'<polyline points="{points}" class="l{i}" fill="none" stroke-dasharray="{DASHES[i]}"/>')
    dots = means if len(means) <= MARKS else []
    return parts + [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" class="f{i}"/>' for a, b in dots]


def legend(names: Sequence[str]) -> tuple[list[str], int]:
    """A sample of each line with its name, in rows; and how many rows."""
    parts, x, row = [], float(LEFT), 0
    for i, name in enumerate(names):
        width = 44 + LETTER * len(name) + 18
        if x > LEFT and x + width > WIDTH:
            x, row = float(LEFT), row + 1
        y = 56 + row * LEGEND_ROW
        parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x + 36:.1f}" y2="{y}" class="l{i}"')
        parts[-1] += f' stroke-dasharray="{DASHES[i]}"/>'
        parts.append(text(x + 44, y + 5, name, "start"))
        x += width
    return parts, row + 1


def line_chart(title: str, x_label: str, y_label: str, lines: Mapping[str, Line], logarithmic: bool = False) -> str:
    """Draws up to four lines.

    Args:
        title: above the chart.
        x_label, y_label: what the axes are, with units.
        lines: {name: line}, in the order of the legend.
        logarithmic: the x axis is.

    Returns:
        the text of an SVG file.
    """
    samples, rows = legend(list(lines))
    top = TOP + (rows - 1) * LEGEND_ROW
    bottom = top + HEIGHT - TOP - BOTTOM
    x = axis([place for line in lines.values() for place in line], LEFT, WIDTH - RIGHT, logarithmic=logarithmic)
    y = axis(
        [value for line in lines.values() for seeds in line.values() for value in seeds], bottom, top, rounded=True
    )
    parts = [style(), '<rect width="100%" height="100%" rx="8" class="card"/>']
    parts += [text(LEFT, 30, title, "start", ' font-size="16" font-weight="bold"')]
    for tick in y.ticks():
        parts.append(f'<path d="M{LEFT} {y.place(tick):.1f}H{WIDTH - RIGHT}" class="rule"/>')
        parts.append(text(LEFT - 8, y.place(tick) + 5, number(tick), "end"))
    for tick in x.ticks():
        parts.append(f'<path d="M{x.place(tick):.1f} {bottom}v6" class="rule"/>')
        parts.append(text(x.place(tick), bottom + 22, number(tick)))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 48, x_label))
    middle = (top + bottom) / 2
    parts.append(text(20, middle, y_label, more=f' transform="rotate(-90 20 {middle:.1f})"'))
    parts += ['<g stroke-width="2.4">', *samples]
    for i, line in enumerate(lines.values()):
        parts += drawn(i, line, x, y)
    parts.append("</g>")
    height = bottom + BOTTOM
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join([f'{head} font-family="Helvetica, Arial, sans-serif" font-size="14">', *parts, "</svg>\n"])
