"""Scores of a trained run on images whose masks are known."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_lowlevel.config import IGNORED, Config
from unet_lowlevel.data.files import Pair, find_pairs, list_images, read_pixels
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import refuse_existing, write_image
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.resolution import resized_image, resized_numbers
from unet_lowlevel.data.samples import Sample, decoded
from unet_lowlevel.data.splits import matched_group, pairs_of
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.inference import SPLITS, changed
from unet_lowlevel.inference.best_thresholds import choose_best
from unet_lowlevel.inference.model_card import BOOTSTRAP, an_extra, store_card
from unet_lowlevel.inference.model_card import FILE as CARD
from unet_lowlevel.inference.predictor import Predictor, as_paths, load
from unet_lowlevel.inference.separation import Separation, foreground_probabilities, separate, write_separation
from unet_lowlevel.pictures import Tile, contact_sheet, evenly, fitting, headings, panels
from unet_lowlevel.run_folder import write_csv, write_json
from unet_lowlevel.scoring import check_scores, score_text
from unet_lowlevel.scoring.curves import pixel_counts
from unet_lowlevel.scoring.intervals import number, summarized
from unet_lowlevel.scoring.objects import Objects
from unet_lowlevel.scoring.scorers import SCORERS, ScoredImage, scores_of
from unet_lowlevel.terminal import Progress, note
from unet_lowlevel.terminal import progress as shown_progress

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
    average: str = "",
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
    as_held_out = split == "validation" and not average and not (changes or region or folders[1:])
    result = evaluate_pairs(
        predictor,
        pairs_of(find_pairs(predictor.config.data), predictor.split, split),
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


def scores_of_run(run: Path, *, average: str = "", bootstrap: int = 0) -> dict:
    """What `evaluate` returns, and the model card that it renews, without its files."""
    with tempfile.TemporaryDirectory() as folder:
        return evaluate(run, Path(folder) / "scores", average=average, bootstrap=bootstrap)


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
    regex = predictor.config.data.group_regex
    groups = {pair.stem: matched_group(pair.stem, regex, pair.group) for pair in pairs if bootstrap or card}
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
    rows = ([stem, *(number(values[i]) for values in per_image.values())] for i, stem in enumerate(stems))
    write_csv(output / "per_image.csv", ["stem", *per_image], rows)
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
    write_json(output / "metrics.json", result)
    if card:
        with an_extra():
            store_card(card, summarized(stems, counts, groups, BOOTSTRAP) | result)
    return result


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
