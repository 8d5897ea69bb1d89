"""Evaluation from the command line."""

import argparse

from unet_lowlevel.cli.arguments import (
    Parser,
    add_runs,
    add_scores,
    add_settings,
    check_runs,
    given_scores,
    given_settings,
    run_command,
)
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import CHANGES, SPLITS, changed
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.scoring import score_text
from unet_lowlevel.terminal import say, show_path


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Scores a trained run on images with masks: writes metrics.json and per_image.csv. If these are the images "
        "that the run has held out, as they were in its training, its model card is renewed.",
        "evaluate",
    )
    add_runs(parser)
    add_settings(parser, *CHANGES)
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="validation",
        help="which images of the data: those that the run has held out, those it has trained on, or all (default: "
        "validation)",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the results; nothing is overwritten")
    add_scores(parser)
    parser.add_argument(
        "--choose-thresholds",
        action="store_true",
        help="choose anew on these images, by average precision, the thresholds of --scores instances, and store them "
        "in instances.json of the run, from where prediction and later evaluations take them; a training with instance "
        "labels has chosen them at its end, on held-out images; with --split training those choose nothing",
    )
    parser.add_argument(
        "--region",
        metavar="DIR",
        help="folder of images with the same names, not 0 where pixels count: a field of view",
    )
    parser.add_argument(
        "--bootstrap",
        metavar="N",
        type=int,
        default=0,
        help="95 %% intervals of confidence from N data sets drawn from the groups of images (patients, volumes, "
        "--group-regex), for example 1000 (default: 0)",
    )
    parser.add_argument(
        "--pictures",
        metavar="N",
        type=int,
        default=0,
        help="also write pictures.png: N images, from the worst to the best Dice, each beside its truth, prediction "
        "and errors; with --scores instances objects are outlined (default: 0)",
    )
    return run_command(evaluate_as_asked, parser, argv)


def evaluate_as_asked(arguments: argparse.Namespace) -> None:
    for name in ("pictures", "bootstrap"):
        if getattr(arguments, name) < 0:
            raise UserError(f"--{name} is {getattr(arguments, name)}, but must be at least 0.")
    scores = given_scores(arguments) or []
    changes = {name: value for name, value in given_settings(arguments).items() if name in CHANGES}
    first, *_ = check_runs(arguments.run)
    if changes:
        find_pairs(changed(first, changes).data)
    start_tensorflow()
    from unet_lowlevel.inference.evaluation import evaluate
    from unet_lowlevel.inference.model_card import note_unfinished

    note_unfinished(arguments.run)
    result = evaluate(
        arguments.run,
        arguments.output,
        changes=changes,
        split=arguments.split,
        scores=scores,
        choose_thresholds=arguments.choose_thresholds,
        region=arguments.region,
        bootstrap=arguments.bootstrap,
        pictures=arguments.pictures,
        average=arguments.average,
        plain=arguments.plain,
    )
    show(result, arguments.split)
    if arguments.choose_thresholds:
        say(f"wrote instances.json to {show_path(arguments.run[0])}")
    written = "metrics.json, per_image.csv and pictures.png" if arguments.pictures else "metrics.json and per_image.csv"
    say(f"wrote {written} to {show_path(arguments.output)}")


def show(result: dict, split: str) -> None:
    """Prints the scores as a table, with their intervals if there are any."""
    intervals = result.get("intervals")
    width = 30 if intervals else 10
    say(f"{result['images']} images, split {split}{', with 95 % intervals' if intervals else ''}")
    say(f"{'':18s} {'all images':>{width}s} {'mean of images':>{max(width, 15)}s}")
    for name in result["mean_over_images"]:
        cells = [score_text(result[name]), score_text(result["mean_over_images"][name])]
        if intervals:
            cells = [
                f"{cell} [{', '.join(map(score_text, intervals[what][name]))}]"
                for cell, what in zip(cells, ("all_images", "mean_over_images"), strict=True)
            ]
        say(f"{name:18s} {cells[0]:>{width}s} {cells[1]:>{max(width, 15)}s}")
