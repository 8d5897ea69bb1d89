"""Pictures for people: overlays, comparisons with the truth, sheets of pictures. All uint8 RGB."""

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from unet_lowlevel.config import IGNORED

# Colours of the classes 1, 2, ...; further classes repeat them.
CLASS_COLOURS = np.array(
    [[230, 60, 60], [60, 140, 240], [70, 190, 90], [240, 180, 40], [170, 90, 210], [60, 200, 200]], np.uint8
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


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image [H, W, C] with each class of labels [H, W] tinted and outlined in its colour of `PICTURE_PALETTE`."""
    picture = to_rgb(image)
    colours = PICTURE_PALETTE[labels]
    tinted = (0.7 * picture + 0.3 * colours).astype(np.uint8)
    picture = np.where(labels[..., np.newaxis] > 0, tinted, picture)
    # A pixel is on the outline if one of its four neighbours has another class.
    edge = np.zeros(labels.shape, bool)
    beside, below = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    edge[:, :-1] |= beside
    edge[:, 1:] |= beside
    edge[:-1] |= below
    edge[1:] |= below
    return np.where((edge & (labels > 0))[..., np.newaxis], colours, picture)


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
