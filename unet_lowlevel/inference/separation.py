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
from skimage.segmentation import watershed

from unet_lowlevel.errors import UserError
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.scoring.objects import Objects, class_counts, class_precision, mean_precision, overlaps
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


def foreground_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probability of each class but the background [H, W, max(K - 1, 1)], from those of the network [H, W, K]."""
    classes = probabilities.shape[-1]
    return probabilities[..., 1:] if classes > 2 else 1 - probabilities[..., :1] if classes == 2 else probabilities


def separate(probabilities: np.ndarray, how: Separation) -> Objects:
    """The objects of each class, which do not overlap; those of class 1 are numbered first.

    `find_seeds`, then `grow`, in the probability of each class where it is the greatest; small objects are left out.

    Args:
        probabilities: of each foreground class [H, W, K].
    """
    own = own_probabilities(probabilities)
    grown = [grow(p, find_seeds(p, how.seed_threshold, how.neck), how.threshold, how.neck) for p in own]
    return together(grown, own).without_small(how.smallest_object)


def own_probabilities(probabilities: np.ndarray) -> list[np.ndarray]:
    """The probability of each class where it is the greatest of [H, W, K], the first among equals; 0 elsewhere."""
    classes = probabilities.shape[-1]
    if classes == 1:
        return [probabilities[..., 0]]
    greatest = probabilities.argmax(-1)
    return [np.where(greatest == k, probabilities[..., k], 0) for k in range(classes)]


def together(grown: list[np.ndarray], own: list[np.ndarray]) -> Objects:
    """The objects that were grown in each of the `own_probabilities`, in one image.

    Where holes are filled, objects of several classes can overlap: a cell around a nucleus. The pixel then belongs to
    the class whose own it is, else to the first of them.
    """
    numbers, counts = grown[0], [int(objects.max()) for objects in grown]
    for k in range(1, len(grown)):
        here = (grown[k] > 0) & ((numbers == 0) | (own[k] > 0))
        numbers = np.where(here, grown[k] + sum(counts[:k]), numbers)
    return Objects(numbers, np.repeat(np.arange(1, len(grown) + 1), counts))


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


class TooManyObjects(UserError):
    """An image has more objects than can be written."""


def as_uint16(objects: np.ndarray, image: object) -> np.ndarray:
    """The numbers as uint16, to be written; `TooManyObjects` names the `image` if there are too many."""
    if objects.max() > 65535:
        raise TooManyObjects(
            f"--instances finds {objects.max()} objects in {image}, but 16 bits number no more than 65535: predict "
            "parts of the image, or leave the flag out."
        )
    return objects.astype(np.uint16)


def choose_separation(images: Iterable[tuple[Objects, np.ndarray]]) -> Separation:
    """The best of `GRID` by average precision at IoU 0.5 over all objects of the images; the first among equals.

    Average precision is the mean over classes, see `objects.average_precision`.

    Args:
        images: true objects, and the probability of each foreground class [H, W, K], of each image.
    """
    counts: dict[Separation, np.ndarray] = collections.defaultdict(lambda: np.int64(0))
    for truth, probabilities in images:
        own = own_probabilities(probabilities)
        for seed_threshold, neck in itertools.product(GRID["seed_threshold"], GRID["neck"]):
            seeds = [find_seeds(p, seed_threshold, neck) for p in own]
            for threshold in GRID["threshold"]:
                if threshold > seed_threshold:
                    continue
                found = together([grow(p, s, threshold, neck) for p, s in zip(own, seeds, strict=True)], own)
                pairs, iou = overlaps(truth, found)
                for smallest in GRID["smallest_object"]:
                    large = np.where(found.areas >= smallest, found.classes, 0)
                    counts[Separation(threshold, seed_threshold, smallest, neck)] += class_counts(
                        truth.classes, large, pairs[:, iou >= 0.5], len(own) + 1
                    )
    return max(counts, key=lambda how: mean_precision(class_precision(counts[how])))


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
