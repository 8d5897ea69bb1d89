"""Chooses the thresholds of a run on images with masks: that of the mask, and those that separate objects."""

import contextlib
from pathlib import Path

import numpy as np

from unet_lowlevel import run_folder
from unet_lowlevel.config import IGNORED
from unet_lowlevel.data.files import Pair, find_pairs
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.data.splits import pairs_of
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.separation import Separation, choose_separation, foreground_probabilities, write_separation
from unet_lowlevel.inference.threshold import (
    CANDIDATES,
    FILE,
    choose_threshold,
    counts_at,
    counts_of_candidates,
    dice_of,
    write_threshold,
)
from unet_lowlevel.scoring.objects import Objects
from unet_lowlevel.terminal import Progress, note, progress, say

# Of so many pixels `choose_best` takes images for objects: 64 MiB of probabilities for a foreground class.
PIXELS = 2**24


def store_thresholds(run: Path) -> dict[str, dict[str, np.ndarray]]:
    """Chooses thresholds on the held-out images of a run and stores them there; see `choose_best`.

    That of the mask, if it has one class and --threshold gives none. Those that separate objects, if the images have
    instance labels or a mask for each object.

    The training is over: what goes wrong now is a note.

    Returns:
        {stem: `counts.probability_counts`} of the held-out images at the threshold of the mask, if it was chosen.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        config, _, split = run_folder.read(run)
        pairs = pairs_of(find_pairs(config.data), split, "validation")
        mask = config.model.classes == 1 and not config.training.threshold
        objects = any(pair.tells_objects for pair in pairs)
        if not mask and not objects:
            return found
        what = ["the threshold of the mask"] * mask + ["the thresholds that separate objects"] * objects
        say(f"choosing on held-out images {' and '.join(what)}")
        if mask:
            with contextlib.suppress(OSError):  # then the new one cannot be written either, which is said there
                (run / FILE).unlink(missing_ok=True)  # of other weights, and perhaps damaged
        predictor = load(run)
        counts, separation = choose_best(predictor, pairs, mask=mask, objects=objects, progress=progress("predicting"))
        if mask:
            dice = dice_of(np.stack([*counts.values()]))
            threshold, mean = choose_threshold(dice), dict(zip(CANDIDATES, dice.mean(0), strict=True))
            write_threshold(run, threshold)
            found = {stem: counts_at(counted, threshold) for stem, counted in counts.items()}
            say(
                f"threshold of the mask: {threshold:g}, mean Dice of the held-out images {mean[threshold]:.4f} "
                f"(at 0.5: {mean[0.5]:.4f})"
            )
        if objects:
            write_separation(run, separation)
    except UserError as error:
        note(f"no thresholds were chosen: {error}")
    return found


def choose_best(
    predictor: Predictor, pairs: list[Pair], *, mask: bool, objects: bool, progress: Progress = lambda items: items
) -> tuple[dict[str, np.ndarray], Separation]:
    """What images with masks say of the thresholds; each of them is predicted once.

    The images are taken in a random order, always the same. Those of the first `PIXELS` pixels choose how objects are
    separated, for which their probabilities are in memory; the others are predicted for the `mask` only.

    Returns:
        {stem: `counts_of_candidates`} of every image, if the threshold of the `mask` is asked for; `choose_separation`,
        if that of `objects` is.
    """
    counts: dict[str, np.ndarray] = {}
    known: list[tuple[Objects, np.ndarray]] = []
    pixels = 0
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    for pair, sample in zip(pairs, decoded(progress(pairs), predictor.config), strict=True):
        predictor.check_channels(sample.image, pair.image)
        probabilities = predictor.probabilities(sample.image)
        if mask:
            counts[pair.stem] = counts_of_candidates(sample.label, probabilities)
        if objects and pixels < PIXELS:
            probabilities = foreground_probabilities(probabilities)
            probabilities = np.where((sample.label != IGNORED)[..., np.newaxis], probabilities, 0)
            known.append((Objects(*read_objects(pair, sample.label, predictor.config)), probabilities))
            pixels += sample.label.size
        if not mask and pixels >= PIXELS:
            break
    border = int(predictor.config.loss.weight_map)
    return counts, choose_separation(known, border) if objects else Separation(border=border)
