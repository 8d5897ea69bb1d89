"""Evaluation from the command line."""

import argparse
from pathlib import Path

from unet_lowlevel import config as settings
from unet_lowlevel.cli.arguments import (
    Parser,
    add_runs,
    add_scores,
    add_settings,
    given_scores,
    given_settings,
    predictor_of,
    progress,
    run_command,
    show_path,
    start_tensorflow,
)
from unet_lowlevel.errors import UserError

PLACES = ("data", "images", "masks")
# Of the run's settings those that other images may ask to change.
SETTINGS = (*PLACES, "instances", "mask_values", "mask_colors", "max_megapixels")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Scores a trained run on images with masks: writes metrics.json and per_image.csv.")
    add_runs(parser)
    add_settings(parser, *SETTINGS)
    parser.add_argument(
        "--split",
        choices=("validation", "all"),
        default="validation",
        help="which images of the data (default: validation)",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the results; nothing is overwritten")
    add_scores(parser)
    parser.add_argument(
        "--choose-thresholds",
        action="store_true",
        help="choose on these images, by average precision, the thresholds of --scores instances, and store them in "
        "RUN/instances.json, from where prediction and later evaluations take them",
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
        help="95 %% intervals of confidence from N data sets drawn from the images, for example 1000 (default: 0)",
    )
    parser.add_argument(
        "--pictures", metavar="N", type=int, default=0, help="also write pictures.png of N images (default: 0)"
    )
    return run_command(evaluate, parser, argv)


def evaluate(arguments: argparse.Namespace) -> None:
    scores = check(arguments)
    start_tensorflow()
    from unet_lowlevel.data.files import find_pairs
    from unet_lowlevel.inference.evaluation import choose
    from unet_lowlevel.inference.evaluation import evaluate as evaluate_pairs
    from unet_lowlevel.inference.instances import Separation, read_separation, write_separation

    run, output = Path(arguments.run[0]), Path(arguments.output)
    predictor = predictor_of(arguments)
    if arguments.split == "validation" and not predictor.split["validation"]:
        raise UserError(
            f"No image was held out by all of --run {' '.join(arguments.run)}: name other images by --data and add "
            "--split all."
        )
    given = {name: value for name, value in given_settings(arguments).items() if name in SETTINGS}
    if any(name in given for name in PLACES):  # without them the data of the training, with them only what they name
        given = dict.fromkeys((*PLACES, "instances"), "") | given
    predictor.config = settings.check(settings.apply(predictor.config, given))
    pairs = choose(find_pairs(predictor.config.data), predictor.split, arguments.split)
    result = evaluate_pairs(
        predictor,
        pairs,
        output,
        scores=scores,
        separation=None if arguments.choose_thresholds else read_separation(run),
        region=Path(arguments.region) if arguments.region else None,
        bootstrap=arguments.bootstrap,
        pictures=arguments.pictures,
        progress=progress("evaluating"),
    )
    show(result, arguments.split)
    if arguments.choose_thresholds:
        write_separation(run, Separation(**result["separation"]))
        print(f"wrote instances.json to {show_path(run)}")
    print(f"wrote metrics.json and per_image.csv to {show_path(output)}")


def check(arguments: argparse.Namespace) -> list[str]:
    """The names in --scores, or a `UserError` when a flag is wrong."""
    for name in ("pictures", "bootstrap"):
        if getattr(arguments, name) < 0:
            raise UserError(f"--{name} is {getattr(arguments, name)}, but must be at least 0.")
    scores = given_scores(arguments)
    if arguments.choose_thresholds and ("instances" not in scores or arguments.split != "validation"):
        raise UserError(
            "--choose-thresholds chooses on held-out images for objects: add --scores instances, and leave out "
            "--split all."
        )
    return scores


def show(result: dict, split: str) -> None:
    """Prints the scores as a table, with their intervals where there are some."""
    from unet_lowlevel.inference.evaluation import score_text

    intervals = result.get("intervals")
    width = 30 if intervals else 10
    print(f"{'':18s} {'all images':>{width}s} {'mean of images':>{max(width, 15)}s}", end="   ")
    print(f"({result['images']} images, split {split}{', 95 % intervals' if intervals else ''})")
    for name in result["mean_over_images"]:
        cells = [score_text(result[name]), score_text(result["mean_over_images"][name])]
        if intervals:
            cells = [
                f"{cell} [{', '.join(map(score_text, intervals[what][name]))}]"
                for cell, what in zip(cells, ("all_images", "mean_over_images"), strict=True)
            ]
        print(f"{name:18s} {cells[0]:>{width}s} {cells[1]:>{max(width, 15)}s}")
