"""Scores of a run: files and tables, regions, pictures, from Python and from the command line."""

import csv
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from checked_data import change
from conftest import sentence
from image_files import write_pairs
from PIL import Image, ImageDraw
from untrained import untrained_run

import unet_lowlevel
from unet_lowlevel import settings
from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import Pair, find_pairs, read_image
from unet_lowlevel.data.instances import read_instances
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.splits import pairs_of
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import best_thresholds, evaluation
from unet_lowlevel.inference.evaluation import counts_of, evaluate_pairs, tiles_of
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.separation import Separation, read_separation, write_separation
from unet_lowlevel.pictures import panels
from unet_lowlevel.scoring import SCORES, intervals
from unet_lowlevel.scoring.objects import Objects
from unet_lowlevel.scoring.scorers import scores_of
from unet_lowlevel.scoring.surfaces import surface_distances


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return load(tiny_run)


@pytest.fixture(scope="module")
def held_out(predictor):
    """The pairs that the run has not seen."""
    return pairs_of(find_pairs(predictor.config.data), predictor.split, "validation")


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], r"patient-\d+"),  # of the run
        (["--group-regex", ""], ".*"),
        (["--group-regex", "slice-.."], "slice-.."),
    ],
)
def test_intervals_of_a_run_are_by_group(flags, names, tiny_run, phantoms, tmp_path, monkeypatch):
    """What is drawn are the patients of --group-regex: that of the run, or another."""
    asked = []
    original = intervals.intervals
    monkeypatch.setattr(
        intervals,
        "intervals",
        lambda counts, repeats, groups: asked.append(groups) or original(counts, repeats, groups),
    )
    flags = ["--split", "all", "--bootstrap", "20", "--output", str(tmp_path / "scores"), *flags]
    assert evaluate(["--run", str(tiny_run), *flags]) == 0
    stems = sorted(path.stem for path in (phantoms / "images").iterdir())
    assert [list(groups) for groups in asked] == [[re.search(names, stem).group() for stem in stems]]


def test_one_group_has_no_interval(tiny_run, tmp_path, capsys):
    """The held-out images are of one patient: a sentence, and no interval."""
    assert evaluate(["--run", str(tiny_run), "--bootstrap", "20", "--output", str(tmp_path / "scores")]) == 0
    output, error = capsys.readouterr()
    assert "intervals" not in output
    assert error.count("\n") == 1 and "--bootstrap" in error and "'patient-00" in error
    assert "intervals" not in json.loads((tmp_path / "scores" / "metrics.json").read_text())


def test_groups_that_are_not_found_are_refused_first(tiny_run, tmp_path, capsys):
    flags = ["--bootstrap", "20", "--group-regex", "x+", "--output", str(tmp_path / "scores")]
    assert evaluate(["--run", str(tiny_run), *flags]) == 2
    assert "--group-regex 'x+' does not match" in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()


def test_all_scores_of_a_run(tiny_run, tmp_path, capsys):
    """Every score in metrics.json, per_image.csv and the table; those of before are as they were."""
    run = ["--run", str(tiny_run)]
    flags = ["--scores", "instances,surfaces,boundaries", "--bootstrap", "50", "--group-regex", ""]
    assert evaluate([*run, "--output", str(tmp_path / "plain")]) == 0
    assert evaluate([*run, *flags, "--output", str(tmp_path / "all")]) == 0
    plain, result = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("plain", "all"))
    names = list(result["mean_over_images"])
    assert {"soft_dice", "roc_auc", "pr_auc", "ap", "ap_50", "hd95", "surface_distance", "rand_error"} <= set(names)
    assert {"v_rand", "v_info", "warping_error"} <= set(names)
    with (tmp_path / "all" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["stem", *names] and len(rows) == result["images"]
    table = capsys.readouterr().out
    for name in names:
        assert name in table
        assert np.isfinite(result[name])
        low, high = result["intervals"]["mean_over_images"][name]
        each = [float(row[name]) for row in rows]
        assert min(each) - 1e-9 <= low <= high <= max(each) + 1e-9
        assert result["mean_over_images"][name] == pytest.approx(np.mean(each))
    for name, value in plain["mean_over_images"].items():
        assert result["mean_over_images"][name] == value and result[name] == plain[name]
    assert "intervals" not in plain and "separation" not in plain and "ap" not in plain


@pytest.fixture
def region(tiny_run, phantoms, tmp_path):
    """A folder of regions: the left half, in which the network is to be judged."""
    folder = tmp_path / "region"
    folder.mkdir()
    for path in (phantoms / "images").iterdir():
        inside = np.zeros((32, 32), np.uint8)
        inside[:, :16] = 200
        Image.fromarray(inside).save(folder / path.name)
    return folder


def test_only_the_region_counts(tiny_run, predictor, phantoms, region, tmp_path):
    flags = ["--run", str(tiny_run), "--scores", "surfaces,boundaries,instances", "--region", str(region)]
    assert evaluate([*flags, "--output", str(tmp_path / "scores")]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    wrong, both, sums, distances = 0, 0, 0, []
    stems = json.loads((tiny_run / "split.json").read_text())["validation"]
    for stem in stems:
        with Image.open(phantoms / "images" / f"{stem}.png") as image:
            found = predictor.labels(predictor.probabilities(np.asarray(image)[..., None]))[:, :16] > 0
        with Image.open(phantoms / "masks" / f"{stem}.png") as mask:
            truth = np.asarray(mask)[:, :16] > 0
        wrong += np.sum(found != truth) / (32 * 16)
        both, sums = both + 2 * np.sum(found & truth), sums + found.sum() + truth.sum()
        pad = ((0, 0), (0, 16))
        distances.append(surface_distances(np.pad(truth, pad), np.pad(found, pad))[0])
    assert result["pixel_error"] == pytest.approx(wrong / len(stems))
    assert result["dice"] == pytest.approx(both / sums)
    assert result["hd95"] == pytest.approx(np.mean(distances))


def test_what_is_found_outside_of_the_region_does_not_count(predictor, phantoms):
    """Truth and prediction agree in the left half; on the right, all is wrong."""
    label, inside = np.zeros((32, 32), np.uint8), np.zeros((32, 32), bool)
    image, mask = (phantoms / kind / "patient-000_slice-00.png" for kind in ("images", "masks"))
    pair = Pair(image.stem, image, (mask,), image.stem)
    objects = read_instances(pair, read_mask(mask, 1), predictor.config)
    label[objects > 0] = 1
    inside[:, :16] = True
    probabilities = np.where(inside, label, 1 - label).astype(np.float32)[..., np.newaxis]
    found = counts_of(predictor, pair, label, probabilities, inside, SCORES, Separation(0.5, 0.5, 1))
    assert label[:, :16].any() and label[:, 16:].any()
    result = scores_of(found)
    for name in ("pixel_error", "hd95", "surface_distance", "rand_error", "warping_error"):
        assert result[name] == 0, name
    for name in ("dice", "roc_auc", "soft_dice", "ap_95", "v_rand", "v_info"):
        assert result[name] == pytest.approx(1), name


def test_pixels_without_a_label_count_as_those_outside_of_the_region(predictor, phantoms):
    image, mask = (phantoms / kind / "patient-000_slice-00.png" for kind in ("images", "masks"))
    pair, label, right = Pair(image.stem, image, (mask,), image.stem), read_mask(mask, 1), np.arange(32) >= 16
    probabilities = predictor.probabilities(read_image(image))
    everywhere = np.ones((32, 32), bool)
    partly = np.where(right, 255, label).astype(np.uint8)
    found = counts_of(predictor, pair, partly, probabilities, everywhere, SCORES, Separation())
    expected = counts_of(predictor, pair, label * ~right, probabilities, everywhere & ~right, SCORES, Separation())
    assert found.keys() == expected.keys() and label[:, right].any()
    for name, counts in expected.items():
        np.testing.assert_array_equal(found[name], counts, err_msg=name)


def partly_labelled(phantoms, folder):
    """The phantoms, labelled in their upper halves only."""
    data = shutil.copytree(phantoms, folder)
    for mask in (data / "masks").iterdir():
        change(mask, lambda pixels: np.where(np.arange(32)[:, None] < 16, pixels, 254).astype(np.uint8))
    return data


def test_scores_of_images_that_are_labelled_in_part(tiny_run, phantoms, tmp_path, capsys):
    """Those of a region; thresholds of objects are chosen there too, and pictures drawn."""
    data, region = partly_labelled(phantoms, tmp_path / "data"), tmp_path / "region"
    region.mkdir()
    for mask in (data / "masks").iterdir():
        Image.fromarray(np.where(np.arange(32)[:, None] < 16, np.ones((32, 32), np.uint8), 0)).save(region / mask.name)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    flags = ["--run", str(run), "--scores", "instances,surfaces", "--pictures", "2"]
    here = [*flags, "--data", str(data), "--ignore-value", "254", "--choose-thresholds", "--output"]
    assert evaluate([*here, str(tmp_path / "a")]) == 0
    assert "wrote metrics.json, per_image.csv and pictures.png to " in capsys.readouterr().out
    assert evaluate([*flags, "--region", str(region), "--output", str(tmp_path / "b")]) == 0
    one, other = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert one["dice"] == other["dice"] and one == other
    assert [128, 128, 128] in np.asarray(Image.open(tmp_path / "a" / "pictures.png")).reshape(-1, 3).tolist()
    for image in region.iterdir():
        change(image, lambda pixels: pixels[::-1])
    assert evaluate([*here, str(tmp_path / "c"), "--region", str(region)]) == 2
    assert "has no label inside of --region" in capsys.readouterr().err


def scores_of_classes(predicted, tmp_path, inside=None):
    """The scores of four objects of classes 1 and 2, two of which touch, and of sure probabilities."""
    label = np.zeros((20, 30), np.uint8)
    label[2:8, 2:10] = label[12:18, 2:9] = 1
    label[2:8, 10:18] = label[12:18, 15:24] = 2
    Image.fromarray(label).save(tmp_path / "mask.png")
    pair = Pair("a", tmp_path / "a.png", (tmp_path / "mask.png",), "a")
    several = SimpleNamespace(config=settings.resolve(flags={"classes": 3}), labels=lambda found: found.argmax(-1))
    probabilities = np.eye(3, dtype=np.float32)[np.array(predicted)[label]]
    inside = np.ones(label.shape, bool) if inside is None else inside(label)
    return scores_of(counts_of(several, pair, label, probabilities, inside, SCORES, Separation()))


def test_objects_of_classes_that_touch_can_be_perfect(tmp_path):
    result = scores_of_classes([0, 1, 2], tmp_path)
    for name in ("ap", "ap_95", "ap_class_1", "ap_50_class_2", "v_rand", "v_info"):
        assert result[name] == pytest.approx(1), name
    for name in ("rand_error", "warping_error", "splits_and_mergers"):
        assert result[name] == 0, name


def test_objects_of_wrong_classes_are_wrong(tmp_path):
    swapped = scores_of_classes([0, 2, 1], tmp_path)
    assert swapped["ap_50"] == swapped["ap_50_class_1"] == swapped["ap_50_class_2"] == 0 and swapped["rand_error"] > 0.9
    one = scores_of_classes([0, 1, 1], tmp_path)
    assert one["ap_75_class_2"] == 0 and one["ap_75_class_1"] == pytest.approx(1 / 4)  # two became one, and one is new
    assert one["ap_75"] == pytest.approx(1 / 8)


def test_a_class_that_the_region_leaves_out_does_not_count(tmp_path):
    result = scores_of_classes([0, 1, 1], tmp_path, inside=lambda label: label < 2)
    assert result["ap_50"] == result["ap_50_class_1"] == 1 and np.isnan(result["ap_50_class_2"])


def test_precision_of_each_class_in_files_and_table(tmp_path, capsys):
    """Class 2 is in one image only: the other has no value, and the mean over images leaves it out."""
    run, random = untrained_run(tmp_path / "run", classes=4, validation=("a", "b")), np.random.default_rng(0)
    write_separation(run, Separation(0.99, 0.99, 1))
    label = np.zeros((2, 16, 16), np.uint8)
    label[:, 2:6, 2:9], label[0, 9:12, 2:9] = 1, 2
    (tmp_path / "data").mkdir()
    write_pairs(tmp_path / "data", *((random.integers(0, 255, (16, 16), dtype=np.uint8), each) for each in label))
    flags = ["--scores", "instances", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "scores")]
    assert evaluate(["--run", str(run), *flags, "--bootstrap", "20"]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    with (tmp_path / "scores" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = capsys.readouterr().out.splitlines()
    for k, values, in_images in ((1, [0, 0], ["0.0", "0.0"]), (2, [0, 0], ["0.0", ""]), (3, [None] * 2, ["", ""])):
        for name in ("ap", "ap_50", "ap_75"):
            name = f"{name}_class_{k}"
            assert [result[name], result["mean_over_images"][name]] == values
            assert [row[name] for row in rows] == in_images
            (line,) = [line for line in table if line.startswith(f"{name} ")]
            assert line.split()[1] == ("-" if k == 3 else "0.0000")
            assert result["intervals"]["all_images"][name] == [values[0]] * 2


@pytest.mark.parametrize(
    ("fault", "words"), [("missing", ["no image for"]), ("size", ["16x32", "32x32"]), ("empty", ["0 throughout"])]
)
def test_regions_that_cannot_be_used(fault, words, predictor, held_out, region, tmp_path):
    """Nothing is written, though the images before were scored."""
    stem = held_out[-1].stem
    if fault == "missing":
        (region / f"{stem}.png").unlink()
    else:
        Image.fromarray(np.zeros((32, 32) if fault == "empty" else (16, 32), np.uint8)).save(region / f"{stem}.png")
    with pytest.raises(UserError) as caught:
        evaluate_pairs(predictor, held_out, tmp_path / "scores", region=region)
    sentence(caught, "--region", stem, *words)
    assert not (tmp_path / "scores").exists()


def test_the_command_refuses_such_a_region(tiny_run, region, tmp_path, capsys):
    stem = json.loads((tiny_run / "split.json").read_text())["validation"][0]
    (region / f"{stem}.png").unlink()
    flags = ["--run", str(tiny_run), "--region", str(region), "--output", str(tmp_path / "scores")]
    assert evaluate(flags) == 2
    error = capsys.readouterr().err
    assert "--region" in error and stem in error and error.count("\n") == 1
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--scores", "pixel"], "--scores has 'pixel'"),
        (["--bootstrap", "-1"], "--bootstrap is -1"),
        (["--pictures", "-1"], "--pictures is -1"),
        (["--choose-thresholds"], "--choose-thresholds"),
        (["--choose-thresholds", "--scores", "instances", "--split", "all"], "--choose-thresholds"),
    ],
)
def test_wrong_flags(flags, word, tiny_run, tmp_path, capsys):
    assert evaluate(["--run", str(tiny_run), "--output", str(tmp_path / "scores"), *flags]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not (tmp_path / "scores").exists()


def test_labels_of_another_size(predictor, phantoms, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in (phantoms / "images").iterdir():
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(labels / path.name)
    changes = {"data": "", "images": str(phantoms / "images"), "masks": str(phantoms / "masks")}
    data = settings.apply(predictor.config, changes | {"instances": str(labels)}).data
    pairs = pairs_of(find_pairs(data), predictor.split, "validation")
    with pytest.raises(UserError) as caught:
        evaluate_pairs(predictor, pairs, tmp_path / "scores", scores=["instances"], separation=Separation())
    sentence(caught, "8x9", "32x32")
    assert not (tmp_path / "scores").exists()


# Whole evaluations.


def test_evaluation_agrees_with_the_training_and_with_the_written_masks(tiny_run, phantoms, tmp_path):
    """Three ways to the same Dice: history.csv of the best epoch, metrics.json, the PNG files by hand."""
    assert evaluate(["--run", str(tiny_run), "--output", str(tmp_path / "scores")]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {"dice", "iou", "mean_iou", "precision", "recall", "pixel_error", "images", "mean_over_images"} <= set(
        result
    )
    assert result["images"] == 3
    with (tiny_run / "history.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["validation_dice"]))  # of two epochs
    for name in ("dice", "iou", "mean_iou"):
        assert result[name] == pytest.approx(float(best[f"validation_{name}"]), abs=1e-12)

    stems = json.loads((tiny_run / "split.json").read_text())["validation"]
    images = [str(phantoms / "images" / f"{stem}.png") for stem in stems]
    assert predict(["--run", str(tiny_run), "--images", *images, "--output", str(tmp_path / "masks")]) == 0
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


def test_sheet_of_pictures(tiny_run, predictor, held_out, tmp_path, monkeypatch):
    """From the worst to the best, with names and scores; with objects outlined, here of an IoU of 0.52."""
    true, found = ((np.indices((32, 32))[0] < rows).astype(np.int32) for rows in (25, 13))
    one = np.ones(1, int)
    monkeypatch.setattr(evaluation, "read_objects", lambda *_: (true, one))
    monkeypatch.setattr(evaluation, "separate", lambda probabilities, how: Objects(found, one))
    written, text = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda draw, place, words, **how: written.append(words) or text(draw, place, words, **how),
    )
    pairs = {pair.stem: pair for pair in held_out}
    for scores, legend in (([], "foreground"), (["instances"], "tint")):
        output = tmp_path / f"scores{len(scores)}"
        written.clear()
        unet_lowlevel.evaluate(tiny_run, output, pictures=2, scores=scores)
        with (output / "per_image.csv").open() as file:
            ranked = sorted(csv.DictReader(file), key=lambda row: float(row["dice"]))
        words, captions = written[:-8], written[-8:]
        assert {"image", "truth", "prediction", "errors", "missed", "found too much"} <= set(words)
        assert any(legend in each for each in words)
        expected = []
        for row in (ranked[0], ranked[-1]):
            average = f", AP at IoU 0.5: {float(row['ap_50']):.4f}" if scores else ""
            expected += [row["stem"], "", f"Dice: {float(row['dice']):.4f}{average}", ""]
        assert captions == expected
        picture = read_image(output / "pictures.png")
        assert picture.shape == (56 + 2 * (320 + 26), 4 * 332, 3)
        for number, row in enumerate((ranked[0], ranked[-1])):
            pair, top = pairs[row["stem"]], 56 + number * 346 + 4
            image, label = read_image(pair.image), read_mask(pair.masks[0], 1)
            guess, objects = predictor.labels(predictor.probabilities(image)), (true, found) if scores else ()
            ten = [each.repeat(10, 0).repeat(10, 1) for each in (image, label, guess, *objects)]
            for column, panel in enumerate(panels(*ten[:3], 1, *ten[3:])):
                shown = picture[top : top + 320, column * 332 + 4 : column * 332 + 324]
                np.testing.assert_array_equal(shown, panel, err_msg=f"{scores} {row['stem']} {column}")


def test_large_images_make_small_pictures(predictor, held_out, tmp_path):
    """Reduced in their proportions, labels to some of their pixels: no mixture of colours."""
    image, mask = (np.tile(read_image(path), (20, 30, 1)) for path in (held_out[0].image, held_out[0].masks[0]))
    write_pairs(tmp_path, (image[..., 0], mask[..., 0] // 255))
    sample = Sample("a", image, read_mask(tmp_path / "masks" / "a.png", 1))
    tiles = tiles_of(predictor, held_out[0], sample, "caption", None)
    assert [name for _, name, _ in tiles] == [held_out[0].stem, "", "caption", ""]
    assert [picture.shape for picture, *_ in tiles] == [(213, 320, 3)] * 4
    for picture, *_ in tiles[1:3]:
        assert set(np.unique(picture)) == {0, 255}


@pytest.mark.parametrize(("split", "parts"), [("all", ["training", "validation"]), ("training", ["training"])])
def test_splits(split, parts, tiny_run, phantoms, tmp_path):
    flags = ["--data", str(phantoms), "--split", split, "--pictures", "70", "--output", str(tmp_path / "out")]
    assert evaluate(["--run", str(tiny_run), *flags]) == 0
    stems = json.loads((tiny_run / "split.json").read_text())
    expected = sorted(stem for part in parts for stem in stems[part])
    with (tmp_path / "out" / "per_image.csv").open() as file:
        assert [row["stem"] for row in csv.DictReader(file)] == expected
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == len(expected)


def test_evaluate_takes_several_runs(tiny_run, tmp_path):
    """Of one run twice, the scores of the run."""
    for name, again in (("one", []), ("two", [str(tiny_run)])):
        assert evaluate(["--run", str(tiny_run), *again, "--output", str(tmp_path / name)]) == 0
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["images"] == two["images"] == 3
    for name in ("dice", "iou", "mean_iou", "pixel_error"):
        assert one[name] == pytest.approx(two[name], abs=1e-3)


def test_evaluate_needs_images_that_all_runs_held_out(tmp_path, capsys):
    run = untrained_run(tmp_path / "run", validation=("b", "c"))
    other = untrained_run(tmp_path / "other", validation=("z",))
    assert evaluate(["--run", str(run), str(other), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"held out by all of --run {run} {other}" in error and "--split all" in error


def test_evaluate_averages_over_flips(tiny_run, tmp_path):
    flags = ["--output", str(tmp_path / "out"), "--average-flips", "--pictures", "1"]
    assert evaluate(["--run", str(tiny_run), *flags]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 3


# From Python.


def everything(folder):
    """The arguments, and the flags, that ask for all that there is."""
    arguments = {"changes": {"data": str(folder)}, "split": "all", "scores": SCORES, "bootstrap": 20, "pictures": 3}
    flags = ["--data", str(folder), "--split", "all", "--scores", ",".join(SCORES), "--bootstrap", "20"]
    return arguments, [*flags, "--pictures", "3"]


@pytest.mark.parametrize("kind", ["nothing", "averaged", "region", "everything"])
def test_python_gives_what_the_command_gives(kind, tiny_run, phantoms, region, tmp_path):
    arguments, flags = {
        "nothing": ({}, []),
        "averaged": ({"average": "flips", "plain": True}, ["--average-flips", "--plain"]),
        "region": ({"region": region, "scores": ["surfaces"]}, ["--region", str(region), "--scores", "surfaces"]),
        "everything": everything(phantoms),
    }[kind]
    assert evaluate(["--run", str(tiny_run), "--output", str(tmp_path / "command"), *flags]) == 0
    output = tmp_path / "from" / "python"
    result = unet_lowlevel.evaluate(tiny_run, output, **arguments)
    assert json.loads((output / "metrics.json").read_text()) == result
    names = sorted(path.name for path in output.iterdir())
    assert names == ["metrics.json", "per_image.csv", *(["pictures.png"] if kind == "everything" else [])]
    for name in names:
        assert (output / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert ("intervals" in result) == (kind == "everything")


def test_python_takes_several_runs_and_chooses_thresholds(tiny_run, tmp_path):
    run, output = shutil.copytree(tiny_run, tmp_path / "run"), tmp_path / "scores"
    result = unet_lowlevel.evaluate([str(run), tiny_run], str(output), scores=["instances"], choose_thresholds=True)
    assert read_separation(run) == Separation(**result["separation"]) and not (tiny_run / "instances.json").exists()
    again = unet_lowlevel.evaluate([run, tiny_run], tmp_path / "again", scores=["instances"])
    assert again == result


def test_thresholds_chosen_on_the_training_images(tiny_run, tmp_path, monkeypatch):
    """By all of them and no other; held-out images are scored with these."""

    def see(images, border):
        counts.append(len(images))
        return Separation(0.3, 0.6, 7)

    counts = []
    monkeypatch.setattr(best_thresholds, "choose_separation", see)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    arguments = {"scores": ["instances"], "choose_thresholds": True}
    unet_lowlevel.evaluate(run, tmp_path / "training", split="training", **arguments)
    assert counts == [9] and read_separation(run) == Separation(0.3, 0.6, 7)
    result = unet_lowlevel.evaluate(run, tmp_path / "validation", scores=["instances"])
    assert result["images"] == 3 and Separation(**result["separation"]) == Separation(0.3, 0.6, 7)


def test_python_refuses_what_the_command_refuses(tiny_run, tmp_path):
    """In a sentence, before anything is written, and nothing is overwritten."""
    output = tmp_path / "scores"
    for arguments, words in [
        ({"scores": ["pixel"]}, ["--scores has 'pixel'", "instances, surfaces, boundaries"]),
        ({"choose_thresholds": True}, ["--choose-thresholds"]),
        ({"choose_thresholds": True, "scores": ["instances"], "split": "all"}, ["--choose-thresholds"]),
        ({"changes": {"data": str(tmp_path / "nowhere")}}, ["nowhere"]),
    ]:
        with pytest.raises(UserError) as caught:
            unet_lowlevel.evaluate(tiny_run, output, **arguments)
        sentence(caught, *words)
    for arguments, words in [
        ({"split": "held_out"}, ["split is 'held_out'", "validation, training, all"]),
        ({"average": "flip"}, ["average is 'flip'"]),
        ({"bootstrap": -1}, ["bootstrap is -1", "at least 0"]),
        ({"pictures": -1}, ["pictures is -1", "at least 0"]),
    ]:
        with pytest.raises(ValueError) as caught:
            unet_lowlevel.evaluate(tiny_run, output, **arguments)
        sentence(caught, *words)
    assert not output.exists()
    output.mkdir()
    (output / "per_image.csv").write_text("mine")
    with pytest.raises(UserError) as caught:
        unet_lowlevel.evaluate(tiny_run, output)
    sentence(caught, "per_image.csv")
    assert [path.read_text() for path in output.iterdir()] == ["mine"]
