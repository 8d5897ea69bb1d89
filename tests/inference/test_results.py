"""Files of predictions: their names, sizes and values."""

import csv
import errno
import json
import os

import numpy as np
import pytest
import tifffile
from conftest import sentence
from PIL import Image
from untrained import untrained_run

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.data.files import read_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import results
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.results import Outputs, Wanted, canvas, output_names, step_of_gray
from unet_lowlevel.inference.separation import Separation, write_separation
from unet_lowlevel.pictures import CLASS_COLOURS


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", *map(str, images), "--output", str(output), *flags])


def test_names():
    assert output_names("a", 1, ".png", with_probabilities=False) == {"mask": "a.png"}
    one = output_names("a", 1, ".png", with_probabilities=True, with_instances=True)
    table = {"instances": "a_instances.png", "table": "a_instances.csv"}
    assert one == {"mask": "a.png", **table, "0": "a_probability.png"}
    two = output_names("a", 2, ".png", with_probabilities=True)
    assert two == {"mask": "a.png", "0": "a_probability_0.png", "1": "a_probability_1.png"}
    three = output_names("a", 3, ".png", with_probabilities=True)
    assert three == {"mask": "a.png", "colours": "a_colours.png"} | {str(k): f"a_probability_{k}.png" for k in range(3)}
    volume = output_names("a", 3, ".nii.gz", with_probabilities=False, with_instances=True)
    assert volume == {"mask": "a.nii.gz", "instances": "a_instances.nii.gz", "table": "a_instances.csv"}
    assert [step_of_gray(classes) for classes in (1, 2, 3, 9)] == [255, 255, 1, 1]


def test_two_images_do_not_write_one_file(tmp_path):
    """The probabilities of one image would be the mask of the other."""
    images = {stem: tmp_path / f"{stem}.png" for stem in ("a", "a_probability")}
    assert Outputs(images, tmp_path, Wanted(1, separation=Separation(), with_overlays=True)).channels == []
    with pytest.raises(UserError) as caught:
        Outputs(images, tmp_path, Wanted(1, with_probabilities=True))
    sentence(caught, "a_probability.png", "two images")


def test_masks_have_the_images_sizes_and_two_values(tiny_run, tmp_path):
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 50), (33, 32), (70, 41)]
    folder = tmp_path / "images"
    folder.mkdir()
    for i, size in enumerate(sizes):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f"image {i}.png")
    assert run_predict(tiny_run, [folder], tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"image {i}.png" for i in range(4)]
    for i, size in enumerate(sizes):
        mask = read_image(tmp_path / "out" / f"image {i}.png")
        assert mask.shape == (*size, 1) and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}


def test_several_classes_write_class_numbers(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i in range(4):
        label = np.repeat(rng.integers(0, 3, (8, 8)), 4, 0).repeat(4, 1).astype(np.uint8)
        Image.fromarray(np.dstack([label * 80] * 3)).save(tmp_path / "data" / "images" / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "data" / "masks" / f"{i}.png")
    flags = ["--classes", "3", "--base-channels", "2", "--depth", "2", "--epochs", "1", "--class-weights", "1,2,2"]
    assert train(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "data"), *flags]) == 0
    assert run_predict(tmp_path / "run", [tmp_path / "data" / "images"], tmp_path / "out", "--probabilities") == 0
    names = {path.name for path in (tmp_path / "out").glob("0*")}
    assert names == {"0.png", "0_colours.png", "0_probability_0.png", "0_probability_1.png", "0_probability_2.png"}
    mask = read_image(tmp_path / "out" / "0.png")
    assert set(np.unique(mask)) <= {0, 1, 2}
    # The same numbers, in colours for the eye.
    with Image.open(tmp_path / "out" / "0_colours.png") as colours:
        np.testing.assert_array_equal(np.asarray(colours), mask[..., 0])
    expected = np.concatenate([[[0, 0, 0]], CLASS_COLOURS])[mask[..., 0]]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "0_colours.png"), expected)
    output = ["--output", str(tmp_path / "scores"), "--split", "all"]
    assert evaluate(["--run", str(tmp_path / "run"), *output]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert [entry["class"] for entry in result["per_class"]] == [0, 1, 2]
    assert result["dice"] == pytest.approx(np.mean([entry["dice"] for entry in result["per_class"][1:]]))


def test_the_class_of_each_object_is_written(tmp_path):
    """Of an image, and of a stack slice by slice."""
    run, rng = untrained_run(tmp_path / "run", classes=4), np.random.default_rng(0)
    write_separation(run, Separation(0.26, 0.3, 3))
    pixels = np.kron(rng.integers(0, 255, (3, 10, 12)), np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "image.png")
    tifffile.imwrite(tmp_path / "stack.tif", pixels, photometric="minisblack")
    assert run_predict(run, [tmp_path / "image.png", tmp_path / "stack.tif"], tmp_path / "out", "--instances") == 0
    numbers, expected = tifffile.imread(tmp_path / "out" / "stack_instances.tif"), []
    for index, image in enumerate(pixels):
        found = load(run).predict(image)
        likely = 1 + found.probabilities[..., 1:].argmax(-1)
        here = [np.flatnonzero(numbers[index] == number) for number in range(1, numbers[index].max() + 1)]
        expected += [[index, n, likely.flat[place[0]], place.size] for n, place in enumerate(here, 1)]
        np.testing.assert_array_equal(found.objects.numbers, numbers[index])
        assert found.objects.classes.tolist() == [likely.flat[place[0]] for place in here]
    assert {row[2] for row in expected} == {1, 2, 3}
    first, found = ["slice", "object", "class", "area"], table(tmp_path / "out" / "stack_instances.csv")
    np.testing.assert_array_equal([[int(row[name]) for name in first] for row in found], expected)
    found = table(tmp_path / "out" / "image_instances.csv")
    assert list(found[0])[:3] == first[1:]
    expected_here = [row[1:] for row in expected if row[0] == 0]
    np.testing.assert_array_equal([[int(row[name]) for name in first[1:]] for row in found], expected_here)
    # All of them again, in the order of the images.
    found = table(tmp_path / "out" / "objects.csv")
    rows = [["image", "", *map(str, row)] for row in expected_here]
    rows += [["stack", *map(str, row)] for row in expected]
    assert [[row[name] for name in ("image", *first)] for row in found] == rows
    summary = table(tmp_path / "out" / "summary.csv")
    assert [(row["image"], row["slice"]) for row in summary] == [("image", ""), *(("stack", n) for n in "012")]
    for row in summary:
        here = [other for other in expected if str(other[0]) == (row["slice"] or "0")]
        areas = sorted(other[3] for other in here)
        assert [int(row[f"objects_class_{k}"]) for k in (1, 2, 3)] == [
            sum(other[2] == k for other in here) for k in (1, 2, 3)
        ]
        assert (int(row["objects"]), int(row["total_area"])) == (len(here), sum(areas))
        assert float(row["area_fraction"]) == pytest.approx(sum(areas) / (40 * 48), rel=1e-6)
        middle = areas[(len(areas) - 1) // 2] + areas[len(areas) // 2]
        assert float(row["median_area"]) == middle / 2


def test_an_image_without_objects_has_a_table_without_lines(tmp_path):
    run, out = untrained_run(tmp_path / "run", classes=3), tmp_path / "out"
    write_separation(run, Separation(0.99, 0.99, 3))
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "image.png")
    assert run_predict(run, [tmp_path / "image.png"], out, "--instances", "--overlays", "--pixel-size", "2") == 0
    header = (out / "image_instances.csv").read_text()
    assert header.startswith("object,class,area,") and header.count("\n") == 1
    assert header.endswith(",area_um2,equivalent_diameter_um,perimeter_um\n")
    assert (out / "objects.csv").read_text() == f"image,{header}"
    (row,) = table(out / "summary.csv")
    assert row == dict.fromkeys(row, "0") | {"image": "image", "median_area": "", "median_area_um2": ""}
    assert list(row)[:5] == ["image", "objects", "objects_class_1", "objects_class_2", "area_fraction"]


def test_overlays_of_large_images_are_reduced(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "OVERLAY_SIDE", 50)
    rng = np.random.default_rng(0)
    for name, size in (("large", (100, 90)), ("small", (32, 32))):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    images = [tmp_path / f"{name}.png" for name in ("large", "small")]
    assert run_predict(tiny_run, images, tmp_path / "out", "--probabilities", "--overlays") == 0
    assert read_image(tmp_path / "out" / "large_overlay.png").shape == (50, 45, 3)
    assert read_image(tmp_path / "out" / "small_overlay.png").shape == (32, 32, 3)
    assert read_image(tmp_path / "out" / "large.png").shape == (100, 90, 1)


def test_a_large_canvas_lies_in_the_folder(tmp_path, monkeypatch):
    small = canvas((3, 4), np.uint8, tmp_path / "nowhere")
    monkeypatch.setattr(results, "MAPPED_BYTES", 24)
    large = canvas((3, 4), np.uint16, tmp_path)
    assert not isinstance(small, np.memmap) and isinstance(large, np.memmap)
    assert large.shape == small.shape == (3, 4) and large.dtype == np.uint16
    assert not isinstance(canvas((3, 4), np.uint8, tmp_path), np.memmap)
    large[:] = 7  # it can be written to, though no file shows
    assert (large == 7).all() and list(tmp_path.iterdir()) == []


def test_no_room_for_a_mask(tiny_run, phantoms, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "MAPPED_BYTES", 1)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert run_predict(tiny_run, [phantoms / "images"], tmp_path / "out") == 2
    assert "--output" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
