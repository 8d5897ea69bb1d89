"""Cross-validation: a network for each fold, scored on the images that it has not seen."""

import contextlib
import dataclasses
import gc
import json
from collections.abc import Sequence
from pathlib import Path

from unet_lowlevel import run_folder, settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.files import Pair, find_pairs
from unet_lowlevel.data.packed import as_packed
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.storage import gather, in_memory, on_disk
from unet_lowlevel.errors import UserError
from unet_lowlevel.scoring import SCORES, check_scores
from unet_lowlevel.terminal import OnStep, note, progress, say
from unet_lowlevel.training.interruption import Stopped
from unet_lowlevel.training.train import (
    TrainingData,
    check_asked_settings,
    fit_to_data,
    groups_of,
    look_if_wanted,
    nothing_found,
    run_training,
    split_of,
    with_default_data,
    with_init,
)

# The file that makes a folder a cross-validation: settings of all folds, fingerprint of the data, and what to score.
SETTINGS = "cross_validation.json"
# Settings that a cross-validation sets itself, whatever the configuration says.
DECIDED = {"fold": 0, "overfit_one_batch": False}
# The file that makes a fold finished: the counts of its held-out images.
FINISHED = "held_out.json"


def cross_validate(
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    check: bool = True,
    scores: Sequence[str] | None = None,
    on_step: OnStep | None = None,
) -> list[dict]:
    """Trains a network for each of `config.data.folds` folds; scores each image with the network that has not seen it.

    Args:
        config: all settings.
        folder: for the run folders FOLDER/fold-0, ..., scores.csv, and predictions/ of all images.
        resume: go on with `folder`: finished folds are kept, the others trained to the end. Only stream may differ from
            the settings that it was begun with.
        check: see `training.train`.
        scores: of `SCORES`, beside those of single pixels; None: none, or with `resume` the earlier ones.
        on_step: called after every step with its number and the mean loss of the epoch so far.

    Returns:
        the rows of scores.csv; see `folds.score_rows`. A note tells of a fold whose network finds no foreground; it
        counts as it is, with a Dice of 0.

    Raises:
        UserError, Stopped: see `training.train`.
    """
    folder = Path(folder)
    check_scores(scores or ())
    if resume:
        stored, fingerprint, stored_scores = read_settings(folder)
        scores = stored_scores if scores is None else scores
        run_folder.check_resumable(folder)
        check_asked_settings(folder, stored, config, ("stream", *DECIDED))
        config = settings.apply(stored, {"stream": config.data.stream})
    else:
        fingerprint, scores = None, scores or []
        check_new(folder)
        if not config.data.folds:
            raise UserError("--folds is 0, but a cross-validation needs at least 2: use for example 5.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_folder.in_use(folder) if resume else run_folder.taken(folder))
        if not resume:
            config = as_packed(with_default_data(with_init(settings.apply(config, DECIDED))))
        pairs = find_pairs(config.data)
        splits = [split_of(pairs, settings.apply(config, {"fold": number})) for number in range(config.data.folds)]
        planned = None if resume else look_if_wanted(pairs, config, check=check)
        config = planned.config if planned else config
        keep = stack.enter_context(on_disk(folder) if config.data.stream else in_memory(len(pairs)))
        samples, digest = gather(pairs, config, keep, progress("reading"))
        if resume and digest != fingerprint:
            raise UserError(f"The data of {folder} has changed since it began: restore it, or begin anew elsewhere.")
        fitted, first = fit_to_data(config, TrainingData(samples, digest, splits[0], groups_of(pairs), planned))
        check_names([sample.stem for sample in samples], config.model.classes)
        write_settings(folder, fitted, digest, list(scores))
        data = [dataclasses.replace(first, parts=parts) for parts in splits]
        return run_folds(fitted, folder, pairs, data, scores, on_step)


def run_folds(
    config: Config,
    folder: Path,
    pairs: list[Pair],
    data: list[TrainingData],
    scores: Sequence[str],
    on_step: OnStep | None,
) -> list[dict]:
    """Trains, predicts and scores the folds that are not finished; returns the rows of scores.csv."""
    from unet_lowlevel.inference.folds import score_rows, write_scores

    runs = fold_runs(folder, len(data))
    configs = [settings.apply(config, {"fold": number}) for number in range(len(data))]
    for run, its_config in zip(runs, configs, strict=True):
        check_comparable(run, its_config)
    folds = []
    for number, run in enumerate(runs):
        if not (run / FINISHED).is_file():
            say(f"\nfold-{number} ({number + 1} of {len(runs)})")
            train_fold(configs[number], run, data[number], on_step)
        if not ((run / FINISHED).is_file() and read_fold(run).has(scores)):
            predict_fold(run, pairs, data[number].samples, folder / "predictions", scores)
            gc.collect()  # networks and their graphs form reference cycles
        folds.append(read_fold(run).only(scores))
    rows = score_rows(folds)
    write_scores(folder / "scores.csv", rows)
    return rows


def fold_runs(folder: Path, count: int) -> list[Path]:
    """The run folder of each fold."""
    return [folder / f"fold-{number}" for number in range(count)]


def train_fold(config: Config, run: Path, data: TrainingData, on_step: OnStep | None) -> None:
    """Trains a fold, or goes on with its training."""
    resume = run_folder.is_run(run)
    run.mkdir(exist_ok=True)
    with run_folder.in_use(run):
        trainer = run_training(config, run, data, resume=resume, on_step=on_step)
    if trainer.received:  # in the last epoch, after which a training is finished, not stopped
        raise Stopped(trainer.received, trainer.journal.step)
    problem = nothing_found(trainer)
    if problem:  # the other folds go on, and its scores count
        note(problem)


def predict_fold(run: Path, pairs: list[Pair], samples: list[Sample], output: Path, scores: Sequence[str]) -> None:
    """Predicts and scores the images that the run has held out; then the fold is finished."""
    from unet_lowlevel.inference.folds import Fold, predict_held_out
    from unet_lowlevel.inference.predictor import load
    from unet_lowlevel.training.history import kept_epoch, read_history

    predictor = load(run)
    held_out = set(predictor.split["validation"])
    pairs = [pair for pair in pairs if pair.stem in held_out]
    samples = [sample for sample in samples if sample.stem in held_out]
    counts = predict_held_out(predictor, pairs, samples, output, scores, progress("predicting"))
    seconds = sum(row["seconds"] for row in read_history(run / "history.csv"))
    fold = Fold(len(samples), counts, kept_epoch(run)["epoch"], seconds)
    run_folder.write_text(run / FINISHED, json.dumps(fold.to_json()) + "\n")


def check_names(stems: list[str], classes: int) -> None:
    """Raises a `UserError` when the predictions of two images would have one name."""
    from unet_lowlevel.inference.results import output_names

    owner: dict[str, str] = {}
    for stem in stems:
        for name in output_names(stem, classes, ".png", with_probabilities=True).values():
            if owner.setdefault(name, stem) != stem:
                raise UserError(f"{name} would be written for the images {owner[name]} and {stem}: rename one of them.")


def read_fold(run: Path):
    """The `folds.Fold` of a run that is finished."""
    from unet_lowlevel.inference.folds import Fold

    return Fold.from_json(settings.load_json(run / FINISHED), run / FINISHED)


def check_new(folder: Path) -> None:
    """Raises a `UserError` if a cross-validation or a training has begun in `folder`, which `taken` would not name."""
    if (folder / SETTINGS).is_file():
        raise UserError(f"--run {folder} is not empty: add --resume to go on with it, or choose another name.")
    if run_folder.is_run(folder):
        raise UserError(f"--run {folder} is the run folder of one training: choose another name.")


def write_settings(folder: Path, config: Config, digest: str, scores: list[str]) -> None:
    """Writes the settings of a cross-validation, with the scores asked for now."""
    content = settings.to_json(config) | {"run": {"data_fingerprint": digest, "scores": scores}}
    run_folder.write_json(folder / SETTINGS, content)


def read_settings(folder: Path) -> tuple[Config, str, list[str]]:
    """The settings of a cross-validation, the fingerprint of its data, and the names of --scores."""
    path = folder / SETTINGS
    if not path.is_file():
        raise UserError(
            f"--run {folder} is no cross-validation (it has no {SETTINGS}): leave --resume out to begin one."
        )
    content = settings.load_json(path)
    config = settings.check(settings.from_json(content, str(path)))
    run = content.get("run")
    scores = run.get("scores", []) if isinstance(run, dict) else None
    if config.data.folds < 2 or not isinstance(scores, list) or not all(name in SCORES for name in scores):
        raise UserError(f"{path} does not hold the settings of a cross-validation: restore the file.")
    return config, run.get("data_fingerprint"), scores


def check_comparable(run: Path, config: Config) -> None:
    """Raises a `UserError` if `run` exists with other settings, because its scores would not be comparable.

    All settings count, unlike in `check_asked_settings`: those too that the data has decided.
    """
    if not run_folder.is_run(run):
        return
    for name, (stored, wanted) in settings.differences(run_folder.read(run)[0], config).items():
        if name != "stream":
            raise UserError(
                f"{run} was trained with {settings.flag(name)} {stored}, but the cross-validation has {wanted}: move "
                "it away, and it is trained anew."
            )
