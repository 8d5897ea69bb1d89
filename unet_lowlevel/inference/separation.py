"""From probabilities to single objects."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    generate_binary_structure,
)
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from unet_lowlevel.errors import UserError
from unet_lowlevel.run_folder import store
from unet_lowlevel.scoring.objects import Objects, average_precision, counts_at_each, overlaps
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
        smoothing: standard deviation in pixels of the Gaussian that smooths the probabilities first; 0: none.
        border: 1: objects that touch get the border back that a network trained with --weight-map leaves between
            them, see `give_back`; 0: they do not.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.8
    smallest_object: int = 10
    neck: float = 0.0
    smoothing: float = 0.0
    border: int = 0


# What `choose_separation` tries first. Necks and smoothing are parts of the median width of the objects, smallest
# objects parts of the area that 5 % of them do not reach.
START = {"neck": 1 / 16, "seed_threshold": 0.8, "smoothing": 0.0, "threshold": 0.5, "smallest_object": 1 / 4}
GRID = {
    "neck": (0.0, 1 / 32, 1 / 8, 1 / 4),
    "seed_threshold": (0.5, 0.6, 0.7, 0.9, 0.95, 0.99),
    "smoothing": (1 / 32, 1 / 16, 1 / 8),
    "threshold": (0.2, 0.3, 0.4, 0.6, 0.7, 0.8),
}
SMALLEST = (0, 1 / 16, 1 / 8, 1 / 2, 3 / 4, 1)
# Then, around the best: lengths times these factors, and thresholds plus these steps.
FACTORS = (2 / 3, 4 / 3)
STEPS = (-0.05, -0.025, 0.025, 0.05)
ROUNDS = 2


def foreground_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probability of each class but the background [H, W, max(K - 1, 1)], from those of the network [H, W, K]."""
    classes = probabilities.shape[-1]
    return probabilities[..., 1:] if classes > 2 else 1 - probabilities[..., :1] if classes == 2 else probabilities


def separate(probabilities: np.ndarray, how: Separation) -> Objects:
    """The objects of each class, which do not overlap; those of class 1 are numbered first.

    `smoothed`, then `find_seeds`, `grow` and `give_back` in the probability of each class where it is the greatest;
    small objects are left out.

    Args:
        probabilities: of each foreground class [H, W, K].
    """
    own = own_probabilities(smoothed(probabilities, how.smoothing))
    return together([grow(p, find_seeds(p, how.seed_threshold, how.neck), how) for p in own], own).without_small(
        how.smallest_object
    )


def smoothed(probabilities: np.ndarray, smoothing: float) -> np.ndarray:
    """[H, W, K] smoothed by a Gaussian of so many pixels; beyond the edge of the image the nearest pixel counts."""
    return gaussian_filter(probabilities, (smoothing, smoothing, 0), mode="nearest") if smoothing else probabilities


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
    lowered, parts = depth - neck, label(core, connectivity=1)
    for number, box in enumerate(find_objects(parts), start=1):  # most of an image is outside, where time is lost
        here = parts[box] == number
        inside = np.where(here, depth[box], -neck)
        lowered[box][here] = reconstruction(inside - neck, inside, footprint=by_edges)[here]
    return label(core & local_maxima(lowered, footprint=by_edges), connectivity=1)


def grow(probability: np.ndarray, seeds: np.ndarray, how: Separation) -> np.ndarray:
    """Seeds grown from high probabilities to low ones, down to the threshold, until they meet (watershed)."""
    grown = watershed(-probability, seeds, mask=above(probability, how.threshold, how.neck))
    return give_back(grown) if how.border else grown


def give_back(numbers: np.ndarray) -> np.ndarray:
    """Objects with the border back that `weight_maps.separation_border` takes from the training target.

    It takes the pixels of an object that share an edge with another object. So a pixel beside the remaining object a
    has no other object at its edges, but a pixel at its edges that is beside another one:

        owner(x) = a  where numbers(x) = 0 and a is the only object at the edges of x, else 0
        x joins a     where owner(x) = a, and owner(y) is neither 0 nor a for a pixel y at the edges of x

    Then once more, for the corners of objects, which are beside pixels that have joined: such an x has an owner only if
    all pixels at its edges belong to objects or have an owner, so that no object grows into a gap that widens.

    The target of the objects returned is always that of the objects given: where two objects are two pixels apart, they
    may have touched or not, which the target does not tell, and they are taken to touch. Where three objects meet, one
    or two pixels that could be of several of them stay background.

    Args:
        numbers: whole numbers [H, W], one for each object, 0 the background.
    """
    grown = np.pad(numbers, 1)
    flat, edges = grown.reshape(-1), np.array([-grown.shape[1], -1, 1, grown.shape[1]])
    outside = np.pad(np.zeros(numbers.shape, bool), 1, constant_values=True).reshape(-1)
    beside = first = beside_objects(grown)
    for _ in range(2):
        pixels = np.flatnonzero(beside & (flat == 0) & ~outside)
        around = flat[pixels[:, np.newaxis] + edges]
        most = around.max(1)
        alone = np.where(around > 0, around, most[:, np.newaxis]).min(1) == most
        pixels, owner = pixels[alone], np.zeros_like(flat)
        owner[pixels] = most[alone]
        known = outside | (flat > 0) | (owner > 0)
        owner[pixels[~(first[pixels] | known[pixels[:, np.newaxis] + edges].all(1))]] = 0
        own, others = owner[pixels], owner[pixels[:, np.newaxis] + edges]
        joins = ((others > 0) & (others != own[:, np.newaxis])).any(1)
        flat[pixels[joins]] = own[joins]
        beside = beside_objects(grown)
    return grown[1:-1, 1:-1]


def beside_objects(padded: np.ndarray) -> np.ndarray:
    """Where a pixel of an image with a border of 0 shares an edge with an object: bool [H W]."""
    objects, found = padded > 0, np.zeros(padded.shape, bool)
    found[1:-1, 1:-1] = objects[:-2, 1:-1] | objects[2:, 1:-1] | objects[1:-1, :-2] | objects[1:-1, 2:]
    return found.reshape(-1)


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


def choose_separation(images: Iterable[tuple[Objects, np.ndarray]], border: int = 0) -> Separation:
    """The best that a coordinate search finds, by average precision over all objects of the images.

    It is the mean over IoU 0.5, 0.55, ... 0.95 (2018 Data Science Bowl): at 0.5 alone the outlines would not matter.

    The scale is that of the true objects, see `scales`. The search begins at `START`. It tries the values of `GRID` for
    one parameter while the others stay, goes on from the best, and takes the next parameter, in the order of `GRID`.
    After a round in which nothing was better it tries finer values (`FACTORS`, `STEPS`) in the same way. It makes at
    most `ROUNDS` rounds with either. With all of these values, all of `SMALLEST` are tried, which costs nothing. What
    is not better than an earlier one is not taken, so that the result does not depend on chance.

    At most 70 separations of each image, usually about 45. See `objects.average_precision`.

    Args:
        images: true objects, and the probability of each foreground class [H, W, K], of each image; all in memory.
        border: that of the result.
    """
    images = list(images)
    area, width = scales([truth for truth, _ in images])
    unit = {"neck": width, "smoothing": width, "threshold": 1.0, "seed_threshold": 1.0}
    first = {name: START[name] * unit[name] for name in GRID}
    how = Separation(**first, smallest_object=round(START["smallest_object"] * area), border=border)
    smallest = [round(part * area) for part in SMALLEST]
    known: dict[Separation, float] = {}

    def better(how: Separation, name: str, values: Iterable[Any]) -> Separation:
        """The best of `how` and what becomes of it with other values."""
        tried = [how, *(dataclasses.replace(how, **{name: value}) for value in values)]
        tried = [one for one in tried if one.threshold <= one.seed_threshold < 1]
        every = [one for each in tried for one in (each, *of_sizes(each, smallest))]
        known.update(precision(images, [each for each in tried if each not in known], smallest))
        return max(every, key=lambda one: known[one])

    for fine in (False, True):
        for _ in range(ROUNDS):
            before = how
            for name in GRID:
                value = getattr(how, name)
                if not fine:
                    values = [part * unit[name] for part in GRID[name]]
                elif unit[name] == 1:
                    values = [round(value + step, 3) for step in STEPS]
                else:
                    values = [value * factor for factor in FACTORS] if value else []
                how = better(how, name, values)
            if how == before:
                break
    return how


def of_sizes(how: Separation, smallest: Iterable[int]) -> list[Separation]:
    return [dataclasses.replace(how, smallest_object=size) for size in smallest]


def scales(truths: Iterable[Objects]) -> tuple[float, float]:
    """The area in pixels that 5 % of the objects do not reach, and the median of their largest widths; 1, 1 for none.

    The largest width of an object is twice the greatest distance of a pixel in it to the nearest outside: about the
    diameter of the largest disc that lies in it.
    """
    areas, widths = [1.0], [1.0]
    for truth in truths:
        areas.extend(truth.areas)
        for number, box in enumerate(find_objects(truth.numbers), start=1):
            widths.append(2 * distance_transform_edt(np.pad(truth.numbers[box] == number, 1)).max())
    return (float(np.percentile(areas[1:] or areas, 5)), float(np.median(widths[1:] or widths)))


def precision(
    images: Iterable[tuple[Objects, np.ndarray]], hows: Sequence[Separation], smallest: Sequence[int]
) -> dict[Separation, float]:
    """Average precision over all objects of the images: of each of `hows`, and of it with each `smallest`.

    What several of them share is computed once for an image.
    """
    counts: dict[Separation, np.ndarray] = {}
    for truth, probabilities in images:
        own = functools.cache(lambda smoothing, p=probabilities: own_probabilities(smoothed(p, smoothing)))
        seeds = functools.cache(
            lambda smoothing, seed, neck, own=own: [find_seeds(p, seed, neck) for p in own(smoothing)]
        )
        for how in hows:
            of_classes = own(how.smoothing)
            middles = seeds(how.smoothing, how.seed_threshold, how.neck)
            found = together([grow(p, s, how) for p, s in zip(of_classes, middles, strict=True)], of_classes)
            pairs, areas = overlaps(truth, found), found.areas
            for one in {how, *of_sizes(how, smallest)}:
                large = np.where(areas >= one.smallest_object, found.classes, 0)
                hits = counts_at_each(truth.classes, large, *pairs, len(of_classes) + 1)
                counts[one] = counts.get(one, 0) + hits
    return {how: float(average_precision(count)["ap"]) for how, count in counts.items()}


def write_separation(run: Path, how: Separation) -> None:
    """Stores the separation in the run folder, or raises a `UserError`."""
    store(run, FILE, dataclasses.asdict(how))


def read_separation(run: Path, default: Separation = Separation()) -> Separation:
    """The separation stored in the run folder, else the default; without smoothing and border if they are not there.

    Raises:
        UserError: when the file cannot be used.
    """
    if not (run / FILE).exists():
        return default
    values = load_json(run / FILE)
    names = [item.name for item in dataclasses.fields(Separation)]
    if not (
        isinstance(values, dict)
        and set(names[:4]) <= values.keys() <= set(names)  # of earlier runs, only four
        and all(type(value) in (int, float) and 0 <= value < math.inf for value in values.values())
    ):
        raise UserError(
            f"{run / FILE} does not hold the numbers {', '.join(names)}, 0 or more: choose them again, or remove it."
        )
    return Separation(**values)
