"""Outlines of objects: areas by the shoelace formula, pixels by counting crossings, and the files of them."""

import importlib
import json
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from scipy.ndimage import label
from untrained import untrained_run

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.inference.outlines import outlines, rings, write_geojson, write_rois
from unet_lowlevel.inference.separation import Separation, write_separation
from unet_lowlevel.pictures import CLASS_COLOURS


def area(ring):
    """With sign: of a way round the inside on its right, with y downwards, above 0."""
    ring = [(int(x), int(y)) for x, y in ring]
    return sum(x * v - u * y for (x, y), (u, v) in zip(ring, ring[1:] + ring[:1], strict=True)) / 2


def filled(ringed, shape):
    """The pixels of which a ray to the left crosses the rings an odd number of times."""
    crossings = np.zeros(shape, int)
    for ring in ringed:
        for (x, y), (u, v) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if x == u:
                crossings[min(y, v) : max(y, v), x:] += 1
    return crossings % 2 == 1


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", *map(str, images), "--output", str(output), *flags])


def test_shapes_by_hand():
    square = [(2, 1), (2, 2), (1, 2), (1, 1)]
    for found in (rings(np.array([[0, 0], [0, 1]], bool)), rings(np.array([[True]]), left=1, top=1)):
        assert [list(map(tuple, ring)) for ring in found] == [square]
    holed = np.ones((3, 3), bool)
    holed[1, 1] = False
    outer, hole = ([tuple(corner) for corner in ring.tolist()] for ring in rings(holed))
    assert set(outer) == {(0, 0), (3, 0), (3, 3), (0, 3)} and set(hole) == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert (area(outer), area(hole)) == (9, -1)


@pytest.mark.parametrize("density", [0.3, 0.5, 0.7, 0.9])
def test_outlines_hold_exactly_the_pixels(density):
    """Of pieces with holes, that meet at corners too; the outer ring comes first, and corners turn."""
    rng = np.random.default_rng(round(10 * density))
    numbers = np.where(rng.random((24, 30)) < density, rng.integers(1, 3, (24, 30)), 0)
    found = outlines(numbers, np.array([2, 1]))
    assert [(one.number, one.index, one.slice) for one in found] == [(1, 2, None), (2, 1, None)]
    for one in found:
        mask = numbers == one.number
        assert len(one.pieces) == label(mask)[1]
        np.testing.assert_array_equal(filled([ring for piece in one.pieces for ring in piece], mask.shape), mask)
        for piece in one.pieces:
            areas = [area(ring) for ring in piece]
            assert areas[0] > 0 and all(hole < 0 for hole in areas[1:])
            assert all(len(np.unique(ring, axis=0)) == len(ring) for ring in piece)
            assert len(piece) == label(np.pad(~filled(piece, mask.shape), 1, constant_values=True))[1]
            assert sum(areas) == filled(piece, mask.shape).sum()
            for ring in piece:
                steps = np.diff(np.array([*ring, ring[0], ring[1]]), axis=0)
                assert ((steps == 0).sum(1) == 1).all() and ((steps[1:] == 0) != (steps[:-1] == 0)).all()


def test_pieces_are_regions_of_their_own(tmp_path):
    """Of one class, in an image."""
    numbers = np.array([[1, 1, 0, 2], [0, 0, 1, 0]])
    write_rois(tmp_path / "a_rois.zip", outlines(numbers, np.ones(2, int)), 1)
    regions = roifile.roiread(tmp_path / "a_rois.zip")
    assert [region.name for region in regions] == ["00001", "00001-2", "00002"]
    assert [area(region.coordinates().tolist()) for region in regions] == [2, 1, 1]
    write_geojson(tmp_path / "a_objects.geojson", outlines(numbers, np.ones(2, int)), 1)
    features = json.loads((tmp_path / "a_objects.geojson").read_text())["features"]
    assert [feature["geometry"]["type"] for feature in features] == ["MultiPolygon", "Polygon"]
    assert [feature["properties"] for feature in features] == [
        {"objectType": "detection", "name": name} for name in ("1", "2")
    ]


@pytest.fixture
def place(tmp_path):
    """An image and a stack, and a run of three foreground classes."""
    run, rng = untrained_run(tmp_path / "run", classes=4), np.random.default_rng(0)
    write_separation(run, Separation(0.26, 0.3, 3))
    pixels = np.kron(rng.integers(0, 255, (3, 10, 12)), np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "image.png")
    tifffile.imwrite(tmp_path / "stack.tif", pixels, photometric="minisblack")
    return tmp_path


def test_files_hold_the_objects_of_the_instances(place):
    out, images = place / "out", [place / "image.png", place / "stack.tif"]
    flags = ["--instances", "--objects-as", "geojson,roi"]
    assert run_predict(place / "run", images, out, *flags) == 0
    numbers = {"image": read_image(out / "image_instances.png").transpose(2, 0, 1)}
    numbers["stack"] = tifffile.imread(out / "stack_instances.tif")
    colours = {}
    for stem, slices in numbers.items():
        features = json.loads((out / f"{stem}_objects.geojson").read_text())["features"]
        found = np.zeros_like(slices)
        for feature in features:
            geometry, properties = feature["geometry"], feature["properties"]
            assert geometry.get("plane") is None or geometry["plane"] == {"c": -1, "z": geometry["plane"]["z"], "t": 0}
            assert ("plane" in geometry) == (stem == "stack") and properties["objectType"] == "detection"
            single = geometry["type"] == "Polygon"
            polygons = [geometry["coordinates"]] if single else geometry["coordinates"]
            assert single == (len(polygons) == 1)
            assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
            inside = filled([ring[:-1] for polygon in polygons for ring in polygon], slices.shape[1:])
            found[geometry.get("plane", {"z": 0})["z"]][inside] = int(properties["name"])
            colours[properties["classification"]["name"]] = properties["classification"]["color"]
        np.testing.assert_array_equal(found, slices)
        # Fiji's regions, without holes: each has the box of a piece.
        regions = roifile.roiread(out / f"{stem}_rois.zip")
        assert len({region.name for region in regions}) == len(regions)
        pieces = [
            [polygon[0] for polygon in ([one["coordinates"]] if one["type"] == "Polygon" else one["coordinates"])]
            for one in (feature["geometry"] for feature in features)
        ]
        rings_there = [ring[:-1] for of_object in pieces for ring in of_object]
        assert [region.coordinates().astype(int).tolist() for region in regions] == rings_there
        planes = [f["geometry"].get("plane", {"z": -1})["z"] + 1 for f in features]
        assert [region.position for region in regions] == np.repeat(planes, list(map(len, pieces))).tolist()
        for region in regions:
            parts = region.name.split("-")
            assert len(parts[0]) == (4 if stem == "stack" else 5) and any("class" in part for part in parts)
    assert colours == {f"class {k}": CLASS_COLOURS[k - 1].tolist() for k in (1, 2, 3)}
    # The same again.
    assert run_predict(place / "run", images, place / "again", *flags) == 0
    for name in ("image_rois.zip", "stack_rois.zip", "stack_objects.geojson"):
        assert (place / "again" / name).read_bytes() == (out / name).read_bytes()


def test_each_slice_has_its_own_files_as_png(place):
    flags = ["--instances", "--objects-as", "roi", "--format", "png"]
    assert run_predict(place / "run", [place / "stack.tif"], place / "out", *flags) == 0
    assert {path.name for path in (place / "out").glob("*_rois.zip")} == {f"stack_00{i}_rois.zip" for i in range(3)}
    with zipfile.ZipFile(place / "out" / "stack_001_rois.zip") as file:
        assert file.namelist()[0].startswith("00001-class")


def test_mistakes_are_one_sentence(place, monkeypatch, capsys):
    for flags, words in (
        (["--instances", "--objects-as", "roi,svg"], "--objects-as svg is unknown: name any of geojson, roi, coco"),
        (["--objects-as", "geojson"], "--objects-as geojson is for objects: add --instances"),
    ):
        assert run_predict(place / "run", [place / "image.png"], place / "out", *flags) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    found = importlib.import_module

    def missing(name, *rest):
        if name == "roifile":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    flags = ["--instances", "--objects-as", "roi"]
    assert run_predict(place / "run", [place / "image.png"], place / "out", *flags) == 2
    error = capsys.readouterr().err
    assert "--objects-as roi needs the package roifile: run pip install -e '.[formats]'" in error
    assert error.count("\n") == 1 and not (place / "out").exists()
