"""The table of scorers: it has what --scores names, and scores of sums are those of all images."""

import numpy as np
import pytest

from unet_lowlevel import scoring
from unet_lowlevel.scoring.boundaries import boundary_scores, boundary_sums
from unet_lowlevel.scoring.curves import pixel_counts, pixel_scores
from unet_lowlevel.scoring.objects import Objects, average_precision, match_counts
from unet_lowlevel.scoring.scorers import SCORERS, ScoredImage, scores_of
from unet_lowlevel.scoring.surfaces import surface_scores, surface_sums


def scored_image(seed: int = 0, classes: int = 2) -> tuple[ScoredImage, list]:
    """Random pixels, and what has been asked for: true objects as "true", predicted ones as their probabilities."""
    random, asked = np.random.default_rng(seed), []
    label, prediction = random.integers(0, classes, (2, 6, 7))
    probabilities = random.uniform(size=(6, 7, classes - 1)).astype(np.float32)
    numbers = random.integers(0, 4, (6, 7))

    def read():
        asked.append("true")
        return Objects(numbers, np.arange(numbers.max()) % (classes - 1) + 1)

    def find(foreground):
        asked.append(foreground)
        return found(foreground)

    return ScoredImage(label, prediction, probabilities, label.size, classes, read, find), asked


def found(probabilities):
    """One object, of the last class."""
    return Objects((probabilities[..., -1] > 0.5).astype(int), np.array([probabilities.shape[-1]]))


def test_the_table_has_what_can_be_asked_for():
    assert tuple(SCORERS) == scoring.SCORES == ("instances", "surfaces", "boundaries")


def test_every_scorer_hands_on_what_it_counts():
    image, asked = scored_image(classes=3)
    instances = SCORERS["instances"].count(image)
    assert asked[0] == "true" and asked[1] is image.probabilities
    np.testing.assert_array_equal(instances, match_counts(image.objects, found(image.probabilities), 3))
    surfaces = SCORERS["surfaces"].count(image)
    np.testing.assert_array_equal(surfaces, surface_sums(image.label, image.prediction, 3))
    boundaries = SCORERS["boundaries"].count(image)
    assert image.objects.classes.tolist() == [1, 2, 1]
    one = boundary_sums(
        np.where(image.objects.numbers == 2, 0, image.objects.numbers),
        image.label == 1,
        image.probabilities[..., 0],
        image.pixels,
    )
    two = boundary_sums(
        np.where(image.objects.numbers == 2, 2, 0), image.label == 2, image.probabilities[..., 1], image.pixels
    )
    np.testing.assert_allclose(boundaries, (one + two) / 2)
    assert len(asked) == 2  # true objects are read once, whoever asks
    for counts, name, scores in [
        (instances, "instances", average_precision),
        (surfaces, "surfaces", surface_scores),
        (boundaries, "boundaries", boundary_scores),
    ]:
        np.testing.assert_equal(SCORERS[name].scores(counts), scores(counts))


def test_true_objects_are_read_only_where_they_are_scored():
    image, asked = scored_image()
    SCORERS["surfaces"].count(image)
    assert asked == []


def test_scores_of_everything_counted():
    """Of single pixels, then of each scorer that has counted, in the order of the table; of each image, and of sums."""
    counted = []
    for seed in range(4):
        image, _ = scored_image(seed)
        pixels = pixel_counts(image.label.ravel(), image.probabilities.reshape(-1, 1), 0.5)
        counted.append(pixels | {name: scorer.count(image) for name, scorer in reversed(SCORERS.items())})
    counts = {name: np.stack([each[name] for each in counted]) for name in counted[0]}
    pixels, everything = pixel_scores(counts), scores_of(counts)
    parts = [average_precision(counts["instances"]), surface_scores(counts["surfaces"])]
    parts.append(boundary_scores(counts["boundaries"]))
    expected = pixels | parts[0] | parts[1] | parts[2]
    assert len(expected) == len(pixels) + sum(map(len, parts))  # no name means two things
    assert list(everything) == list(expected)
    for name, values in everything.items():
        assert values.shape == (4,)
        np.testing.assert_array_equal(values, expected[name])
        each = [scores_of(counts_of_one)[name] for counts_of_one in counted]
        np.testing.assert_allclose(values, each)
    without = {name: values for name, values in counts.items() if name != "surfaces"}
    assert list(scores_of(without)) == [name for name in expected if name not in surface_scores(counts["surfaces"])]
    pooled = scores_of({name: values.sum(0) for name, values in counts.items()})
    assert pooled["hd95"] == pytest.approx(everything["hd95"].mean())
    assert pooled["dice"] != pytest.approx(everything["dice"].mean(), rel=1e-6)
