"""The scores of many images together: of all pixels, means, the worst images, and intervals by bootstrap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_lowlevel.scoring.counts import class_scores
from unet_lowlevel.scoring.curves import known_mean
from unet_lowlevel.scoring.scorers import scores_of

# How many of the worst images are named.
WORST = 5


def summarized(
    stems: Sequence[str], counts: dict[str, np.ndarray], groups: Mapping[str, str], bootstrap: int
) -> dict[str, Any]:
    """The scores of images, for JSON.

    Args:
        stems: of the images.
        counts: of each, stacked; see `scores_of`.
        groups: {stem: group}, for intervals.
        bootstrap: number of data sets drawn for them; 0: no intervals. There are none either where all images are of
            one group.

    Returns:
        every score of all images together; images (their number), mean_over_images (the same scores, averaged over the
        images), per_class (Dice, IoU, precision, recall of every class), worst ({stem: Dice} of the `WORST` images),
        and intervals, see there. An undefined score is None.
    """
    pooled, per_image = scores_of({name: values.sum(0) for name, values in counts.items()}), scores_of(counts)
    classes = class_scores(counts["confusion"].sum(0))
    found: dict[str, Any] = {
        **{name: number(value) for name, value in pooled.items()},
        "images": len(stems),
        "mean_over_images": {name: number(known_mean(values)) for name, values in per_image.items()},
        "per_class": [
            {"class": k} | {name: float(values[k]) for name, values in classes.items()}
            for k in range(len(classes["iou"]))
        ],
        "worst": {
            stems[i]: float(per_image["dice"][i]) for i in np.argsort(per_image["dice"], kind="stable")[:WORST].tolist()
        },
    }
    of_images = [groups[stem] for stem in stems if bootstrap]
    return found | ({"intervals": intervals(counts, bootstrap, of_images)} if len(set(of_images)) > 1 else {})


def intervals(counts: dict[str, np.ndarray], repeats: int, groups: Sequence[str]) -> dict[str, dict[str, list]]:
    """95 % intervals by bootstrap: the scores of as many groups of images, drawn from these with repetition.

    Images of one patient resemble each other. Drawn one by one they would make the intervals too narrow.

    Args:
        counts: `counts_of` the images, stacked.
        repeats: how often to draw; the seed is fixed.
        groups: of each image.

    Returns:
        {"all_images": {score: [2.5th, 97.5th percentile]}, "mean_over_images": the same of the mean}
    """
    per_image = scores_of(counts)
    names, group = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(names.size, np.full(names.size, 1 / names.size), repeats)[:, group]
    drawn = drawn.astype(np.float64)  # in which sums of counts are exact too, and several times as fast
    pooled = scores_of({name: np.tensordot(drawn, values, 1) for name, values in counts.items()})
    means = {name: known_mean(values, drawn) for name, values in per_image.items()}
    return {
        what: {name: [number(bound) for bound in bounds(values)] for name, values in found.items()}
        for what, found in (("all_images", pooled), ("mean_over_images", means))
    }


def bounds(values: np.ndarray) -> np.ndarray:
    """The 2.5th and the 97.5th percentile of the values that are not NaN."""
    known = values[~np.isnan(values)]
    return np.percentile(known, [2.5, 97.5]) if known.size else np.full(2, np.nan)


def number(value: np.ndarray) -> float | None:
    """A score for JSON and CSV: None in place of NaN, which JSON lacks."""
    return None if np.isnan(value) else float(value)
