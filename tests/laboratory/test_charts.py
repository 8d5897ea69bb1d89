"""Charts: where things are drawn, and that they can be told apart in every light."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from unet_lowlevel.laboratory.charts import BOTTOM, COLORS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axis, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(lines, logarithmic=False, x_label="x", title="Why?"):
    return ElementTree.fromstring(line_chart(title, x_label, "y, %", lines, logarithmic))


def points(element) -> list[list[float]]:
    return [[float(number) for number in pair.split(",")] for pair in element.get("points").split()]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((0.813, 0.957), [0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96]),
        ((3, 288), [0, 50, 100, 150, 200, 250, 300]),
        ((-1.0, 1.0), [-1, -0.5, 0, 0.5, 1]),
        ((7, 7), [6.5 + i / 5 for i in range(-1, 6)]),
    ],
)
def test_ticks_are_round(values, ticks):
    made = axis(values, 0, 100, rounded=True)
    assert made.ticks() == pytest.approx(ticks, abs=0.11 if values[0] == values[1] else 1e-9)
    assert made.low <= min(values) and made.high >= max(values)


def test_places_on_an_axis():
    made = axis((0, 10), 100, 0)  # upside down, as the y axis of a picture
    assert [made.place(value) for value in (0, 2.5, 10)] == [100, 75, 0]
    made = axis((0.001, 10), 0, 100, logarithmic=True)
    assert [made.place(value) for value in (0.001, 0.1, 10)] == pytest.approx([0, 50, 100])
    assert made.ticks() == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert axis((5, 204), 0, 1, logarithmic=True).ticks() == pytest.approx([5, 10, 20, 50, 100, 200])


def test_a_line_is_the_mean_of_the_seeds_over_a_band_from_least_to_most():
    picture = drawn({"a": {0: [0, 1], 1: [2, 4], 2: [3, 3]}})
    top, bottom = TOP, HEIGHT - BOTTOM
    height = {value: bottom - (bottom - top) * value / 4 for value in (0, 0.5, 1, 2, 3, 4)}
    middle = (LEFT + WIDTH - RIGHT) / 2
    line = points(picture.find(f".//{SVG}polyline"))
    assert line == [[LEFT, height[0.5]], [middle, height[3]], [WIDTH - RIGHT, height[3]]]
    band = points(picture.find(f".//{SVG}polygon"))
    assert band[:3] == [[LEFT, height[1]], [middle, height[4]], [WIDTH - RIGHT, height[3]]]
    assert band[3:] == [[WIDTH - RIGHT, height[3]], [middle, height[2]], [LEFT, height[0]]]
    assert len(picture.findall(f".//{SVG}circle")) == 3


def test_the_words_of_a_chart():
    picture = drawn({"a < b & c": {1: [1]}, "other": {2: [3]}}, x_label="distance, pixels")
    words = [element.text for element in picture.iter(f"{SVG}text")]
    for expected in ("Why?", "distance, pixels", "y, %", "a < b & c", "other"):
        assert expected in words
    names = [element for element in picture.iter(f"{SVG}text") if element.text in ("a < b & c", "other")]
    assert float(names[0].get("x")) + 60 < float(names[1].get("x"))


def test_a_long_legend_has_further_rows_and_the_picture_grows():
    one, many = (drawn({f"{i} {'long name' * n}": {1: [1]} for i in range(4)}) for n in (1, 5))
    rows = {float(line.get("y1")) for line in many.iter(f"{SVG}line")}
    assert len(rows) > 1 and int(many.get("height")) > int(one.get("height"))
    assert all(float(line.get("x2")) < WIDTH for line in many.iter(f"{SVG}line"))


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_all_is_readable_in_light_and_dark():
    """The contrast of WCAG 2.1: 4.5 for text, 3 for lines; each mode sets every colour that the other sets."""
    light, dark = line_chart("", "", "", {"a": {1: [1]}}).split("@media(prefers-color-scheme:dark)")
    light, dark = (re.findall(r"([.\w]+)\{\w+:(#\w{6})\}", mode) for mode in (light, dark))
    assert [name for name, _ in light] == [name for name, _ in dark] and len(light) == 3 + 2 * len(COLORS)
    for mode in (dict(light), dict(dark)):
        card = luminance(mode.pop(".card"))
        mode.pop(".rule")
        for name, color in mode.items():
            bright, dim = sorted((card, luminance(color)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) > (4.5 if name == "text" else 3), name
