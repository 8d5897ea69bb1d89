"""The table of scorers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unet_lowlevel.scoring.boundaries import boundary_scores, boundary_sums
from unet_lowlevel.scoring.curves import pixel_scores
from unet_lowlevel.scoring.objects import average_precision, match_counts
from unet_lowlevel.scoring.surfaces import surface_scores, surface_sums


@dataclass(frozen=True)
class ScoredImage:
    """The input of scorers; pixels that do not count are 0 in all arrays.

    Attributes:
        label, prediction: the class of each pixel, int [H, W].
        probability: of the foreground [H, W].
        pixels: how many pixels count.
        classes: at least 2.
        read_objects: gives the number of the true object at each pixel, int [H, W].
        find_objects: makes the numbers of the predicted objects, int [H, W], of `probability`.
    """

    label: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray
    pixels: int
    classes: int
    read_objects: Callable[[], np.ndarray]
    find_objects: Callable[[np.ndarray], np.ndarray]

    @functools.cached_property
    def objects(self) -> np.ndarray:
        return self.read_objects()


@dataclass(frozen=True)
class Scorer:
    """`count` gives an image's counts; `scores` makes {name: [...]} of counts [..., *shape] or of their sums."""

    count: Callable[[ScoredImage], np.ndarray]
    scores: Callable[[np.ndarray], dict[str, np.ndarray]]


SCORERS = {
    "instances": Scorer(
        lambda image: match_counts(image.objects, image.find_objects(image.probability)), average_precision
    ),
    "surfaces": Scorer(lambda image: surface_sums(image.label, image.prediction, image.classes), surface_scores),
    "boundaries": Scorer(
        lambda image: boundary_sums(image.objects, image.label > 0, image.probability, image.pixels), boundary_scores
    ),
}


def scores_of(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every score {name: [...]} from the counts of images [...] or their sums: of pixels, and of counted `SCORERS`."""
    found = [scorer.scores(counts[name]) for name, scorer in SCORERS.items() if name in counts]
    return functools.reduce(dict.__or__, found, pixel_scores(counts))
