"""From probabilities to single objects."""

import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, generate_binary_structure
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import relabel_sequential, watershed

from unet_lowlevel.errors import UserError
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.scoring.objects import greatest_matching, overlaps
from unet_lowlevel.settings import load_json

FILE = "instances.json"


@dataclass(frozen=True)
class Separation:
    """How objects are separated.

    Attributes:
        threshold: probability from which a pixel belongs to an object.
        seed_threshold: probability reached in the middle of each object; where it is lower, objects are split.
        smallest_object: in pixels; smaller ones are left out.
        neck: in pixels; a region above `seed_threshold` that narrows by this much is two objects, and holes are filled:
            see `find_seeds`. 0: only probabilities separate objects.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.8
    smallest_object: int = 10
    neck: float = 0.0


# What `choose_separation` tries.
GRID = {
    "threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "seed_threshold": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "smallest_object": (1, 10, 30, 50, 100),
    "neck": (0.0, 1.0, 2.0),
}


def foreground_probability(probabilities: np.ndarray) -> np.ndarray:
    """Probability of any class but the background [H, W], from those of the network [H, W, K]."""
    return probabilities[..., 0] if probabilities.shape[-1] == 1 else 1 - probabilities[..., 0]


def separate(probability: np.ndarray, how: Separation) -> np.ndarray:
    """The number of the object that each pixel belongs to, int32 [H, W], 0 for the background.

    `find_seeds`, then `grow`; small objects are left out.

    Args:
        probability: of the foreground [H, W].
    """
    seeds = find_seeds(probability, how.seed_threshold, how.neck)
    return without_small(grow(probability, seeds, how.threshold, how.neck), how.smallest_object)


def find_seeds(probability: np.ndarray, seed_threshold: float, neck: float) -> np.ndarray:
    """The middle of each object, int32 [H, W], numbered from 1.

    Without a `neck`: connected components (by edges) of `probability` >= `seed_threshold`. With a `neck` in pixels: the
    deepest places in them, holes filled. Depth is the distance to the outside; seeds are its regional maxima after all
    maxima are lowered by `neck` (reconstruction by dilation). So two maxima stay apart only if the depth drops by more
    than `neck` between them.
    """
    core = above(probability, seed_threshold, neck)
    if not neck:
        return label(core, connectivity=1)
    depth = np.where(core, distance_transform_edt(core), -neck)  # so low that a single pixel is a maximum
    by_edges = generate_binary_structure(2, 1)
    lowered = reconstruction(depth - neck, depth, footprint=by_edges)
    return label(core & local_maxima(lowered, footprint=by_edges), connectivity=1)


def grow(probability: np.ndarray, seeds: np.ndarray, threshold: float, neck: float) -> np.ndarray:
    """Seeds grown from high probabilities to low ones, down to `threshold`, until they meet (watershed)."""
    return watershed(-probability, seeds, mask=above(probability, threshold, neck))


def above(probability: np.ndarray, threshold: float, neck: float) -> np.ndarray:
    """Where the probability is at least `threshold`, bool [H, W]; with a `neck` holes are filled."""
    mask = probability >= threshold
    return binary_fill_holes(mask) if neck else mask


def without_small(objects: np.ndarray, smallest: int) -> np.ndarray:
    """The objects of at least `smallest` pixels, numbered from 1 in their order; int32."""
    keep = np.bincount(objects.reshape(-1)) >= smallest
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[objects]


def as_uint16(objects: np.ndarray) -> np.ndarray:
    """The numbers as uint16, to be written; a `UserError` if there are too many."""
    if objects.max() > 65535:
        raise UserError(
            f"--instances finds {objects.max()} objects in an image, but 16 bits number no more than 65535: predict "
            "parts of the image, or leave the flag out."
        )
    return objects.astype(np.uint16)


def choose_separation(images: Iterable[tuple[np.ndarray, np.ndarray]]) -> Separation:
    """The best of `GRID` by average precision at IoU 0.5 over all objects of the images; the first among equals.

    Args:
        images: true objects int [H, W] and probability of the foreground [H, W], of each image.
    """
    counts = collections.defaultdict(lambda: np.zeros(3, np.int64))
    for truth, probability in images:
        truth = relabel_sequential(truth)[0]
        for seed_threshold, neck in itertools.product(GRID["seed_threshold"], GRID["neck"]):
            seeds = find_seeds(probability, seed_threshold, neck)
            for threshold in GRID["threshold"]:
                if threshold > seed_threshold:
                    continue
                true, predicted, pairs, iou = overlaps(truth, grow(probability, seeds, threshold, neck))
                for smallest in GRID["smallest_object"]:
                    large = predicted >= smallest
                    hits = greatest_matching(pairs[:, (iou >= 0.5) & large[pairs[1]]])
                    counts[Separation(threshold, seed_threshold, smallest, neck)] += (
                        hits,
                        np.count_nonzero(large) - hits,
                        true.size - hits,
                    )
    return max(counts, key=lambda how: counts[how][0] / max(counts[how].sum(), 1))


def write_separation(run: Path, how: Separation) -> None:
    """Stores the separation in the run folder, or raises a `UserError`."""
    try:
        write_text(run / FILE, json.dumps(dataclasses.asdict(how), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--run {run} cannot be written to ({error.strerror}): allow it, or copy the run.") from None


def read_separation(run: Path) -> Separation:
    """The separation stored in the run folder, else the defaults.

    Raises:
        UserError: when the file cannot be used.
    """
    if not (run / FILE).exists():
        return Separation()
    values = load_json(run / FILE)
    names = [item.name for item in dataclasses.fields(Separation)]
    if not (
        isinstance(values, dict)
        and sorted(values) == sorted(names)
        and all(type(value) in (int, float) and 0 <= value < math.inf for value in values.values())
    ):
        raise UserError(
            f"{run / FILE} does not hold the numbers {', '.join(names)}, 0 or more: choose them again, or remove it."
        )
    return Separation(**values)
