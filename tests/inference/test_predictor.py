"""Prediction and evaluation from a run folder alone."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.pictures import CLASS_COLOURS


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", *map(str, images), "--output", str(output), *flags])


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


def test_prediction_repeats_itself_alone_or_among_others(tiny_run, phantoms, tmp_path):
    some = sorted((phantoms / "images").iterdir())[3]
    flags = ["--probabilities", "--overlays"]
    for folder, images in (("all", phantoms / "images"), ("again", phantoms / "images"), ("one", some)):
        assert run_predict(tiny_run, [images], tmp_path / folder, *flags) == 0
    written = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert len(written) == 36
    assert all((tmp_path / "all" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in written)
    # Among others an image is computed in another batch, which may round differently.
    among, alone = (read_image(tmp_path / folder / f"{some.stem}_probability.png") for folder in ("all", "one"))
    assert among.dtype == alone.dtype == np.uint16
    np.testing.assert_allclose(among, alone, rtol=0, atol=1)
    for folder, probability in (("all", among), ("one", alone)):
        mask = read_image(tmp_path / folder / f"{some.stem}.png")
        np.testing.assert_array_equal(mask > 0, probability >= 32768)
    assert read_image(tmp_path / "one" / f"{some.stem}_overlay.png").shape == (32, 32, 3)


def test_evaluation_agrees_with_the_training_and_with_the_written_masks(tiny_run, phantoms, tmp_path):
    """Three ways to the same Dice: history.csv of the best epoch, metrics.json, the PNG files by hand."""
    assert evaluate(["--run", str(tiny_run), "--output", str(tmp_path / "scores"), "--pictures", "2"]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {"dice", "iou", "mean_iou", "precision", "recall", "pixel_error", "images", "mean_over_images"} <= set(
        result
    )
    assert result["images"] == 3
    with (tiny_run / "history.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["validation_mean_iou"]))
    for name in ("dice", "iou", "mean_iou"):
        assert result[name] == pytest.approx(float(best[f"validation_{name}"]), abs=1e-12)

    stems = json.loads((tiny_run / "split.json").read_text())["validation"]
    images = [phantoms / "images" / f"{stem}.png" for stem in stems]
    assert run_predict(tiny_run, images, tmp_path / "masks") == 0
    overlap = areas = 0
    per_image = []
    for stem in stems:
        truth = read_mask(phantoms / "masks" / f"{stem}.png", 1).astype(bool)
        mask = read_mask(tmp_path / "masks" / f"{stem}.png", 1).astype(bool)
        overlap += 2 * (truth & mask).sum()
        areas += truth.sum() + mask.sum()
        per_image.append(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))
    assert result["dice"] == pytest.approx(overlap / areas)
    assert result["mean_over_images"]["dice"] == pytest.approx(np.mean(per_image))
    with (tmp_path / "scores" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stem"] for row in rows] == stems
    np.testing.assert_allclose([float(row["dice"]) for row in rows], per_image)
    assert read_image(tmp_path / "scores" / "pictures.png").shape[1:] == (4 * 32 + 6, 3)


def test_split_all_takes_every_image(tiny_run, phantoms, tmp_path):
    flags = [
        "--run",
        str(tiny_run),
        "--data",
        str(phantoms),
        "--split",
        "all",
        "--pictures",
        "70",
        "--output",
        str(tmp_path / "out"),
    ]
    assert evaluate(flags) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 12


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


def test_threshold_of_the_run_decides(tiny_run):
    predictor = Predictor(tiny_run)
    probabilities = np.array([[[0.4], [0.5], [0.6]]], np.float32)
    assert predictor.labels(probabilities).tolist() == [[0, 1, 1]]
