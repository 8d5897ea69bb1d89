"""COCO files: their structure by the format's description, their polygons filled by scikit-image, and a stop."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from conftest import sentence
from PIL import Image
from scipy.ndimage import label
from skimage.draw import polygon2mask
from test_folders import terminate, written_until
from untrained import untrained_run

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders
from unet_lowlevel.inference.coco import annotation, without_holes, write_coco, write_total
from unet_lowlevel.inference.outlines import outlines, rings
from unet_lowlevel.inference.separation import Separation, write_separation

FLAGS = ["--instances", "--objects-as", "coco"]


def checked(path):
    """The content, of which every part is as https://cocodataset.org/#format-data says."""
    content = json.loads(path.read_text())
    assert content.keys() == {"info", "categories", "images", "annotations"} and content["info"]["description"]
    kinds = {
        "categories": {"id": int, "name": str},
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"id": int, "image_id": int, "category_id": int, "segmentation": list, "area": int, "bbox": list}
        | {"iscrowd": int},
    }
    for part, fields in kinds.items():
        for one in content[part]:
            assert all(type(one[name]) is kind for name, kind in fields.items()), one
        assert [one["id"] for one in content[part]] == list(range(1, len(content[part]) + 1))
    assert len({image["file_name"] for image in content["images"]}) == len(content["images"])
    images = {image["id"]: image for image in content["images"]}
    for one in content["annotations"]:
        image = images[one["image_id"]]
        assert one["category_id"] in {category["id"] for category in content["categories"]} and one["iscrowd"] == 0
        x, y, width, height = one["bbox"]
        assert width > 0 and height > 0 and one["area"] <= width * height
        assert x >= 0 and y >= 0 and x + width <= image["width"] and y + height <= image["height"]
        corners = [np.reshape(polygon, [-1, 2]) for polygon in one["segmentation"]]
        assert corners and all(len(polygon) >= 4 for polygon in corners)
        corners = np.concatenate(corners)
        assert [*corners.min(0), *corners.max(0)] == [x, y, x + width, y + height]
    return content


def pixels_of(one, shape):
    """The pixels whose centres lie in one of the polygons, bool [H, W]; no pixel lies in two."""
    found = sum(
        polygon2mask(shape, np.reshape(polygon, [-1, 2])[:, ::-1] - 0.5).astype(int) for polygon in one["segmentation"]
    )
    assert found.max() == 1
    return found == 1


def iou(one, two):
    return np.count_nonzero(one & two) / np.count_nonzero(one | two)


@pytest.mark.parametrize("density", [0.3, 0.6, 0.9, 0.98])
def test_polygons_hold_exactly_the_pixels(density, tmp_path):
    """Of pieces with holes, too; and so do areas."""
    rng = np.random.default_rng(round(100 * density))
    numbers = np.where(rng.random((30, 41)) < density, 1 + (np.arange(41) > 20), 0)
    image = {"file_name": "a.png", "width": 41, "height": 30}
    write_coco(tmp_path / "a_coco.json", outlines(numbers, np.array([1, 2])), 2, [image])
    found = checked(tmp_path / "a_coco.json")["annotations"]
    assert [(one["object"], one["category_id"]) for one in found] == [(1, 1), (2, 2)]
    for one in found:
        inside = numbers == one["object"]
        assert iou(pixels_of(one, inside.shape), inside) == 1 and one["area"] == np.count_nonzero(inside)
        assert len(one["segmentation"]) >= label(inside)[1]


def test_a_hole_is_cut_open_along_its_upper_edge():
    ring = np.ones((4, 5), bool)
    ring[1:3, 2] = False
    [piece] = outlines(np.pad(ring, ((2, 0), (1, 0))).astype(int), np.ones(1, int))[0].pieces
    above, below = without_holes(piece)
    assert [above.min(0).tolist(), above.max(0).tolist()] == [[1, 2], [6, 3]]
    assert [below.min(0).tolist(), below.max(0).tolist(), len(below)] == [[1, 3], [6, 6], 8]
    whole = rings(np.ones((2, 2), bool))
    assert without_holes(whole) is whole


def test_a_square_by_hand():
    numbers = np.zeros((4, 6), int)
    numbers[1:3, 2:5] = 1
    assert annotation(*outlines(numbers, np.array([1]))) == {
        "image_id": 1,
        "category_id": 1,
        "object": 1,
        "segmentation": [[5, 1, 5, 3, 2, 3, 2, 1]],
        "bbox": [2, 1, 3, 2],
        "area": 6,
        "iscrowd": 0,
    }


@pytest.fixture
def place(tmp_path):
    """Two images and a stack, the last image without an object, and a run of three foreground classes."""
    run, rng = untrained_run(tmp_path / "run", classes=4), np.random.default_rng(0)
    write_separation(run, Separation(0.26, 0.3, 3))
    pixels = np.kron(rng.integers(0, 255, (3, 10, 12)), np.ones((4, 4))).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "in" / "image.png")
    tifffile.imwrite(tmp_path / "in" / "stack.tif", pixels, photometric="minisblack")
    Image.fromarray(pixels[1, :8, :20]).save(tmp_path / "in" / "zebra.bmp")
    return tmp_path


def run_predict(place, images, output, *flags):
    return predict(["--run", str(place / "run"), "--images", str(images), "--output", str(output), *FLAGS, *flags])


@pytest.mark.parametrize("flags", [(), ("--format", "png")])
def test_one_file_holds_the_objects_of_all_images(flags, place):
    out = place / "out"
    assert run_predict(place, place / "in", out, *flags) == 0
    content = checked(out / "coco.json")
    names = ["image.png", "stack_000.png", "stack_001.png", "stack_002.png", "zebra.bmp"]
    assert [image["file_name"] for image in content["images"]] == names
    assert [image.get("slice") for image in content["images"]] == [None, 0, 1, 2, None]
    assert [category["name"] for category in content["categories"]] == ["class 1", "class 2", "class 3"]
    stack = [read_image(out / f"stack_00{i}_instances.png")[..., 0] for i in range(3)] if flags else []
    stack = stack or tifffile.imread(out / "stack_instances.tif")
    numbers = [read_image(out / "image_instances.png")[..., 0], *stack, read_image(out / "zebra_instances.png")[..., 0]]
    classes = {}
    for stem in ("image", "zebra", *([f"stack_00{i}" for i in range(3)] if flags else ["stack"])):
        checked(out / f"{stem}_coco.json")
        for row in np.genfromtxt(out / f"{stem}_instances.csv", delimiter=",", names=True, ndmin=1):
            slice_of = f"{stem}_00{int(row['slice'])}" if stem == "stack" else stem
            classes[slice_of, int(row["object"])] = int(row["class"]), int(row["area"])
    assert len(content["annotations"]) == sum(each.max() for each in numbers) > 10
    for one in content["annotations"]:
        image = content["images"][one["image_id"] - 1]
        inside = numbers[one["image_id"] - 1] == one["object"]
        assert inside.shape == (image["height"], image["width"])
        assert iou(pixels_of(one, inside.shape), inside) == 1
        assert (one["category_id"], one["area"]) == classes[image["file_name"][:-4], one["object"]]


def test_an_image_without_objects_is_listed(place):
    write_separation(place / "run", Separation(0.999, 0.999, 3))
    assert run_predict(place, place / "in" / "image.png", place / "out") == 0
    content = checked(place / "out" / "coco.json")
    assert len(content["images"]) == 1 and content["annotations"] == []


def test_a_stop_loses_and_repeats_nothing(place, monkeypatch):
    """Nor does an image that is mended later."""
    assert run_predict(place, place / "in", place / "undisturbed") == 0
    monkeypatch.setattr(folders, "waiting", lambda picture: 1)
    out, stems = place / "out", written_until(1, monkeypatch, terminate)
    assert run_predict(place, place / "in", out) == 143 and len(stems) < 5
    assert not (out / "coco.json").exists()
    monkeypatch.undo()
    image = (place / "in" / "zebra.bmp").read_bytes()
    (place / "in" / "zebra.bmp").write_bytes(image[:60])
    assert run_predict(place, place / "in", out, "--resume") == 3
    assert len(checked(out / "coco.json")["images"]) == 4
    (place / "in" / "zebra.bmp").write_bytes(image)
    assert run_predict(place, place / "in", out, "--resume") == 0
    same = {path.name: path.read_bytes() for path in (place / "undisturbed").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == same


def test_another_file_is_not_overwritten(place, capsys):
    (place / "out").mkdir()
    (place / "out" / "coco.json").write_text("mine")
    assert run_predict(place, place / "in", place / "out") == 2
    assert "coco.json exists already" in capsys.readouterr().err
    assert [path.name for path in (place / "out").iterdir()] == ["coco.json"]


def test_what_is_no_file_of_a_prediction(tmp_path):
    good = {"images": [{"id": 1}], "annotations": [{"image_id": 1}]}
    bad = [[], {}, good | {"images": None}, good | {"images": [{"id": 2}]}, good | {"annotations": [{"image_id": 2}]}]
    for content in [*bad, good | {"annotations": [{"image_id": []}]}, good | {"annotations": ["image_id"]}]:
        (tmp_path / "a_coco.json").write_text(json.dumps(content))
        with pytest.raises(UserError) as caught:
            write_total(tmp_path, ["a"], 1)
        sentence(caught, "a_coco.json is not a COCO file")
    assert [path.name for path in tmp_path.iterdir()] == ["a_coco.json"]
    shutil.rmtree(tmp_path)
    write_total(tmp_path, ["a"], 1)
    assert not tmp_path.exists()
