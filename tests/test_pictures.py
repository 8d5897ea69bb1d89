"""Pictures: their shapes, and colours at pixels that one can name."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from unet_lowlevel import pictures

BLACK, WHITE = [0, 0, 0], [255, 255, 255]
FIRST = list(pictures.CLASS_COLOURS[0])
LABELS = np.zeros((6, 8), np.int32)
LABELS[1:5, 2:6] = 1  # the inner pixels are [2:4, 3:5]
RAMP = np.linspace(-3, 5, 48).reshape(6, 8, 1)


def assert_picture(picture, height, width):
    assert picture.dtype == np.uint8 and picture.shape == (height, width, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_to_rgb_of_any_channels_and_type(channels, dtype):
    image = np.random.default_rng(0).uniform(0, 200, (6, 8, channels)).astype(dtype)
    before = image.copy()
    picture = pictures.to_rgb(image)
    assert_picture(picture, 6, 8)
    np.testing.assert_array_equal(image, before)
    shown = image[..., : 3 if channels >= 3 else 1].astype(np.float64)
    low, high = np.percentile(shown, [0.5, 99.5])
    expected = 255 * np.clip((shown - low) / (high - low), 0, 1)
    assert np.abs(picture - expected).max() <= 0.5 + 1e-6


def test_to_rgb_stretches_to_black_and_white():
    picture = pictures.to_rgb(RAMP)
    assert list(picture[0, 0]) == BLACK and list(picture[-1, -1]) == WHITE
    assert (np.diff(picture[..., 0].ravel().astype(int)) >= 0).all()
    # Shift and contrast of the image do not matter, nor does one hot pixel.
    np.testing.assert_array_equal(picture, pictures.to_rgb(100 * RAMP + 7))
    image = np.random.default_rng(0).uniform(0, 1, (40, 40, 1))
    image[3, 3] = 1000
    assert pictures.to_rgb(image)[20].max() > 200


@pytest.mark.parametrize("value", [0, -3.5, 1e6])
def test_constant_images(value):
    image = np.full((6, 8, 1), value)
    np.testing.assert_array_equal(pictures.to_rgb(image), 0)
    shown = pictures.comparison(image, LABELS, LABELS / 1.0, LABELS, 1)
    height, width = pictures.fitting((6, 8), pictures.SMALLEST_PANEL)
    assert_picture(shown, 2 * (height + 20), 2 * width + 8)


@pytest.mark.parametrize("channels", [2, 4])
def test_hidden_channels_do_not_darken_the_others(channels):
    """Such as the opacity of a PNG, 255 everywhere."""
    shown = np.repeat(RAMP, channels - 1, axis=-1)
    image = np.concatenate([shown, np.full_like(RAMP, 1000)], axis=-1)
    np.testing.assert_array_equal(pictures.to_rgb(image), pictures.to_rgb(shown))


def test_colours_of_labels():
    one = pictures.colour_labels(LABELS, 1)
    assert_picture(one, 6, 8)
    assert list(one[0, 0]) == BLACK and list(one[2, 3]) == WHITE
    many = np.arange(9).reshape(3, 3)
    picture = pictures.colour_labels(many, 9)
    assert list(picture[0, 0]) == BLACK
    for label in range(1, 9):
        assert list(picture[label // 3, label % 3]) == list(pictures.CLASS_COLOURS[(label - 1) % 7])
    np.testing.assert_array_equal(pictures.colour_labels(LABELS, 2), one)
    # With several classes an image of only the first is like the others.
    assert list(pictures.colour_labels(LABELS, 3)[2, 3]) == FIRST


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_label_types_do_not_matter(dtype):
    """0 - 1 is 255 in uint8."""
    labels = (LABELS * 2).astype(dtype)
    np.testing.assert_array_equal(pictures.colour_labels(labels, 3), pictures.colour_labels(LABELS * 2, 3))
    np.testing.assert_array_equal(pictures.overlay(RAMP, labels), pictures.overlay(RAMP, LABELS * 2))


def test_overlay_tints_the_inside_and_outlines_all_sides():
    picture, plain = pictures.overlay(RAMP, LABELS), pictures.to_rgb(RAMP)
    assert_picture(picture, 6, 8)
    inside = np.zeros_like(LABELS, bool)
    inside[2:4, 3:5] = True
    outline = (LABELS > 0) & ~inside
    np.testing.assert_array_equal(picture[LABELS == 0], plain[LABELS == 0])
    assert (picture[outline] == FIRST).all()
    expected = (0.7 * plain[inside] + 0.3 * np.array(FIRST)).astype(np.uint8)
    np.testing.assert_array_equal(picture[inside], expected)


def test_overlay_separates_classes():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 3)
    picture = pictures.overlay(np.zeros((3, 6, 1)), labels)
    assert list(picture[1, 2]) == FIRST and list(picture[1, 3]) == list(pictures.CLASS_COLOURS[1])
    # The edge of the image is no outline.
    assert list(picture[0, 0]) == [int(0.3 * value) for value in FIRST]


def test_objects_are_outlined_and_classes_tinted():
    """Two objects of class 1 side by side, and a piece of class 2 that is no object."""
    labels = np.zeros((9, 19), int)
    labels[1:8, 1:15], labels[1:8, 16:19] = 1, 2
    numbers = np.zeros((9, 19), np.uint16)
    numbers[1:8, 1:8], numbers[1:8, 8:15] = 1, 2
    picture = pictures.overlay(np.zeros((9, 19, 1)), labels, numbers)
    outlines = {tuple(picture[1, 1]), tuple(picture[1, 8])}
    assert len(outlines) == 2 and outlines <= set(map(tuple, pictures.CLASS_COLOURS[2:]))
    tints = [(0.3 * colour).astype(np.uint8).tolist() for colour in pictures.CLASS_COLOURS]
    for row, column in np.ndindex(9, 19):
        around = numbers[max(row - 2, 0) : row + 3, column], numbers[row, max(column - 2, 0) : column + 3]
        if numbers[row, column] and (np.concatenate(around) != numbers[row, column]).any():
            assert tuple(picture[row, column]) == tuple(picture[1, 1 if numbers[row, column] == 1 else 8])
        else:
            assert list(picture[row, column]) == ([BLACK, *tints][labels[row, column]])


def test_outlines_of_objects_of_many_classes():
    """With fewer than four colours left, all are taken again."""
    labels = np.tile(np.arange(1, 5), (2, 3))
    picture = pictures.overlay(np.zeros((2, 12, 1)), labels, np.tile(np.arange(1, 13), (2, 1)))
    assert {tuple(pixel) for pixel in picture[0]} == set(map(tuple, pictures.CLASS_COLOURS[:2]))


def test_neighbours_have_different_colours():
    """Of objects that touch or lie side by side; and few colours are needed."""
    rng = np.random.default_rng(0)
    places = rng.permutation(60 * 60)[:150]
    distances = [np.hypot(*(np.indices((60, 60)) - np.reshape(np.divmod(place, 60), (2, 1, 1)))) for place in places]
    nearest = np.argmin(distances, 0) + 1
    colours = pictures.different_at_neighbours(np.where(np.min(distances, 0) < 2, nearest, 0), 7)
    assert colours.shape == (151,) and set(colours[1:]) <= set(range(6))
    apart = pictures.different_at_neighbours(nearest, 7)  # without gaps
    for row, column in np.ndindex(59, 59):
        for other in (nearest[row + 1, column], nearest[row, column + 1]):
            if other != nearest[row, column]:
                assert apart[other] != apart[nearest[row, column]]
    assert pictures.different_at_neighbours(np.zeros((3, 4), np.uint16), 7).tolist() == [0]
    in_a_row = np.array([[1, 0, 0, 0, 2, 2, 0, 3]], np.uint16)
    assert pictures.different_at_neighbours(in_a_row, 7).tolist() == [0, 0, 1, 0]


def test_colours_of_errors():
    truth = np.array([[0, 1, 1, 0, 1, 2]])
    guess = np.array([[0, 1, 0, 1, 2, 2]])
    picture = pictures.errors(np.linspace(0, 1, 6).reshape(1, 6, 1), truth, guess)
    assert_picture(picture, 1, 6)
    darkened = (0.6 * pictures.to_rgb(np.linspace(0, 1, 6).reshape(1, 6, 1))).astype(np.uint8)
    for column in (0, 1, 5):
        assert list(picture[0, column]) == list(darkened[0, column])
    assert list(picture[0, 2]) == list(pictures.MISSED)
    assert list(picture[0, 3]) == list(pictures.INVENTED)
    assert list(picture[0, 4]) == list(pictures.CONFUSED)


def panels_of(picture, size, side):
    """The four panels of a comparison of an image of this size, reduced to that size again."""
    height, width = pictures.fitting(size, side)
    corners = [(top + 20, left) for top in (0, height + 20) for left in (0, width + 8)]
    rows, columns = ((np.arange(n) + 0.5) * drawn / n for n, drawn in zip(size, (height, width), strict=True))
    grid = np.ix_(rows.astype(int), columns.astype(int))
    return [picture[top : top + height, left : left + width][grid] for top, left in corners]


def test_comparison_is_four_panels():
    guess, sure = np.roll(LABELS, 1, axis=1), np.linspace(0, 1, LABELS.size).reshape(LABELS.shape)
    picture = pictures.comparison(RAMP, LABELS, sure, guess, 1)
    expected = [
        pictures.to_rgb(RAMP),
        pictures.colour_labels(LABELS, 1),
        (255 * sure[..., np.newaxis] * np.ones(3)).astype(np.uint8),
        pictures.errors(RAMP, LABELS, guess),
    ]
    for panel, wanted in zip(panels_of(picture, RAMP.shape[:2], pictures.SMALLEST_PANEL), expected, strict=True):
        np.testing.assert_array_equal(panel, wanted)
    assert (picture[:20] == 255).mean() > 0.7 and (picture[:20] == 0).any()  # headings


def test_comparison_of_several_classes_shows_the_class_as_bright_as_it_is_sure():
    labels, sure = np.array([[0, 1], [2, 2]]), np.array([[0.9, 0.5], [0.25, 1.0]])
    picture = pictures.comparison(np.zeros((2, 2, 1)), labels, sure, labels, 3)
    shown = panels_of(picture, (2, 2), pictures.SMALLEST_PANEL)[2]
    np.testing.assert_array_equal(shown, (pictures.colour_labels(labels, 3) * sure[..., np.newaxis]).astype(np.uint8))


def test_comparison_outlines_objects_where_there_are_any():
    labels = np.zeros((9, 19), int)
    labels[1:8, 1:8], labels[1:8, 9:15] = 1, 1
    numbers = labels * (1 + (np.arange(19) > 8))
    picture = pictures.comparison(np.zeros((9, 19, 1)), labels, labels / 1.0, labels, 1, (numbers, numbers))
    for panel in panels_of(picture, (9, 19), pictures.SMALLEST_PANEL)[1:3]:
        np.testing.assert_array_equal(panel, pictures.overlay(np.zeros((9, 19, 1)), labels, numbers))


def test_comparison_of_a_large_image_is_not_larger_than_a_screen():
    image = np.zeros((2000, 1000, 1))
    picture = pictures.comparison(image, np.zeros((2000, 1000), int), image[..., 0], np.ones((2000, 1000), int), 1)
    assert_picture(picture, 2 * (pictures.LARGEST_PANEL + 20), pictures.LARGEST_PANEL + 8)


def test_objects_are_outlined_in_truth_and_prediction():
    guess, numbers = np.roll(LABELS, 1, axis=1), 5 * np.roll(LABELS, 1, axis=0)
    found = pictures.panels(RAMP, LABELS, guess, 1, LABELS, numbers)
    np.testing.assert_array_equal(found[1], pictures.overlay(RAMP, LABELS, LABELS))
    np.testing.assert_array_equal(found[2], pictures.overlay(RAMP, guess, numbers))
    for number in (0, 3):
        np.testing.assert_array_equal(found[number], pictures.panels(RAMP, LABELS, guess, 1)[number])


@pytest.mark.parametrize(
    ("size", "fits"), [((256, 320), (256, 320)), ((32, 16), (320, 160)), ((3, 4000), (1, 320)), ((1, 1), (320, 320))]
)
def test_fitting_keeps_proportions(size, fits):
    assert pictures.fitting(size, 320) == pictures.fitting(fits, 320) == fits


@pytest.fixture
def written(monkeypatch):
    """{place: words} of what is written on a sheet."""
    found, text = {}, ImageDraw.ImageDraw.text

    def noted(draw, place, words, **options):
        found[place] = words
        text(draw, place, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    return found


def test_rows_of_a_sheet_are_as_high_as_their_pictures(written):
    """Each 3 * 4 + 14 pixels more; a flat and a high picture, then one that is so large that its height is a pixel."""
    flat, high, line = (
        np.full((*size, 3), gray, np.uint8) for gray, size in enumerate([(10, 40), (40, 20), (2, 1000)])
    )
    tiles = [(flat, "flat", None), (high, "tall", (9, 8, 7)), (line, "line", None)]
    sheet = pictures.contact_sheet(tiles, 20, columns=2)
    assert_picture(sheet, 20 + 26 + 1 + 26, 2 * 32)
    assert (sheet[4:9, 4:24] == 0).all() and (sheet[9:28, 4:24] == 255).all()
    assert (sheet[4:24, 36:46] == 1).all() and (sheet[:28, 46:50] == (9, 8, 7)).all() and (sheet[:28, 50:] == 255).all()
    assert (sheet[50, 4:24] == 2).all() and (sheet[46:50] == 255).all()
    assert written == {(4, 28): "flat", (36, 28): "tall", (4, 55): "line"}
    for left, top in written:
        assert (sheet[top : top + 14, left : left + 20] < 128).any()
    written.clear()
    assert_picture(pictures.contact_sheet(tiles[:2], 20, columns=2, reasons=["why", ""]), 20 + 26 + 14, 2 * 32)
    assert {place: words for place, words in written.items() if words} == {
        (4, 28): "flat",
        (4, 42): "why",
        (36, 28): "tall",
    }


def test_headings_and_legends_are_above_their_columns(written):
    tile = (np.zeros((20, 20, 3), np.uint8), "", None)
    heads = [("one", []), ("two", [(None, "word"), (np.array([9, 200, 30], np.uint8), "g")])]
    sheet = pictures.contact_sheet([tile] * 4, 60, columns=2, headings=heads)
    below = pictures.contact_sheet([tile] * 4, 60, columns=2)
    assert_picture(sheet, 3 * 14 + 2 * 86, 2 * 72)
    np.testing.assert_array_equal(sheet[42:], below)
    swatch = sheet[30:40, 76:86]
    assert (
        (swatch[1:-1, 1:-1] == (9, 200, 30)).all() and (swatch[[0, -1]] == 0).all() and (swatch[:, [0, -1]] == 0).all()
    )
    headings = {place: words for place, words in written.items() if words}
    assert headings == {(4, 0): "one", (76, 0): "two", (76, 14): "word", (90, 28): "g"}


def test_long_names_end_as_they_do_behind_an_ellipsis(written):
    tile = np.zeros((9, 9, 3), np.uint8)
    names = ["patient-" + 40 * "x" + "_007", "short", "Z\u00fcrich\n\U0001f600"]
    pictures.contact_sheet([(tile, name, None) for name in names], 80)
    long, *others = written.values()
    assert long.startswith("...x") and names[0].endswith(long[3:]) and long.endswith("_007")
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    assert 70 < draw.textlength(long) <= 80
    pictures.write(draw, (0, 0), "no room", 1)  # comes to an end
    assert others == ["short", "Z?rich??"]


def legend_of(classes, **options):
    """{title: {meaning: colour}}"""
    found = pictures.headings(classes, **{"objects": False, "ignored": False} | options)
    return {
        title: {meaning: None if colour is None else colour.tolist() for colour, meaning in legend}
        for title, legend in found
    }


def test_legends_name_the_colours_of_the_panels():
    missed, much, confused = [60, 120, 255], [255, 70, 50], [255, 200, 40]
    wrong = {"correct: the image, darkened": None, "missed": missed, "found too much": much}
    for classes in (1, 2):
        known = {"foreground": WHITE}
        assert legend_of(classes) == {"image": {}, "truth": known, "prediction": known, "errors": wrong}
    outlined = {"foreground": FIRST, "tint: class; outline: single object": None}
    outlined |= {"(colours only separate neighbours)": None}
    assert legend_of(1, objects=True) == {"image": {}, "truth": outlined, "prediction": outlined, "errors": wrong}
    gray = {"no label": [128, 128, 128]}
    several = {"class 1": FIRST, "class 2": list(pictures.CLASS_COLOURS[1])}
    assert legend_of(3, ignored=True) == {
        "image": {},
        "truth": several | gray,
        "prediction": several,
        "errors": wrong | {"another class": confused} | gray,
    }
    # Classes of one colour share a line.
    many = legend_of(17)["truth"]
    assert list(many) == ["class 1, 8, 15", "class 2, 9, 16", *(f"class {k}, {k + 7}" for k in range(3, 8))]
    assert list(many.values()) == pictures.CLASS_COLOURS.tolist()


def test_arrays_need_not_be_contiguous():
    image, labels = np.moveaxis(np.random.default_rng(0).normal(size=(3, 8, 6)), 0, 2)[::2, ::-1], LABELS.T[::2, ::-1]
    assert not image.flags.c_contiguous and not labels.flags.c_contiguous

    def compared(image, labels):
        return pictures.comparison(image, labels, labels / 2.0, 1 - labels, 1)

    for draw in (pictures.overlay, compared):
        expected = draw(np.ascontiguousarray(image), np.ascontiguousarray(labels))
        np.testing.assert_array_equal(draw(image, labels), expected)


def test_arguments_are_left_alone():
    image, labels, guess, sure = RAMP.copy(), LABELS.copy(), 1 - LABELS, LABELS / 2.0
    pictures.comparison(image, labels, sure, guess, 1)
    np.testing.assert_array_equal(sure, LABELS / 2.0)
    pictures.overlay(image, labels)
    np.testing.assert_array_equal(image, RAMP)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(guess, 1 - LABELS)


def test_pixels_without_a_label_are_gray():
    truth = np.array([[0, 1, 255, 255]], np.uint8)
    image, gray = np.zeros((1, 4, 1)), [128, 128, 128]
    assert pictures.colour_labels(truth, 1)[0].tolist() == [BLACK, WHITE, gray, gray]
    assert pictures.errors(image, truth, np.array([[0, 1, 0, 1]]))[0].tolist() == [BLACK, BLACK, gray, gray]
    picture = pictures.overlay(image, truth)[0].tolist()
    assert picture[2] == gray and picture[3] == [38, 38, 38]  # outlined, and tinted
