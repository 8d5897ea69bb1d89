"""Single objects as COCO: a file of each image, and one of all images together.

Reference: the format of object detection of Lin et al. 2014, "Microsoft COCO", https://cocodataset.org/#format-data.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import label

from unet_lowlevel import __version__
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import OUTLINES
from unet_lowlevel.inference.outlines import Outline, outlines
from unet_lowlevel.settings import load_json

TOTAL = "coco.json"
# Images, and annotations of them, whose ids count from 1.
Part = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def image_of(stem: str, source: Path | Slice, size: tuple[int, int]) -> dict[str, Any]:
    """An image of this height and width as COCO, without id; a slice is named as its PNG would be."""
    sides = {"width": size[1], "height": size[0]}
    if isinstance(source, Slice):
        return {"file_name": f"{stem}.png", "slice": source.index, **sides}
    return {"file_name": source.name, **sides}


def write_coco(path: Path, objects: Iterable[Outline], classes: int, images: Iterable[Mapping[str, Any]]) -> None:
    """Writes objects of an image, or of a volume whose slices are images; see `write_parts`.

    Args:
        path: of the new file.
        objects: in the order of the file.
        classes: foreground classes.
        images: as `image_of` gives them.
    """
    numbered = [{"id": number, **image} for number, image in enumerate(images, start=1)]
    write_parts(path, [(numbered, [annotation(one) for one in objects])], classes)


def write_total(folder: Path, names: Iterable[str], classes: int) -> None:
    """Writes `TOTAL` from the files of images and volumes of these names in `folder`, as `measurements.write_all` does.

    Raises:
        UserError: when one of them is not what `write_coco` writes, or the file cannot be written.
    """
    paths = [path for path in (folder / f"{name}{OUTLINES['coco']}" for name in names) if path.is_file()]
    if paths:
        (folder / TOTAL).unlink(missing_ok=True)
        write_parts(folder / TOTAL, map(read_part, paths), classes)


def write_parts(path: Path, parts: Iterable[Part], classes: int) -> None:
    """Writes all parts as one file, a line for each image and object; ids go on from part to part."""
    head = {
        "info": {"description": f"objects found by unet_lowlevel {__version__}"},  # pycocotools 2.0.9 fails without
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
    }
    ids, images = itertools.count(1), []
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{json.dumps(head)[:-1]}, "annotations": [')
        for of_part, found in parts:
            for one in found:
                number = next(ids)
                file.write(",\n" if number > 1 else "\n")
                file.write(json.dumps({**one, "id": number, "image_id": one["image_id"] + len(images)}))
            images += [{**image, "id": len(images) + number} for number, image in enumerate(of_part, start=1)]
        file.write('\n], "images": [\n' + ",\n".join(map(json.dumps, images)) + "\n]}\n")


def read_part(path: Path) -> Part:
    """Images and annotations of a file that `write_coco` wrote, or a `UserError`."""
    content = load_json(path)
    try:
        images, found = content["images"], content["annotations"]
        ids = [image["id"] for image in images]
        if ids == [*range(1, len(ids) + 1)] and {one["image_id"] for one in found} <= {*ids}:
            return images, found
    except (TypeError, LookupError):
        pass
    raise UserError(f"{path} is not a COCO file that prediction has written: remove it and add --resume.")


def annotation(one: Outline) -> dict[str, Any]:
    """An object as COCO: its number in the instances file, polygons, box [x, y, width, height], pixels; without id."""
    every = [ring for piece in one.pieces for ring in piece]
    low, high = (f([f(ring, 0) for ring in every], 0) for f in (np.min, np.max))
    return {
        "image_id": (one.slice or 0) + 1,
        "category_id": one.index,
        "object": one.number,
        "segmentation": [ring.ravel().tolist() for piece in one.pieces for ring in without_holes(piece)],
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": sum(map(area, every)),
        "iscrowd": 0,
    }


def area(ring: np.ndarray) -> int:
    """The pixels within a ring as `outlines.rings` gives it; below 0 of a hole."""
    x, y = ring.T.astype(np.int64)
    return int(x @ np.roll(y, -1) - y @ np.roll(x, -1)) // 2


def without_holes(piece: list[np.ndarray]) -> list[np.ndarray]:
    """The rings of parts without holes that together are the piece: COCO's polygons have no holes.

    The piece is cut along the upper edge of the first row of each hole, from where the hole is open.
    """
    if len(piece) == 1:
        return piece
    corner = piece[0].min(0)
    inside = filled([ring - corner for ring in piece])
    cuts = np.unique([hole[:, 1].min() - corner[1] for hole in piece[1:]])
    parts, count = label(np.insert(inside, cuts, False, 0))
    parts = np.delete(parts, cuts + np.arange(cuts.size), 0)
    return [one.pieces[0][0] + corner for one in outlines(parts, np.ones(count, int))]


def filled(piece: list[np.ndarray]) -> np.ndarray:
    """The pixels of a piece, bool [H, W]: those with an odd number of edges to their left."""
    width, height = piece[0].max(0)
    edges = np.zeros((height, width + 1), bool)
    for ring in piece:
        for (x, y), (u, v) in zip(ring, np.roll(ring, -1, 0), strict=True):
            if x == u:
                edges[min(y, v) : max(y, v), x] ^= True
    return np.logical_xor.accumulate(edges, 1)[:, :-1]
