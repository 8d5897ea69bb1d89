"""Pictures for people: overlays, comparisons with the truth, sheets of pictures. All uint8 RGB."""

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from scipy.ndimage import distance_transform_edt

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


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Any image [H, W, C] as uint8 [H, W, 3]; the 0.5 and 99.5 percent quantiles of the shown channels are 0 and 255.

    The first three channels are shown as colours; with fewer than three, the first one as gray.
    """
    image = np.asarray(image[..., : 3 if image.shape[-1] >= 3 else 1], np.float64)
    low, high = np.percentile(image, [0.5, 99.5])
    gray = np.clip((image - low) / max(high - low, 1e-9), 0.0, 1.0)
    return np.rint(255 * np.broadcast_to(gray, (*gray.shape[:2], 3))).astype(np.uint8)


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """Labels [H, W] as colours of `PICTURE_PALETTE`, but foreground white if no class exceeds 1."""
    palette = PICTURE_PALETTE.copy()
    if labels.max(initial=0, where=labels != IGNORED) <= 1:
        palette[1] = 255
    return palette[labels]


def overlay(image: np.ndarray, labels: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """The image with each class tinted in its colour of `PICTURE_PALETTE`, and each class or object outlined.

    Args:
        image: [H, W, C].
        labels: of the classes, int [H, W].
        numbers: of the objects, int [H, W], 0 for none: they are outlined, neighbours in different colours, which no
            class in the picture has if at least four are left. None: classes are outlined in their colours.
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


def comparison(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """image | truth | prediction | errors, side by side with a white line between; [H, 4 W + 6, 3]."""
    panels = [to_rgb(image), colour_labels(truth), colour_labels(prediction), errors(image, truth, prediction)]
    line = np.full((image.shape[0], 2, 3), 255, np.uint8)
    return np.concatenate([panels[0], line, panels[1], line, panels[2], line, panels[3]], axis=1)


def sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """The pictures below each other, centered on white."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        left = (width - picture.shape[1]) // 2
        row = np.full((picture.shape[0] + 4, width, 3), 255, np.uint8)
        row[:-4, left : left + picture.shape[1]] = picture
        rows.append(row)
    return np.concatenate(rows)[:-4]


def contact_sheet(
    tiles: list[tuple[np.ndarray, str, tuple[int, int, int] | None]], side: int, columns: int = 8
) -> np.ndarray:
    """Small pictures in rows, each with its name below.

    Args:
        tiles: (picture uint8 [H, W, 3] of any size, its name, colour of its frame or None).
        side: in pixels; each picture is resized to fit a square of this side.
        columns: pictures in a row.
    """
    frame, text = 4, 14
    width, height = side + 3 * frame, side + 3 * frame + text
    columns = max(min(columns, len(tiles)), 1)
    page = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    draw = ImageDraw.Draw(page)
    for number, (picture, name, colour) in enumerate(tiles):
        left, top = number % columns * width, number // columns * height
        small = ImageOps.contain(Image.fromarray(picture), (side, side))
        if colour:
            draw.rectangle((left, top, left + small.width + 2 * frame - 1, top + small.height + 2 * frame - 1), colour)
        page.paste(small, (left + frame, top + frame))
        name = name.encode("ascii", "replace").decode()  # every version of the font has ASCII
        while draw.textlength(name) > side:
            name = name[1:]  # the number at the end tells more
        draw.text((left + frame, top + height - text - frame), name, fill="black")
    return np.asarray(page)
