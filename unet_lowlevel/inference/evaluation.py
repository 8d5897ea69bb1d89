"""Scores of a trained run on images whose masks are known."""

import contextlib
import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_lowlevel import run_folder
from unet_lowlevel.config import IGNORED, Config
from unet_lowlevel.data.files import Pair, find_pairs, list_images, read_pixels
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import refuse_existing, write_image
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.resolution import resized_image, resized_numbers
from unet_lowlevel.data.samples import Sample, decoded
from unet_lowlevel.data.splits import matched_group
from unet_lowlevel.errors import UserError, listed, reason
from unet_lowlevel.inference import SPLITS, changed
from unet_lowlevel.inference.model_card import BOOTSTRAP, WORST, model_card, stored_card, write_card
from unet_lowlevel.inference.model_card import FILE as CARD
from unet_lowlevel.inference.predictor import Predictor, as_paths, load
from unet_lowlevel.inference.separation import (
    Separation,
    choose_separation,
    foreground_probabilities,
    separate,
    write_separation,
)
from unet_lowlevel.inference.threshold import (
    CANDIDATES,
    choose_threshold,
    counts_at,
    counts_of_candidates,
    dice_of,
    write_threshold,
)
from unet_lowlevel.inference.threshold import FILE as THRESHOLD
from unet_lowlevel.pictures import Tile, contact_sheet, evenly, fitting, headings, panels
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.scoring import check_scores, score_text
from unet_lowlevel.scoring.counts import class_scores
from unet_lowlevel.scoring.curves import known_mean, pixel_counts
from unet_lowlevel.scoring.objects import Objects
from unet_lowlevel.scoring.scorers import SCORERS, ScoredImage, scores_of
from unet_lowlevel.terminal import Progress, note, say, show_path
from unet_lowlevel.terminal import progress as shown_progress
from unet_lowlevel.training.checkpoints import best_weights
from unet_lowlevel.training.journal import kept_epoch

# Of so many pixels `choose_best` takes images for objects: 64 MiB of probabilities for a foreground class.
PIXELS = 2**24
# The larger side of an image in pictures.png, in pixels.
TILE_SIDE = 320


def evaluate(
    runs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    changes: Mapping[str, object] | None = None,
    split: str = "validation",
    scores: Sequence[str] = (),
    choose_thresholds: bool = False,
    region: str | Path | None = None,
    bootstrap: int = 0,
    pictures: int = 0,
    average: str = "none",
    plain: bool = False,
) -> dict:
    """Scores a trained run, or several together, on images with masks; writes metrics.json and per_image.csv.

    The model card of a run gets its scores on all images that the run has held out, as they were in the training.

    Args:
        runs, average, plain: see `predictor.load`.
        output: folder for the results; nothing in it is overwritten.
        changes: {setting: value} of `inference.CHANGES` in place of the first run's, for example for other images.
        split: "validation": the images that all runs have held out; "training": those that any has trained on; "all".
        scores, region, bootstrap, pictures: see `evaluate_pairs`.
        choose_thresholds: choose on these images the thresholds that separate objects; store them in the first run.

    Returns:
        what metrics.json holds; see `evaluate_pairs`.

    Raises:
        ValueError: for any other `split` or `average`, negative numbers, and no runs.
        UserError: before anything is written, when runs, images or settings cannot be used.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, but must be one of {', '.join(SPLITS)}.")
    for name, count in (("bootstrap", bootstrap), ("pictures", pictures)):
        if count < 0:
            raise ValueError(f"{name} is {count}, but must be at least 0.")
    folders = as_paths(runs)
    check_scores(scores)
    if choose_thresholds and ("instances" not in scores or split == "all"):
        raise UserError(
            "--choose-thresholds chooses for objects, on held-out images or on those of the training: add --scores "
            "instances, and leave out --split all."
        )
    predictor = load(folders, average=average, plain=plain)
    if split == "validation" and not predictor.split["validation"]:
        raise UserError(
            f"No image was held out by all of --run {' '.join(map(str, folders))}: name other images by --data and add "
            "--split all."
        )
    predictor.config = changed(predictor.config, changes or {})
    as_held_out = split == "validation" and average == "none" and not (changes or region or folders[1:])
    result = evaluate_pairs(
        predictor,
        choose(find_pairs(predictor.config.data), predictor.split, split),
        Path(output),
        scores=scores,
        separation=None if choose_thresholds else predictor.separation,
        region=Path(region) if region else None,
        bootstrap=bootstrap,
        pictures=pictures,
        card=folders[0] if as_held_out and (folders[0] / CARD).is_file() else None,
        progress=shown_progress("evaluating"),
    )
    if choose_thresholds:
        write_separation(folders[0], Separation(**result["separation"]))
    return result


def choose(pairs: list[Pair], split: dict, part: str) -> list[Pair]:
    """The pairs of --split: all, or the part that the run held out or trained on.

    Raises:
        UserError: when images of the part are missing.
    """
    if part == "all":
        return pairs
    wanted = set(split[part])
    chosen = [pair for pair in pairs if pair.stem in wanted]
    missing = sorted(wanted - {pair.stem for pair in chosen})
    if missing:
        raise UserError(
            f"--split {part} needs images that the data lacks ({listed(missing)}): name the data of the training, or "
            "use --split all for other data."
        )
    return chosen


def evaluate_pairs(
    predictor: Predictor,
    pairs: list[Pair],
    output: Path,
    *,
    scores: Sequence[str] = (),
    separation: Separation | None = None,
    region: Path | None = None,
    bootstrap: int = 0,
    pictures: int = 0,
    card: Path | None = None,
    progress: Progress = lambda items: items,
) -> dict:
    """Predicts every image whole and compares it with its mask.

    Writes OUTPUT/metrics.json and OUTPUT/per_image.csv, and with `pictures` OUTPUT/pictures.png: that many
    images, evenly from the worst to the best Dice, each as image, truth, prediction and errors, with its scores.

    Args:
        predictor: of a run.
        pairs: images and masks.
        output: folder, made when it does not exist.
        scores: of `scoring.SCORES`, beside those of single pixels.
        separation: how objects are separated; None: the best for these images, by `choose_best`.
        region: folder of images of the same stems, which are not 0 where pixels count.
        bootstrap: number of data sets drawn at random for confidence intervals; 0: no intervals. There are none, and a
            note, where all images are of one group; see `splits.matched_group`.
        pictures: number of pictures.
        card: the run folder whose model card gets these scores.
        progress: wraps the images, to show how far the work is.

    Returns:
        what metrics.json holds: what `summarized` gives, and with instances the separation.

    Raises:
        UserError: before anything is written, when an image cannot be used or a file would be overwritten.

    One image at a time is in memory.
    """
    names = ["metrics.json", "per_image.csv", *(["pictures.png"] if pictures else [])]
    for name in names:
        refuse_existing(output / name)
    regions = find_regions(region, pairs) if region else {}
    known = {pair.stem: pair.group for pair in pairs if bootstrap or card}
    groups = matched_groups(known, predictor.config)
    if separation is None:
        separation = Separation()
        if "instances" in scores:
            _, separation = choose_best(predictor, pairs, mask=False, objects=True, progress=progress)
    counted = []
    for pair, sample in zip(pairs, decoded(progress(pairs), predictor.config), strict=True):
        predictor.check_channels(sample.image, pair.image)
        inside = read_region(regions[pair.stem], sample.size) if region else np.ones(sample.size, bool)
        probabilities = predictor.probabilities(sample.image)
        counted.append(counts_of(predictor, pair, sample.label, probabilities, inside, scores, separation))
    counts = {name: np.stack([each[name] for each in counted]) for name in counted[0]}
    per_image, stems = scores_of(counts), [pair.stem for pair in pairs]
    result = summarized(stems, counts, groups, bootstrap)
    if "instances" in scores:
        result["separation"] = dataclasses.asdict(separation)
    if bootstrap and "intervals" not in result:
        note(
            f"--bootstrap gives no intervals, because all images are of one group, {groups[stems[0]]!r}: score images "
            "of several patients or volumes, or say by --group-regex what belongs together."
        )
    output.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["stem", *per_image])
    writer.writerows([pair.stem, *(number(values[i]) for values in per_image.values())] for i, pair in enumerate(pairs))
    write_text(output / "per_image.csv", table.getvalue())
    if pictures:
        ranked = np.argsort(per_image["dice"], kind="stable")
        chosen = ranked[evenly(len(pairs), pictures)]
        tiles: list[Tile] = []
        for i, sample in zip(chosen, decoded([pairs[i] for i in chosen], predictor.config), strict=True):
            named = {"Dice": "dice"} | ({"AP at IoU 0.5": "ap_50"} if "instances" in scores else {})
            caption = ", ".join(f"{name}: {score_text(number(per_image[key][i]))}" for name, key in named.items())
            tiles += tiles_of(predictor, pairs[i], sample, caption, separation if "instances" in scores else None)
        heads = headings(
            predictor.config.model.classes,
            objects="instances" in scores,
            ignored=predictor.config.data.ignored is not None,
        )
        write_image(output / "pictures.png", contact_sheet(tiles, TILE_SIDE, len(heads), heads))
    write_text(output / "metrics.json", json.dumps(result, indent=1) + "\n")
    if card:
        with an_extra():
            store_card(card, summarized(stems, counts, groups, BOOTSTRAP) | result)
    return result


def matched_groups(known: Mapping[str, str], config: Config) -> dict[str, str]:
    """{stem: group} from {stem: group of `files.Pair`}; see `splits.matched_group`."""
    return {stem: matched_group(stem, config.data.group_regex, group) for stem, group in known.items()}


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


def counts_of(
    predictor: Predictor,
    pair: Pair,
    label: np.ndarray,
    probabilities: np.ndarray,
    inside: np.ndarray,
    scores: Sequence[str],
    separation: Separation,
) -> dict[str, np.ndarray]:
    """The counts of an image for `scores_of`, which can be added over images; labelled pixels `inside` [H, W] count.

    Raises:
        UserError: when there are none.
    """
    inside = inside & (label != IGNORED)
    if not inside.any():
        raise UserError(f"{pair.masks[0]} has no label inside of --region: label some of it, or leave the image out.")
    image = ScoredImage(
        label=np.where(inside, label, 0),
        prediction=np.where(inside, predictor.labels(probabilities), 0),
        probabilities=np.where(inside[..., np.newaxis], foreground_probabilities(probabilities), 0),
        pixels=int(np.count_nonzero(inside)),
        classes=max(predictor.config.model.classes, 2),
        read_objects=lambda: true_objects(pair, label, predictor.config, inside),
        find_objects=lambda probabilities: separate(probabilities, separation),
    )
    found = pixel_counts(label[inside], probabilities[inside], predictor.config.training.decision_threshold)
    return found | {name: SCORERS[name].count(image) for name in scores}


def true_objects(pair: Pair, label: np.ndarray, config: Config, inside: np.ndarray) -> Objects:
    """The true objects of an image with this `label`, of pixels `inside`, bool [H, W]."""
    numbers, classes = read_objects(pair, label, config)
    return Objects(np.where(inside, numbers, 0), classes).without_small(1)


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


def store_first_card(run: Path, counts: Mapping[str, dict[str, np.ndarray]], known: Mapping[str, str]) -> None:
    """Writes the model card at the end of a training, without reading or predicting an image.

    Args:
        run: the run folder.
        counts: {stem: `counts.probability_counts`} of the held-out images by the kept network; empty: it is of an epoch
            before the training was resumed. Then a card of these weights stays; else it has the scores of history.csv.
        known: see `matched_groups`.
    """
    with an_extra():
        if counts:
            stems = sorted(counts)
            stacked = {name: np.stack([counts[stem][name] for stem in stems]) for name in counts[stems[0]]}
            groups = matched_groups({stem: known[stem] for stem in stems}, run_folder.read(run)[0])
            store_card(run, summarized(stems, stacked, groups, BOOTSTRAP))
        elif not stored_card(run, best_weights(run)):
            row = kept_epoch(run)
            scores = {name: row[f"validation_{name}"] for name in ("dice", "iou", "mean_iou")}
            store_card(run, scores | {"mean_over_images": dict.fromkeys(scores), "per_class": [], "worst": {}})


def store_card(run: Path, scores: Mapping[str, Any]) -> None:
    """Writes the model card of a run with these scores."""
    write_card(model_card(run, best_weights(run), scores), run / CARD)
    say(f"wrote {show_path(run / CARD)}")


@contextlib.contextmanager
def an_extra() -> Iterator[None]:
    """Makes a note of all that goes wrong with the model card: training and scores are what was asked for."""
    try:
        yield
    except Exception as error:
        note(f"no model card was written: {reason(error)}")


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
        pairs = choose(find_pairs(config.data), split, "validation")
        mask = config.model.classes == 1 and not config.training.threshold
        objects = any(pair.tells_objects for pair in pairs)
        if not mask and not objects:
            return found
        what = ["the threshold of the mask"] * mask + ["the thresholds that separate objects"] * objects
        say(f"choosing on held-out images {' and '.join(what)}")
        if mask:
            with contextlib.suppress(OSError):  # then the new one cannot be written either, which is said there
                (run / THRESHOLD).unlink(missing_ok=True)  # of other weights, and perhaps damaged
        predictor = load(run)
        counts, separation = choose_best(
            predictor, pairs, mask=mask, objects=objects, progress=shown_progress("predicting")
        )
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


def find_regions(folder: Path, pairs: list[Pair]) -> dict[str, Path | Slice]:
    """{stem: image} in the folder of --region, or a `UserError` when some are missing."""
    regions = list_images(folder)
    missing = [pair.stem for pair in pairs if pair.stem not in regions]
    if missing:
        raise UserError(
            f"--region {folder} has no image for {listed(missing)}: give them the names of the images up to the suffix."
        )
    return regions


def read_region(image: Path | Slice, size: tuple[int, int]) -> np.ndarray:
    """Where an image of --region is not 0, bool [H, W]; a `UserError` when it is of another size, or 0 throughout."""
    inside = read_pixels(image).any(-1)
    if inside.shape != size:
        found, wanted = ("x".join(map(str, shape)) for shape in (inside.shape, size))
        raise UserError(
            f"{image} of --region is {found} pixels (height x width), but its image is {wanted}: resize it."
        )
    if not inside.any():
        raise UserError(
            f"{image} of --region is 0 throughout, so that no pixel counts: mark what does, or leave it out."
        )
    return inside


def tiles_of(
    predictor: Predictor, pair: Pair, sample: Sample, caption: str, separation: Separation | None
) -> list[Tile]:
    """The `panels` of an image, reduced, for a row of `contact_sheet`; with a `separation` objects are outlined."""
    config, probabilities = predictor.config, predictor.probabilities(sample.image)
    numbers = [sample.label, predictor.labels(probabilities)]
    if separation:
        found = separate(foreground_probabilities(probabilities), separation)
        numbers += [read_objects(pair, sample.label, config)[0], found.numbers]
    size = fitting(sample.size, TILE_SIDE)
    truth, prediction, *objects = (resized_numbers(each, size) for each in numbers)
    drawn = panels(resized_image(sample.image, size), truth, prediction, config.model.classes, *objects)
    return [(picture, name, None) for picture, name in zip(drawn, (pair.stem, "", caption, ""), strict=True)]
