"""What is measured of single objects, and the tables of it: of each image, and of all images together."""

import collections
import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from skimage.measure import regionprops_table

from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import written_whole
from unet_lowlevel.errors import UserError

OBJECTS, SUMMARY = "objects.csv", "summary.csv"
# The columns that have other names here than in scikit-image.
NAMES = {"label": "object", "centroid-0": "centroid_row", "centroid-1": "centroid_column"}
NAMES |= {"bbox-0": "min_row", "bbox-1": "min_column", "bbox-2": "max_row", "bbox-3": "max_column"}
PROPERTIES = ("label", "area", "centroid", "bbox", "intensity_mean", "intensity_std", "perimeter", "eccentricity")


def measured(
    numbers: np.ndarray, classes: np.ndarray, image: np.ndarray, pixel: tuple[str, float, float] | None = None
) -> dict[str, np.ndarray]:
    """The columns of the table of objects in an image, each [N].

    Lengths are in pixels. The box of an object goes from `min_row` to `max_row` - 1, columns likewise.

    Args:
        numbers: of the object that each pixel belongs to, uint16 [H, W], from 1 without gaps; 0 for the background.
        classes: of each object, int [N].
        image: as stored, [H, W, C].
        pixel: unit, height and width of a pixel, for columns such as area_um2; None: unknown.
    """
    found = regionprops_table(numbers, image, PROPERTIES)
    found = {NAMES.get(name, name.replace("intensity_", "").replace("-", "_")): found[name] for name in found}
    area = found["area"] = found["area"].astype(np.int64)
    height, width = numbers.shape
    at_border = (found["min_row"] == 0) | (found["min_column"] == 0)
    at_border |= (found["max_row"] == height) | (found["max_column"] == width)
    columns = {"object": found.pop("object"), "class": classes, "area": found.pop("area")}
    columns |= {"area_fraction": area / numbers.size, "equivalent_diameter": np.sqrt(4 / math.pi * area)}
    if image.shape[-1] == 1:
        found = {name.removesuffix("_0"): found[name] for name in found}
    columns |= found | {"touches_border": at_border.astype(np.int64)}
    if pixel:
        unit, high, wide = pixel
        columns[f"area_{unit}2"] = area * high * wide
        columns[f"equivalent_diameter_{unit}"] = np.sqrt(4 / math.pi * area * high * wide)
        if math.isclose(high, wide, rel_tol=1e-3):  # else the perimeter in pixels does not tell that in the unit
            columns[f"perimeter_{unit}"] = found["perimeter"] * high
    return columns


def pixel_of(source: Path | Slice | None, pixel_size: float | None) -> tuple[str, float, float] | None:
    """Unit, height and width of a pixel: `pixel_size` in micrometres, else as a volume says in millimetres."""
    if pixel_size:
        return "um", pixel_size, pixel_size
    affine = source.volume.affine if isinstance(source, Slice) else None
    return None if affine is None else ("mm", *np.linalg.norm(affine[:3, 1:3], axis=0).tolist())


def table_name(name: str) -> str:
    """The file with the table of an image or a volume."""
    return f"{name}_instances.csv"


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes the columns that `measured` gives as CSV."""
    formats = ["%d" if column.dtype.kind in "iu" else "%.8g" for column in columns.values()]
    with written_whole(path) as temporary:
        rows = np.stack([column.astype(np.float64) for column in columns.values()], -1)
        np.savetxt(temporary, rows, formats, ",", header=",".join(columns), comments="")


def write_all(folder: Path, slices: Mapping[str, int], classes: int) -> None:
    """Writes `OBJECTS`, a row for each object, and `SUMMARY`, one for each image or slice, from the tables in `folder`.

    The table of an image is written together with its mask. So these rows are complete, and each is there once, however
    often a prediction was stopped. What an unfinished prediction has written of the two files is replaced.

    Args:
        slices: {name of an image or a volume: number of its slices, 0 for an image}, in the order of the rows; those
            without a table could not be predicted, and are left out.
        classes: foreground classes.

    Raises:
        UserError: when a table is not what `write_table` writes, or the files cannot be written.
    """
    paths = {name: folder / table_name(name) for name in slices if (folder / table_name(name)).is_file()}
    if not paths:
        return
    first = ["image", "slice"] if any(slices[name] for name in paths) else ["image"]
    headers = [column for path in paths.values() for column in read_table(path)[0]]
    units = [column for column in dict.fromkeys(headers) if column.startswith("area_") and column != "area_fraction"]
    counts = [f"objects_class_{k}" for k in range(1, classes + 1)] if classes > 1 else []
    totals = [f"{kind}_{area}" for area in ("area", *units) for kind in ("total", "median")]
    for name in (OBJECTS, SUMMARY):
        (folder / name).unlink(missing_ok=True)
    with (
        written_whole(folder / OBJECTS) as objects,
        written_whole(folder / SUMMARY) as summary,
        objects.open("w", encoding="utf-8", newline="") as of_objects,
        summary.open("w", encoding="utf-8", newline="") as of_images,
    ):
        each = csv.DictWriter(of_objects, dict.fromkeys([*first, *headers]), lineterminator="\n")
        total = csv.DictWriter(of_images, [*first, "objects", *counts, "area_fraction", *totals], lineterminator="\n")
        each.writeheader()
        total.writeheader()
        for name, path in paths.items():
            rows = collections.defaultdict(list)
            for row in read_table(path)[1]:
                rows[row.get("slice", "")].append({"image": name, **row})
            for index in map(str, range(slices[name])) if slices[name] else [""]:
                each.writerows(rows[index])
                place = {"image": name, "slice": index} if "slice" in first else {"image": name}
                total.writerow(place | summed(rows[index], classes, units))


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns and the rows of a table that `write_table` wrote, or a `UserError`."""
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        reader = csv.DictReader(file)
        rows, header = list(reader), list(reader.fieldnames or [])
    try:
        finite = all(math.isfinite(float(value)) for row in rows for value in row.values())
        if finite and set(header) >= {"object", "class", "area", "area_fraction"}:
            return header, rows
    except (TypeError, ValueError):  # other than numbers, or more or fewer than the header names
        pass
    raise UserError(f"{path} is not a table of objects that prediction has written: remove it and add --resume.")


def summed(rows: list[dict[str, str]], classes: int, units: list[str]) -> dict[str, object]:
    """The row of an image in `SUMMARY`, from the rows of its objects; medians of no objects are left empty."""
    of_classes = collections.Counter(row["class"] for row in rows)
    found: dict[str, object] = {"objects": len(rows)}
    if classes > 1:
        found |= {f"objects_class_{k}": of_classes[str(k)] for k in range(1, classes + 1)}
    found["area_fraction"] = f"{math.fsum(float(row['area_fraction']) for row in rows):.8g}"
    for area in ("area", *units):
        sizes = [float(row[area]) for row in rows if row.get(area)]
        found |= {
            f"total_{area}": f"{math.fsum(sizes):.12g}",
            f"median_{area}": f"{np.median(sizes):.8g}" if sizes else "",
        }
    return found
