"""Outlines of single objects, exactly along the edges of pixels, for QuPath (GeoJSON) and Fiji (ROI); see `coco.py`."""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects, label

from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.packages import optional_package
from unet_lowlevel.pictures import CLASS_COLOURS

# Right, down, left, up, as (row, column): a turn to the right is one further. The edge of a pixel in that direction
# begins at the corner BEGIN of the pixel.
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
BEGIN = ((0, 0), (0, 1), (1, 1), (1, 0))


@dataclass(frozen=True)
class Outline:
    """The outline of an object.

    Attributes:
        number, index: of the object and its class, from 1.
        pieces: of the object, which share no edges; each as `rings` gives it.
        slice: of the volume; None in an image.
    """

    number: int
    index: int
    pieces: list[list[np.ndarray]]
    slice: int | None = None


def outlines(numbers: np.ndarray, classes: np.ndarray, index: int | None = None) -> list[Outline]:
    """The outline of each object.

    Args:
        numbers: of the object that each pixel belongs to, int [H, W], from 1 without gaps; 0 for the background.
        classes: of each object, int [N].
        index: of the slice of a volume.
    """
    found = []
    for number, (box, of_class) in enumerate(zip(find_objects(numbers), classes.tolist(), strict=True), start=1):
        parts, count = label(numbers[box] == number)
        pieces = [rings(parts == part, box[1].start, box[0].start) for part in range(1, count + 1)]
        found.append(Outline(number, of_class, pieces, index))
    return found


def rings(mask: np.ndarray, left: int = 0, top: int = 0) -> list[np.ndarray]:
    """The corners x, y, int32 [N, 2], of a mask connected by edges: of the outer ring, then of each hole.

    Pixel x, y has the corners x, y and x + 1, y + 1. The mask lies to the right of the way along a ring. Where pixels
    meet only at a corner, the way turns left. So no ring comes to a corner twice, which other programs refuse; a hole
    may touch another ring there.

    Args:
        mask: bool [H, W].
        left, top: added to x and y.
    """
    inside = np.pad(mask, 1)
    # Edges of pixels with the outside to the left, as row and column of the corner where they begin, and direction.
    # The first of them is at the top, so that the outer ring is found first; and each ring begins at a corner.
    edges: dict[tuple[int, int, int], None] = {}
    for d, (down, right) in enumerate(DIRECTIONS):
        outside = ~np.roll(inside, (right, -down), (0, 1))
        begin = np.argwhere(inside & outside) - 1 + BEGIN[d]
        edges |= dict.fromkeys((row, column, d) for row, column in begin.tolist())
    found = []
    while edges:
        start = here = next(iter(edges))
        ring = []
        while here in edges:
            row, column, d = here
            del edges[here]
            row, column = row + DIRECTIONS[d][0], column + DIRECTIONS[d][1]
            ways = [(row, column, turned % 4) for turned in (d - 1, d, d + 1)]
            here = next(way for way in ways if way in edges or way == start)
            if here[2] != d:
                ring.append((column + left, row + top))
        found.append(np.array(ring, np.int32))
    return found


def write_geojson(path: Path, objects: Iterable[Outline], classes: int) -> None:
    """Writes objects as detections of QuPath, with the number as name, and the class in its colour; a line each.

    Args:
        path: of the new file; see `written_whole`.
        objects: in the order of the file.
        classes: foreground classes; of one, objects are not classified.
    """
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, one in enumerate(objects):
            file.write(",\n" if index else "\n")
            file.write(json.dumps(feature(one, classes)))
        file.write("\n]}\n")


def feature(one: Outline, classes: int) -> dict[str, object]:
    """An object as GeoJSON; the first corner of a ring is its last one, too."""
    polygons = [[[*ring.tolist(), ring[0].tolist()] for ring in piece] for piece in one.pieces]
    geometry: dict[str, object] = {"type": "Polygon", "coordinates": polygons[0]}
    if len(polygons) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    if one.slice is not None:
        geometry["plane"] = {"c": -1, "z": one.slice, "t": 0}
    properties: dict[str, object] = {"objectType": "detection", "name": str(one.number)}
    if classes > 1:
        colour = CLASS_COLOURS[(one.index - 1) % len(CLASS_COLOURS)].tolist()
        properties["classification"] = {"name": f"class {one.index}", "color": colour}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write_rois(path: Path, objects: Iterable[Outline], classes: int) -> None:
    """Writes objects as regions of interest of Fiji, named by slice, number, class and piece where there are several.

    They have no holes, which these files do not know. For the arguments see `write_geojson`.
    """
    roifile = optional_package("roifile", path, "formats")
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for one in objects:
            for number, piece in enumerate(one.pieces, start=1):
                roi = roifile.ImagejRoi.frompoints(piece[0])
                roi.roitype = roifile.ROI_TYPE.TRACED
                name = [f"{one.slice:04d}"] if one.slice is not None else []
                name += [f"{one.number:05d}"] + [f"class{one.index}"] * (classes > 1) + [str(number)] * (number > 1)
                roi.name = "-".join(name)
                roi.position = 0 if one.slice is None else one.slice + 1
                # Without a time, so that the same objects are the same file.
                file.writestr(zipfile.ZipInfo(f"{roi.name}.roi"), roi.tobytes())
