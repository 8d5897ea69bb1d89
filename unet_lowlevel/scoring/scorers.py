"""The table of scorers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unet_lowlevel.scoring.boundaries import boundary_scores, boundary_sums
from unet_lowlevel.scoring.curves import pixel_scores
from unet_lowlevel.scoring.objects import Objects, average_precision, match_counts
from unet_lowlevel.scoring.surfaces import surface_scores, surface_sums


@dataclass(frozen=True)
class ScoredImage:
    """The input of scorers; pixels that do not count are 0 in all arrays.

    Attributes:
        label, prediction: the class of each pixel, int [H, W].
        probabilities: of each foreground class [H, W, classes - 1].
        pixels: how many pixels count.
        classes: at least 2.
        read_objects: gives the true objects.
        find_objects: makes the predicted objects of `probabilities`.
    """

    label: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray
    pixels: int
    classes: int
    read_objects: Callable[[], Objects]
    find_objects: Callable[[np.ndarray], Objects]

    @functools.cached_property
    def objects(self) -> Objects:
        return self.read_objects()


@dataclass(frozen=True)
class Scorer:
    """`count` gives an image's counts; `scores` makes {name: [...]} of counts [..., *shape] or of their sums."""

    count: Callable[[ScoredImage], np.ndarray]
    scores: Callable[[np.ndarray], dict[str, np.ndarray]]


def boundaries_within_classes(image: ScoredImage) -> np.ndarray:
    """Means over the foreground classes of `boundary_sums`."""
    each = [
        boundary_sums(image.objects.of_class(k), image.label == k, image.probabilities[..., k - 1], image.pixels)
        for k in range(1, image.classes)
    ]
    return np.mean(each, 0)


SCORERS = {
    "instances": Scorer(
        lambda image: match_counts(image.objects, image.find_objects(image.probabilities), image.classes),
        average_precision,
    ),
    "surfaces": Scorer(lambda image: surface_sums(image.label, image.prediction, image.classes), surface_scores),
    "boundaries": Scorer(boundaries_within_classes, boundary_scores),
}


def scores_of(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every score {name: [...]} from the counts of images [...] or their sums: of pixels, and of counted `SCORERS`."""
    found = [scorer.scores(counts[name]) for name, scorer in SCORERS.items() if name in counts]
    return functools.reduce(dict.__or__, found, pixel_scores(counts))
