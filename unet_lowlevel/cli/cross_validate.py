"""Cross-validation from the command line."""

import argparse
import contextlib
from pathlib import Path

from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli.arguments import Parser, add_scores, add_settings, given_scores, resolved_config, run_command
from unet_lowlevel.cli.train import add_no_check, changes_on_resume, resumable, to_predict
from unet_lowlevel.errors import NothingFound, listed
from unet_lowlevel.inference.cross_validation import SETTINGS, cross_validate, fold_runs, read_fold, read_settings
from unet_lowlevel.terminal import OnStep, say, show_path, tensorboard

# Settings that a cross-validation decides itself.
DECIDED = ("fold", "validation_fraction", "validation_list", "overfit_one_batch")


def main(argv: list[str] | None = None, on_step: OnStep | None = None) -> int:
    """The command; returns its exit code.

    Args:
        argv: flags, or None for those of the process.
        on_step: see `cross_validate`.
    """
    parser = Parser(
        "Trains the low-level U-Net once for each fold, which it holds out, and scores all images by the networks that "
        "have not seen them. Without flags: on generated thorax slices.",
        "cross-validate",
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
    add_no_check(parser)
    add_scores(parser)
    add_settings(parser, defaults={"folds": 5}, without=DECIDED)
    return run_command(lambda arguments: cross_validate_as_asked(arguments, on_step), parser, argv)


def cross_validate_as_asked(arguments: argparse.Namespace, on_step: OnStep | None) -> None:
    scores = given_scores(arguments)
    if arguments.resume:
        changes = changes_on_resume(arguments, "stream")
        config = settings.apply(read_settings(Path(arguments.run))[0], changes)
    else:
        config, changes = resolved_config(arguments), {}
    given = contextlib.nullcontext(Path(arguments.run)) if arguments.run else None
    with (
        given or run_folder.next_free("crossvalidation") as folder,
        resumable(folder, SETTINGS, "cross-validate", changes),
    ):
        rows = cross_validate(
            config, folder, resume=arguments.resume, check=not arguments.no_check, scores=scores, on_step=on_step
        )
    from unet_lowlevel.inference.folds import scores_table

    config = read_settings(folder)[0]
    runs = fold_runs(folder, config.data.folds)
    say(
        f"\n{scores_table(rows)}\n\n"
        f"runs, scores.csv and predictions/ are in {show_path(folder)}\n"
        f"each of {rows[-1]['images']} images was predicted by the fold that held it out\n"
        f"{to_predict(config, runs, folder.name)}\n"
        f"look at curves and pictures:\n{tensorboard(folder)}"
    )
    empty = [run.name for run in runs if read_fold(run).nothing_found()]
    if empty:
        raise NothingFound(
            f"{listed(empty)} of {folder} found none of the foreground in the images held out, and the scores are so "
            "much lower for it: cross-validate anew with another --learning-rate, mostly a lower one, or more "
            "--epochs, and look at the masks."
        )
