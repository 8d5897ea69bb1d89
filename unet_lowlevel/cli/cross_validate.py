"""Cross-validation from the command line."""

import argparse
import contextlib
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from unet_lowlevel import config as settings
from unet_lowlevel import run_folder
from unet_lowlevel.cli.arguments import (
    Parser,
    add_scores,
    add_settings,
    given_scores,
    progress,
    resolved_config,
    run_command,
    show_path,
)
from unet_lowlevel.cli.train import OnStep, changes_on_resume, fit_to_data, resumable, run_training, with_default_data
from unet_lowlevel.config import Config
from unet_lowlevel.data.files import Pair, find_pairs
from unet_lowlevel.data.splits import split
from unet_lowlevel.data.storage import gather, in_memory, on_disk
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import SCORES
from unet_lowlevel.training.interruption import Stopped

# What makes a folder a cross-validation: the settings of all folds, the fingerprint of the data, and what to score.
SETTINGS = "cross_validation.json"
# What makes a fold of it finished: the counts of its held-out images.
FINISHED = "held_out.json"
# What a cross-validation decides itself.
DECIDED = ("fold", "validation_fraction", "validation_list", "overfit_one_batch")


def main(argv: list[str] | None = None, on_step: OnStep | None = None) -> int:
    """The command; returns its exit code.

    Args:
        argv: flags, or None for those of the process.
        on_step: see `Trainer.fit`.
    """
    parser = Parser(
        "Trains the low-level U-Net once for each fold, which it holds out, and scores all images by the networks that "
        "have not seen them. Without flags: on generated thorax slices."
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        help="folder to write: a run folder DIR/fold-0, ... for each fold, scores.csv, and predictions/ of all images "
        "by the fold that held them out; none: the next free runs/crossvalidation-N",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with --run: finished folds are kept, the others trained to the end"
    )
    add_scores(parser)
    add_settings(parser, defaults={"folds": 5}, without=DECIDED)
    return run_command(lambda arguments: cross_validate(arguments, on_step), parser, argv)


def cross_validate(arguments: argparse.Namespace, on_step: OnStep | None) -> None:
    """Trains and scores all folds, or those that are left."""
    scores = given_scores(arguments)
    if arguments.resume:
        changes = changes_on_resume(arguments, "stream")
        folder = Path(arguments.run)
        config, fingerprint, stored = read_settings(folder)
        scores = stored if arguments.scores is None else scores
        run_folder.refuse_links(folder)
        config = settings.apply(config, changes)
    else:
        config, fingerprint = resolved_config(arguments), None
        folder = Path(arguments.run or run_folder.next_free("crossvalidation"))
        check_new(folder)
        if not config.data.folds:
            raise UserError("--folds is 0, but a cross-validation needs at least 2: use for example 5.")
        # A --config that a fold or a first try has left may say otherwise.
        config = with_default_data(settings.apply(config, {"fold": 0, "overfit_one_batch": False}))
    pairs = find_pairs(config.data)
    parts = split_folds(pairs, config)
    with (
        resumable(folder, SETTINGS),
        run_folder.in_use(folder, SETTINGS) if arguments.resume else contextlib.nullcontext(),
        on_disk(folder) if config.data.stream else in_memory(len(pairs)) as keep,
    ):
        samples, digest = gather(pairs, config, keep, progress("reading"))
        if arguments.resume and digest != fingerprint:
            raise UserError(f"The data of {folder} has changed since it began: restore it, or begin anew elsewhere.")
        fitted = fit_to_data(config, samples)
        check_names([sample.stem for sample in samples], config.model.classes)
        write_settings(folder, config, digest, scores)
        with contextlib.nullcontext() if arguments.resume else run_folder.in_use(folder, SETTINGS):
            train_folds(fitted, folder, pairs, samples, parts, digest, scores, on_step)


def check_names(stems: list[str], classes: int) -> None:
    """Raises a `UserError` when the predictions of two images would have one name."""
    from unet_lowlevel.inference.folders import output_names

    owner: dict[str, str] = {}
    for stem in stems:
        for name in output_names(stem, classes, ".png", with_probabilities=True).values():
            if owner.setdefault(name, stem) != stem:
                raise UserError(f"{name} would be written for the images {owner[name]} and {stem}: rename one of them.")


def split_folds(pairs: list[Pair], config: Config) -> list[dict[str, list[str]]]:
    """{training: stems, validation: stems} of each fold."""
    groups = {pair.stem: pair.group for pair in pairs}
    parts = []
    for number in range(config.data.folds):
        data = settings.apply(config, {"fold": number}).data
        training, validation = split(list(groups), data, config.training.seed, groups)
        parts.append({"training": training, "validation": validation})
    return parts


def train_folds(
    config: Config,
    folder: Path,
    pairs: list[Pair],
    samples: list,
    parts: list[dict],
    digest: str,
    scores: Sequence[str],
    on_step: OnStep | None,
) -> None:
    """Trains, predicts and scores what is not finished, and says how well all folds did together."""
    from unet_lowlevel.inference.held_out import score_rows, scores_csv, scores_table

    runs = [folder / f"fold-{number}" for number in range(len(parts))]
    configs = [settings.apply(config, {"fold": number}) for number in range(len(parts))]
    for run, its_config in zip(runs, configs, strict=True):
        check_fold(run, its_config)
    folds = []
    for number, run in enumerate(runs):
        if not (run / FINISHED).is_file():
            print(f"\nfold-{number} ({number + 1} of {len(runs)})", flush=True)
            train_fold(configs[number], run, samples, parts[number], digest, on_step)
        if not ((run / FINISHED).is_file() and read_fold(run).has(scores)):
            predict_fold(run, pairs, samples, folder / "predictions", scores)
            gc.collect()  # networks and their graphs refer to themselves in circles
        folds.append(read_fold(run).only(scores))
    rows = score_rows(folds)
    run_folder.write_text(folder / "scores.csv", scores_csv(rows))
    script = show_path(Path(sys.argv[0]).parent / "predict_lowlevel.py")
    images = config.data.images or Path(config.data.data) / "images"
    print(
        f"\n{scores_table(rows)}\n\n"
        f"runs, scores.csv and predictions/ of all {len(samples)} images by the folds that held them out are in "
        f"{show_path(folder)}\n"
        f"predict with all folds:  {show_path(sys.executable)} {script} --run {' '.join(map(show_path, runs))} "
        f"--images {show_path(images)} --output {show_path(Path('predictions') / folder.name)}"
    )


def train_fold(
    config: Config, run: Path, samples: list, parts: dict[str, list[str]], digest: str, on_step: OnStep | None
) -> None:
    """Trains a fold, or what is left of it."""
    resume = run_folder.is_run(run)
    with run_folder.in_use(run) if resume else contextlib.nullcontext():
        trainer = run_training(
            config, run, samples, parts, digest, implementation="lowlevel", resume=resume, on_step=on_step
        )
    if trainer.received:  # in the last epoch, at whose end a training is not stopped but finished
        raise Stopped(trainer.received, trainer.journal.step)


def predict_fold(run: Path, pairs: list[Pair], samples: list, output: Path, scores: Sequence[str]) -> None:
    """Predicts and scores what the run has held out; then the fold is finished."""
    from unet_lowlevel.inference.held_out import Fold, predict_held_out
    from unet_lowlevel.inference.instances import read_separation
    from unet_lowlevel.inference.predictor import Predictor
    from unet_lowlevel.training.journal import kept_epoch, read_history

    predictor = Predictor(run)
    held_out = set(predictor.split["validation"])
    pairs = [pair for pair in pairs if pair.stem in held_out]
    samples = [sample for sample in samples if sample.stem in held_out]
    counts = predict_held_out(predictor, pairs, samples, output, scores, read_separation(run), progress("predicting"))
    history = read_history(run / "history.csv")
    epoch = kept_epoch(history, predictor.config)["epoch"]
    fold = Fold(len(samples), counts, epoch, sum(row["seconds"] for row in history))
    run_folder.write_text(run / FINISHED, json.dumps(fold.to_json()) + "\n")


def read_fold(run: Path):
    """The `Fold` of a run that is finished."""
    from unet_lowlevel.inference.held_out import Fold

    return Fold.from_json(settings.load_json(run / FINISHED), run / FINISHED)


def check_new(folder: Path) -> None:
    """Raises a `UserError` unless `folder` is free to become that of a cross-validation."""
    if (folder / SETTINGS).is_file():
        raise UserError(f"--run {folder} is not empty: add --resume to go on with it, or choose another name.")
    if run_folder.is_run(folder):
        raise UserError(f"--run {folder} is the run folder of one training: choose another name.")
    run_folder.check_new(folder)


def write_settings(folder: Path, config: Config, digest: str, scores: list[str]) -> None:
    """Makes the folder of a cross-validation, or notes which scores it is asked for now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run {folder} cannot be made ({error.strerror}): choose another place.") from None
    content = settings.to_json(config) | {"run": {"data_fingerprint": digest, "scores": scores}}
    run_folder.write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


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


def check_fold(run: Path, config: Config) -> None:
    """Raises a `UserError` when there is a run of other settings, whose scores would be those of something else."""
    if not run_folder.is_run(run):
        return
    found = run_folder.read(run)[0]
    for name, (section, _) in settings.settings().items():
        stored, wanted = (getattr(getattr(c, section), name) for c in (found, config))
        if stored != wanted and name != "stream":
            raise UserError(
                f"{run} was trained with {settings.flag(name)} {stored}, but the cross-validation has {wanted}: move "
                "it away, and it is trained anew."
            )
