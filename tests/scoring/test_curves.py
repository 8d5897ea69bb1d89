"""Scores from sums against brute force: soft Dice, areas under curves, surfaces, regions and the bootstrap."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import hausdorff_distance

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.instances import read_instances
from unet_lowlevel.inference import SCORES
from unet_lowlevel.inference.evaluation import intervals, scores_of, tally
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.separation import Separation
from unet_lowlevel.scoring import curves


def example(channels, seed=0, pixels=300):
    """Labels [N] and probabilities [N, K] that go together, but not always; some probabilities are equal."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(channels, 2), pixels)
    logits = np.round(random.normal(size=(pixels, channels)), 1) + 1.0 * (labels[:, None] == np.arange(channels))
    if channels == 1:
        return labels, (1 / (1 + np.exp(-logits - 2 * labels[:, None]))).astype(np.float32)
    return labels, (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_soft_dice(channels):
    labels, probabilities = example(channels)
    p = np.concatenate([1 - probabilities, probabilities], -1) if channels == 1 else probabilities
    each = []
    for k in range(p.shape[-1]):
        above = below = 0.0
        for i in range(len(labels)):
            y = float(labels[i] == k)
            above += 2 * float(p[i, k]) * y
            below += float(p[i, k]) ** 2 + y**2
        each.append(above / below)
    assert curves.soft_dice(curves.soft_overlaps(labels, probabilities)) == pytest.approx(np.mean(each), rel=1e-6)


def test_soft_dice_without_foreground():
    none = np.zeros(5, int)
    assert curves.soft_dice(curves.soft_overlaps(none, np.zeros((5, 1), np.float32))) == 1.0
    assert curves.soft_dice(curves.soft_overlaps(none, np.full((5, 1), 0.01, np.float32))) == pytest.approx(0.5, 1e-3)


def pairs_in_order(labels, p, k):
    """How often a pixel of class k has the higher probability, over all pairs of pixels."""
    right = [
        1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0
        for i in np.flatnonzero(labels == k)
        for j in np.flatnonzero(labels != k)
    ]
    return np.mean(right)


def steps_of_precision(labels, p, k):
    """Sum over falling cuts of the gain in recall times the precision."""
    area = recall = 0.0
    for cut in sorted(set(p), reverse=True):
        hits = np.sum((p >= cut) & (labels == k))
        now = hits / np.sum(labels == k)
        area, recall = area + (now - recall) * hits / np.sum(p >= cut), now
    return area


@pytest.mark.parametrize("channels", [1, 3])
def test_areas_under_curves(channels):
    labels, probabilities = example(channels)
    counts = curves.histograms(labels, probabilities)
    found = probabilities if channels == 1 else probabilities[:, 1:]
    assert counts.shape == (found.shape[1], 2, curves.BINS) and (counts.sum((1, 2)) == len(labels)).all()
    # As many values as bins they fall into: with one channel all is exact, else near values share a bin.
    tolerance = 1e-12 if channels == 1 else 2e-3
    for k in range(found.shape[1]):
        assert curves.roc_auc(counts)[k] == pytest.approx(pairs_in_order(labels, found[:, k], k + 1), abs=tolerance)
        expected = steps_of_precision(labels, found[:, k], k + 1)
        assert curves.pr_auc(counts)[k] == pytest.approx(expected, abs=10 * tolerance)


def test_sure_networks_are_told_apart():
    """Probabilities next to 0 and 1, where steps of equal width would see one value only."""
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    p = np.array([0, 1e-7, 1e-6, 1e-5, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6, 1], np.float32)
    assert curves.roc_auc(curves.histograms(labels, p[:, None])) == pytest.approx(pairs_in_order(labels, p, 1))


def test_curves_at_their_ends():
    p = np.array([[0.1], [0.2], [0.8], [0.9]], np.float32)
    for labels, roc, pr in (([0, 0, 1, 1], 1.0, 1.0), ([1, 1, 0, 0], 0.0, (1 / 3 + 2 / 4) / 2)):
        counts = curves.histograms(np.array(labels), p)
        assert curves.roc_auc(counts) == pytest.approx(roc) and curves.pr_auc(counts) == pytest.approx(pr)
    same = curves.histograms(np.array([0, 1, 1, 1]), np.full((4, 1), 0.3, np.float32))
    assert curves.roc_auc(same) == pytest.approx(0.5) and curves.pr_auc(same) == pytest.approx(0.75)
    none, all_of_it = (curves.histograms(np.full(4, label), p) for label in (0, 1))
    assert np.isnan(curves.roc_auc(none)).all() and np.isnan(curves.pr_auc(none)).all()
    assert np.isnan(curves.roc_auc(all_of_it)).all() and curves.pr_auc(all_of_it) == pytest.approx(1.0)


def test_mean_of_what_is_known():
    assert curves.known_mean(np.array([1.0, np.nan, 4.0])) == pytest.approx(2.5)
    np.testing.assert_allclose(
        curves.known_mean(np.array([1.0, np.nan, 4.0]), np.array([[3, 9, 1], [0, 1, 0]]))[0], 1.75
    )
    assert np.isnan(curves.known_mean(np.array([1.0, np.nan, 4.0]), np.array([[3, 9, 1], [0, 1, 0]]))[1])
    assert np.isnan(curves.known_mean(np.array([np.nan])))


def surface(mask):
    """Pixels with one of four neighbours outside, or on the border of the image."""
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if not all(
            0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1] and mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


@pytest.mark.parametrize("seed", range(6))
def test_surface_distances(seed):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :40]
    truth = np.hypot(y - random.uniform(5, 25), x - random.uniform(5, 35)) < random.uniform(2, 9)
    prediction = (np.abs(y - 12) < random.uniform(2, 6)) & (np.abs(x - 20) < 9) | (random.uniform(size=y.shape) < 0.01)
    one, other = surface(truth), surface(prediction)
    forth = [min(np.hypot(a - c, b - d) for c, d in other) for a, b in one]
    back = [min(np.hypot(a - c, b - d) for c, d in one) for a, b in other]
    hd95, mean = curves.surface_distances(truth, prediction)
    assert mean == pytest.approx(np.mean(forth + back))
    assert hd95 == pytest.approx(max(percentile(forth, 0.95), percentile(back, 0.95)))
    masks = np.zeros((2, *truth.shape), bool)
    for mask, points in zip(masks, (one, other), strict=True):
        mask[tuple(np.transpose(points))] = True
    assert max(forth + back) == pytest.approx(hausdorff_distance(*masks))
    assert mean <= hd95 <= hausdorff_distance(*masks)
    assert curves.surface_distances(prediction, truth) == pytest.approx((hd95, mean))


def percentile(values, q):
    """Between the two sorted values on both sides of place q (n - 1)."""
    values, place = sorted(values), q * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_surface_distances_by_hand():
    """Two squares, one moved by 3 pixels; and masks that are empty."""
    truth, moved, empty = np.zeros((3, 30, 40), bool)
    truth[5:15, 5:15] = moved[5:15, 8:18] = True
    assert curves.surface_distances(truth, moved)[0] == pytest.approx(3.0)
    assert curves.surface_distances(truth, truth) == (0.0, 0.0)
    assert curves.surface_distances(empty, empty) == (0.0, 0.0)
    assert curves.surface_distances(truth, empty) == curves.surface_distances(empty, truth) == (50.0, 50.0)


def test_surfaces_of_several_classes():
    truth, prediction = np.zeros((2, 30, 40), int)
    truth[5:15, 5:15], prediction[5:15, 8:18] = 2, 2
    tally = curves.surface_tally(truth, prediction, 3)
    np.testing.assert_allclose(tally[0], 1.5)  # class 1 is in neither
    tallies = np.stack([tally, [0, 0, 1]])
    assert curves.surface_scores(tallies.sum(0))["hd95"] == pytest.approx(0.75)
    np.testing.assert_allclose(curves.surface_scores(tallies)["hd95"], [1.5, 0])


def tallies(images=7):
    """Of random images, one of them without foreground."""
    found = []
    for seed in range(images):
        labels, probabilities = example(1, seed, 60)
        found.append(curves.pixel_tally(labels * (seed != 3), probabilities, 0.5))
        found[-1]["surfaces"] = np.array([seed, seed / 2, 1.0])
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def test_intervals_are_those_of_images_drawn_one_by_one():
    counts = tallies()
    found = intervals(counts, 400)
    random = np.random.default_rng(1)
    drawn = {"all_images": [], "mean_over_images": []}
    each = scores_of(counts)
    for _ in range(4000):
        chosen = random.integers(0, 7, 7)
        drawn["all_images"].append(scores_of({name: values[chosen].sum(0) for name, values in counts.items()}))
        drawn["mean_over_images"].append({name: np.nanmean(values[chosen]) for name, values in each.items()})
    for what, values in drawn.items():
        assert list(found[what]) == list(each)
        for name in each:
            expected = np.percentile([value[name] for value in values], [2.5, 97.5])
            spread = max(expected[1] - expected[0], 1e-9)
            np.testing.assert_allclose(found[what][name], expected, atol=0.15 * spread, err_msg=f"{what} {name}")
    assert intervals(counts, 400) == found  # the same seed


def test_intervals_of_equal_images_are_points():
    counts = {name: np.stack([values[0]] * 5) for name, values in tallies().items()}
    for what in intervals(counts, 50).values():
        for name, (low, high) in what.items():
            assert low == pytest.approx(high) == pytest.approx(float(scores_of(counts)[name][0]))


def test_all_scores_of_a_run(tiny_run, tmp_path, capsys):
    """Every score in metrics.json, per_image.csv and the table; those of before are as they were."""
    run = ["--run", str(tiny_run)]
    flags = ["--scores", "instances,surfaces,boundaries", "--bootstrap", "50"]
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


def test_only_the_region_counts(tiny_run, phantoms, region, tmp_path):
    flags = ["--run", str(tiny_run), "--scores", "surfaces,boundaries,instances", "--region", str(region)]
    assert evaluate([*flags, "--output", str(tmp_path / "scores")]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    predictor, wrong, both, sums, distances = Predictor(tiny_run), 0, 0, 0, []
    stems = json.loads((tiny_run / "split.json").read_text())["validation"]
    for stem in stems:
        with Image.open(phantoms / "images" / f"{stem}.png") as image:
            found = predictor.labels(predictor.probabilities(np.asarray(image)[..., None]))[:, :16] > 0
        with Image.open(phantoms / "masks" / f"{stem}.png") as mask:
            truth = np.asarray(mask)[:, :16] > 0
        wrong += np.sum(found != truth) / (32 * 16)
        both, sums = both + 2 * np.sum(found & truth), sums + found.sum() + truth.sum()
        pad = ((0, 0), (0, 16))
        distances.append(curves.surface_distances(np.pad(truth, pad), np.pad(found, pad))[0])
    assert result["pixel_error"] == pytest.approx(wrong / len(stems))
    assert result["dice"] == pytest.approx(both / sums)
    assert result["hd95"] == pytest.approx(np.mean(distances))


def test_what_is_found_outside_of_the_region_does_not_count(tiny_run, phantoms):
    """Truth and prediction agree in the left half; on the right, all is wrong."""
    predictor, label, inside = Predictor(tiny_run), np.zeros((32, 32), np.uint8), np.zeros((32, 32), bool)
    image, mask = (phantoms / kind / "patient-000_slice-00.png" for kind in ("images", "masks"))
    pair = Pair(image.stem, image, (mask,), image.stem)
    objects = read_instances(pair, (32, 32), predictor.config)
    label[objects > 0] = 1
    inside[:, :16] = True
    probabilities = np.where(inside, label, 1 - label).astype(np.float32)[..., np.newaxis]
    found = tally(predictor, pair, label, probabilities, inside, SCORES, Separation(0.5, 0.5, 1))
    assert label[:, :16].any() and label[:, 16:].any()
    result = scores_of(found)
    for name in ("pixel_error", "hd95", "surface_distance", "rand_error", "warping_error"):
        assert result[name] == 0, name
    for name in ("dice", "roc_auc", "soft_dice", "ap_95", "v_rand", "v_info"):
        assert result[name] == pytest.approx(1), name


@pytest.mark.parametrize("fault", ["missing", "size", "empty"])
def test_regions_that_cannot_be_used(fault, tiny_run, region, tmp_path, capsys):
    stem = json.loads((tiny_run / "split.json").read_text())["validation"][0]
    if fault == "missing":
        (region / f"{stem}.png").unlink()
    else:
        Image.fromarray(np.zeros((32, 32) if fault == "empty" else (16, 32), np.uint8)).save(region / f"{stem}.png")
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
        (["--choose-thresholds"], "--choose-thresholds"),
        (["--choose-thresholds", "--scores", "instances", "--split", "all"], "--choose-thresholds"),
    ],
)
def test_wrong_flags(flags, word, tiny_run, tmp_path, capsys):
    assert evaluate(["--run", str(tiny_run), "--output", str(tmp_path / "scores"), *flags]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not (tmp_path / "scores").exists()


def test_labels_of_another_size(tiny_run, phantoms, tmp_path, capsys):
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in (phantoms / "images").iterdir():
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(labels / path.name)
    flags = ["--run", str(tiny_run), "--images", str(phantoms / "images"), "--masks", str(phantoms / "masks")]
    flags += ["--instances", str(labels), "--scores", "instances", "--output", str(tmp_path / "scores")]
    assert evaluate(flags) == 2
    assert "8x9" in capsys.readouterr().err
