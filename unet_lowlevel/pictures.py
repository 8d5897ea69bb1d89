"""Pictures for people: overlays, comparisons with the truth, sheets of pictures. All uint8 RGB."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, distance_transform_edt

from unet_lowlevel.config import IGNORED

# Colours of the classes 1, 2, ..., and of objects side by side; further ones repeat them. They are those of Okabe and
# Ito (Color Universal Design, 2008), which the colour-blind tell apart too, without their black.
CLASS_COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]],
    np.uint8,
)
# Colours of the label values 0 ... 255; 0, the background, is black.
LABEL_PALETTE = np.concatenate([np.zeros((1, 3), np.uint8), np.resize(CLASS_COLOURS, (255, 3))])
UNLABELLED = np.full(3, 128, np.uint8)  # gray
PICTURE_PALETTE = np.concatenate([LABEL_PALETTE[:IGNORED], [UNLABELLED]])
MISSED = np.array([60, 120, 255], np.uint8)  # foreground in the truth only: blue
INVENTED = np.array([255, 70, 50], np.uint8)  # foreground in the prediction only: red
CONFUSED = np.array([255, 200, 40], np.uint8)  # foreground in both, of different classes: yellow
# Larger side of a panel of a `comparison`, in pixels.
SMALLEST_PANEL, LARGEST_PANEL = 384, 768

# Picture uint8 [H, W, 3] of any size, its name, and the colour of its frame or None.
Tile = tuple[np.ndarray, str, tuple[int, int, int] | None]
# Title of a column and its legend: colours uint8 [3], or None for words alone, and what they mean.
Heading = tuple[str, list[tuple[np.ndarray | None, str]]]


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Any image [H, W, C] as uint8 [H, W, 3]; the 0.5 and 99.5 percent quantiles of the shown channels are 0 and 255.

    The first three channels are shown as colours; with fewer than three, the first one as gray.
    """
    image = np.asarray(image[..., : 3 if image.shape[-1] >= 3 else 1], np.float64)
    low, high = np.percentile(image, [0.5, 99.5])
    gray = np.clip((image - low) / max(high - low, 1e-9), 0.0, 1.0)
    return np.rint(255 * np.broadcast_to(gray, (*gray.shape[:2], 3))).astype(np.uint8)


def colour_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels [H, W] as colours of `PICTURE_PALETTE`; foreground is white unless a network of `classes` has several."""
    palette = PICTURE_PALETTE.copy()
    if classes <= 2:
        palette[1] = 255
    return palette[labels]


def overlay(image: np.ndarray, labels: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """The image with each class tinted in its colour of `PICTURE_PALETTE`, and each class or object outlined.

    Args:
        image: [H, W, C].
        labels: of the classes, int [H, W].
        numbers: of the objects, int [H, W], 0 for none: they are outlined, two pixels wide, neighbours in different
            colours, which no class in the picture has if at least four are left. None: classes are outlined in their
            colours.
    """
    picture = to_rgb(image)
    colours = PICTURE_PALETTE[labels]
    tinted = (0.7 * picture + 0.3 * colours).astype(np.uint8)
    picture = np.where(labels[..., np.newaxis] > 0, tinted, picture)
    outlined = labels
    if numbers is not None:
        others = np.delete(CLASS_COLOURS, np.unique(labels[labels > 0] - 1) % len(CLASS_COLOURS), 0)
        free = others if len(others) >= 4 else CLASS_COLOURS
        outlined, colours = numbers, free[different_at_neighbours(numbers, len(free))[numbers]]
    # A pixel is on the outline if one of its four neighbours has another class or number.
    edge = np.zeros(outlined.shape, bool)
    beside, below = outlined[:, :-1] != outlined[:, 1:], outlined[:-1] != outlined[1:]
    edge[:, :-1] |= beside
    edge[:, 1:] |= beside
    edge[:-1] |= below
    edge[1:] |= below
    if numbers is not None:  # their colours differ less from the tint than from the image
        edge = binary_dilation(edge)
    return np.where((edge & (outlined > 0))[..., np.newaxis], colours, picture)


def different_at_neighbours(numbers: np.ndarray, count: int) -> np.ndarray:
    """A colour 0 ... `count` - 1 for each object number, [numbers.max() + 1]; neighbours have different ones.

    Neighbours are objects that meet when every pixel outside goes to the nearest object. One object after the other
    takes the first of the colours that the fewest of its neighbours have.
    """
    found = np.zeros(int(numbers.max(initial=0)) + 1, int)
    if not numbers.any():
        return found
    rows, columns = distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    nearest = numbers[rows, columns].astype(np.int64)
    pairs = [(nearest[:, :-1].ravel(), nearest[:, 1:].ravel()), (nearest[:-1].ravel(), nearest[1:].ravel())]
    a, b = np.concatenate(pairs, axis=1)
    codes = np.unique(np.concatenate([a * found.size + b, b * found.size + a])[np.tile(a != b, 2)])
    a, b = np.divmod(codes, found.size)
    starts = np.searchsorted(a, np.arange(found.size + 1))
    for number in range(1, found.size):
        before = b[starts[number] : starts[number + 1]]
        before = before[before < number]
        found[number] = np.bincount(found[before], minlength=count).argmin()
    return found


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The darkened image with wrong pixels coloured, blue missed, red invented, yellow another class; gray no truth."""
    picture = (0.6 * to_rgb(image)).astype(np.uint8)
    picture[(truth > 0) & (prediction == 0)] = MISSED
    picture[(truth == 0) & (prediction > 0)] = INVENTED
    picture[(truth > 0) & (prediction > 0) & (truth != prediction)] = CONFUSED
    picture[truth == IGNORED] = UNLABELLED
    return picture


def evenly(total: int, count: int) -> list[int]:
    """Indices of at most `count` of `total` things, evenly spread from the first to the last."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def panels(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    true_objects: np.ndarray | None = None,
    found_objects: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The image, its truth, its prediction and the errors, each [H, W, 3].

    Args:
        image: [H, W, C].
        truth, prediction: the class of each pixel, int [H, W].
        classes: of the network.
        true_objects, found_objects: numbers of the objects, int [H, W], for `overlay`; None: `colour_labels`.
    """
    drawn = [
        colour_labels(labels, classes) if numbers is None else overlay(image, labels, numbers)
        for labels, numbers in ((truth, true_objects), (prediction, found_objects))
    ]
    return [to_rgb(image), *drawn, errors(image, truth, prediction)]


def headings(classes: int, *, objects: bool, ignored: bool) -> list[Heading]:
    """Those of the `panels` of a network of `classes`, with outlined `objects`, of truth that has `ignored` pixels."""
    several, known = classes > 2, legend_of_classes(classes, tinted=objects)
    outlines = [(None, "tint: class; outline: single object"), (None, "(colours only separate neighbours)")]
    unlabelled = [(UNLABELLED, "no label")] if ignored else []
    wrong = [(MISSED, "missed"), (INVENTED, "found too much"), *([(CONFUSED, "another class")] if several else [])]
    known += outlines if objects else []
    correct = (None, "correct: the image, darkened")
    return [
        ("image", []),
        ("truth", [*known, *unlabelled]),
        ("prediction", known),
        ("errors", [correct, *wrong, *unlabelled]),
    ]


def legend_of_classes(classes: int, *, tinted: bool) -> list[tuple[np.ndarray | None, str]]:
    """The colours of the foreground classes, as in `overlay` where they are tinted, else as in `colour_labels`."""
    repeat = len(CLASS_COLOURS)
    labels = np.arange(1, min(max(classes, 2), repeat + 1))
    same = [", ".join(map(str, range(k, classes, repeat))) for k in labels]
    names = [f"class {numbers}" if classes > 2 else "foreground" for numbers in same]
    return [*zip(PICTURE_PALETTE[labels] if tinted else colour_labels(labels, classes), names, strict=True)]


def comparison(
    image: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    objects: Sequence[np.ndarray | None] = (None, None),
) -> np.ndarray:
    """Image and truth, and below them probabilities and errors, each with its heading and legend; uint8 [., ., 3].

    Args:
        image: [H, W, C].
        truth, prediction: the class of each pixel, int [H, W].
        probabilities: of that class or, of one class, of the foreground, float [H, W] in 0 ... 1: how bright it is.
        classes: of the network.
        objects: of truth and prediction, see `panels`; where there are objects, they are shown instead of brightness.
    """
    original, true, found, wrong = panels(image, truth, prediction, classes, *objects)
    heads = headings(classes, objects=objects[0] is not None, ignored=bool((truth == IGNORED).any()))
    heads[3] = ("errors", [entry for entry in heads[3][1] if entry[0] is not UNLABELLED])  # the truth tells it
    if objects[1] is None:
        colours = colour_labels(prediction if classes > 2 else np.ones_like(prediction), classes)
        found = colours * probabilities[..., np.newaxis]
        heads[2] = ("probability: the brighter, the surer", heads[2][1])
    side = min(max(max(image.shape[:2]), SMALLEST_PANEL), LARGEST_PANEL)
    height, width = fitting(image.shape[:2], side)
    gap, line = 8, 20
    page = Image.new("RGB", (2 * width + gap, 2 * (height + line)), "white")
    draw = ImageDraw.Draw(page)
    draw.font = ImageFont.load_default(13)
    kind = Image.Resampling.BOX if side < max(image.shape[:2]) else Image.Resampling.NEAREST
    for number, (panel, (title, legend)) in enumerate(zip((original, true, found, wrong), heads, strict=True)):
        top, left = (number // 2) * (height + line), (number % 2) * (width + gap)
        page.paste(Image.fromarray(panel.astype(np.uint8)).resize((width, height), kind), (left, top + line))
        write(draw, (left, top + 2), title, width)
        left += round(draw.textlength(title)) + 12
        for colour, meaning in legend:
            if colour is not None:
                draw.rectangle((left, top + 5, left + 10, top + 15), tuple(colour.tolist()), "black")
                draw.text((left + 15, top + 2), meaning, fill="black")
                left += round(draw.textlength(meaning)) + 27
    return np.asarray(page)


def fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width in the proportions of `size`, of which the larger is `side` and none is 0."""
    height, width = (max(1, round(length * side / max(size))) for length in size)
    return height, width


def contact_sheet(
    tiles: Sequence[Tile],
    side: int,
    columns: int = 8,
    headings: Sequence[Heading] = (),
    reasons: Sequence[str] = (),
) -> np.ndarray:
    """Small pictures in rows, each with its name below.

    Args:
        tiles: row after row.
        side: in pixels; each picture is resized to fit a square of this side.
        columns: pictures in a row.
        headings: of the columns, or none.
        reasons: what stands below the name of each picture, or none.
    """
    frame, text = 4, 14
    below = text * (2 if reasons else 1)
    width, columns = side + 3 * frame, max(min(columns, len(tiles)), 1)
    small = [Image.fromarray(picture).resize(fitting(picture.shape[:2], side)[::-1]) for picture, *_ in tiles]
    head = text * max((1 + len(legend) for _, legend in headings), default=0)
    rows = [max(one.height for one in small[i : i + columns]) for i in range(0, len(small), columns)]
    bottoms = head + np.cumsum(np.add(rows, 3 * frame + below))
    page = Image.new("RGB", (columns * width, int(bottoms[-1])), "white")
    draw = ImageDraw.Draw(page)
    for column, (title, legend) in enumerate(headings):
        left = column * width + frame
        write(draw, (left, 0), title, side)
        for line, (colour, meaning) in enumerate(legend, start=1):
            top = line * text
            if colour is not None:
                draw.rectangle((left, top + 2, left + 9, top + 11), tuple(colour.tolist()), "black")
            write(draw, (left + (colour is not None) * text, top), meaning, side - text)
    for number, (picture, (_, name, colour)) in enumerate(zip(small, tiles, strict=True)):
        row, column = divmod(number, columns)
        left, bottom = column * width, int(bottoms[row])
        top = bottom - below - 3 * frame - rows[row]
        if colour:
            around = left + picture.width + 2 * frame - 1, top + picture.height + 2 * frame - 1
            draw.rectangle((left, top, *around), colour)
        page.paste(picture, (left + frame, top + frame))
        for line, words in enumerate((name, *reasons[number : number + 1])):
            write(draw, (left + frame, bottom - below - frame + line * text), words, side)
    return np.asarray(page)


def write(draw: ImageDraw.ImageDraw, place: tuple[int, int], words: str, width: int) -> None:
    """Writes on one line from `place` (left, top); of what is wider than `width`, an ellipsis and the end."""
    words = "".join(letter if " " <= letter <= "~" else "?" for letter in words)  # every version of the font has these
    shown = words
    while words and draw.textlength(shown) > width:
        words = words[1:]  # the number at the end tells more
        shown = f"...{words}"
    draw.text(place, shown, fill="black")
