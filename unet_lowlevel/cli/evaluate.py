"""Evaluation from the command line."""

import argparse
from pathlib import Path

from unet_lowlevel import config as settings
from unet_lowlevel.cli.arguments import (
    Parser,
    add_settings,
    given_settings,
    progress,
    run_command,
    show_path,
    start_tensorflow,
)
from unet_lowlevel.errors import UserError

PLACES = ("data", "images", "masks")
# Of the run's settings those that other images may ask to change.
SETTINGS = (*PLACES, "mask_values", "mask_colors", "max_megapixels")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Scores a trained run on images with masks: writes metrics.json and per_image.csv.")
    parser.add_argument("--run", metavar="DIR", required=True, help="run folder that training wrote")
    add_settings(parser, *SETTINGS)
    parser.add_argument(
        "--split",
        choices=("validation", "all"),
        default="validation",
        help="which images of the data (default: validation)",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the results; nothing is overwritten")
    parser.add_argument(
        "--pictures", metavar="N", type=int, default=0, help="also write pictures.png of N images (default: 0)"
    )
    return run_command(evaluate, parser, argv)


def evaluate(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from unet_lowlevel.data.files import find_pairs
    from unet_lowlevel.inference.evaluation import choose
    from unet_lowlevel.inference.evaluation import evaluate as evaluate_pairs
    from unet_lowlevel.inference.predictor import Predictor

    if arguments.pictures < 0:
        raise UserError(f"--pictures is {arguments.pictures}, but must be at least 0.")
    predictor = Predictor(Path(arguments.run))
    given = {name: value for name, value in given_settings(arguments).items() if name in SETTINGS}
    if any(name in given for name in PLACES):  # without them the data of the training, with them only what they name
        given = dict.fromkeys(PLACES, "") | given
    predictor.config = settings.check(settings.apply(predictor.config, given))
    pairs = find_pairs(predictor.config.data)
    result = evaluate_pairs(
        predictor,
        choose(pairs, predictor.split, arguments.split),
        Path(arguments.output),
        pictures=arguments.pictures,
        progress=progress("evaluating"),
    )
    print(
        f"{'':12s} {'all pixels':>10s} {'mean of images':>15s}   ({result['images']} images, split {arguments.split})"
    )
    for name, mean in result["mean_over_images"].items():
        print(f"{name:12s} {result[name]:10.4f} {mean:15.4f}")
    print(f"wrote metrics.json and per_image.csv to {show_path(arguments.output)}")
