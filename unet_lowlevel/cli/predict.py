"""Prediction from the command line."""

import argparse
import sys
from pathlib import Path

from unet_lowlevel import config as settings
from unet_lowlevel.cli.arguments import (
    Parser,
    add_runs,
    add_settings,
    given_settings,
    predictor_of,
    progress,
    run_command,
    show_path,
    start_tensorflow,
)
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import TILE_SIZE

# Of the run's settings those that another machine or another source of images may ask to change.
SETTINGS = ("max_megapixels",)


def main(argv: list[str] | None = None, *, by_keras: bool = False) -> int:
    """The command; returns its exit code. `by_keras`: Keras predicts, whoever has trained."""
    parser = Parser(
        "Segments images with a trained run: writes <stem>.png masks of the images' sizes, and for volumes (TIFF "
        "stacks, NIfTI files, DICOM series) volumes of the same geometry."
    )
    if by_keras:
        parser.add_argument("--run", metavar="DIR", required=True, help="run folder that training wrote")
        parser.add_argument("--model", metavar="FILE", help="weights of this .keras file instead of the run's")
    else:
        add_runs(parser)
    parser.add_argument(
        "--images", metavar="PATH", nargs="+", required=True, help="image files or volumes, or folders of them"
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the masks; nothing is overwritten")
    parser.add_argument(
        "--tile-size",
        metavar="N",
        type=int,
        default=TILE_SIZE,
        help="side in pixels of what is computed at once: larger images are computed in tiles, with the same result; "
        f"a smaller one takes less memory and more time (default: {TILE_SIZE})",
    )
    parser.add_argument("--probabilities", action="store_true", help="also write 16-bit <stem>_probability.png")
    parser.add_argument(
        "--instances",
        dest="with_instances",
        action="store_true",
        help="also write 16-bit <stem>_instances.png, a number for each object; of a volume in each slice anew",
    )
    parser.add_argument("--overlays", action="store_true", help="also write <stem>_overlay.png")
    add_settings(parser, *SETTINGS)
    return run_command(predict_by_keras if by_keras else predict, parser, argv)


def predict(arguments: argparse.Namespace) -> int:
    check_tile_size(arguments)
    start_tensorflow()
    return predict_with(predictor_of(arguments, arguments.tile_size), Path(arguments.run[0]), arguments)


def predict_by_keras(arguments: argparse.Namespace) -> int:
    check_tile_size(arguments)
    start_tensorflow()
    from unet_lowlevel.inference.predictor import Predictor
    from unet_lowlevel.reference.keras_unet import KerasUNet
    from unet_lowlevel.reference.weights import load_keras

    predictor = Predictor(Path(arguments.run), KerasUNet, arguments.tile_size)
    if arguments.model:
        load_keras(Path(arguments.model), predictor.model)
    return predict_with(predictor, Path(arguments.run), arguments)


def check_tile_size(arguments: argparse.Namespace) -> None:
    if arguments.tile_size < 1:
        raise UserError(f"--tile-size is {arguments.tile_size}, but must be at least 1: use for example 1024.")


def predict_with(predictor, run: Path, arguments: argparse.Namespace) -> int:
    """Predicts the images of the command and says so; returns exit code 3 when some of them could not be used.

    The thresholds of instances are those of `run`, of several networks the first.
    """
    from unet_lowlevel.inference.folders import find_images, predict_files
    from unet_lowlevel.inference.instances import read_separation

    given = {name: value for name, value in given_settings(arguments).items() if name in SETTINGS}
    predictor.config = settings.apply(predictor.config, given)
    images = find_images(arguments.images)
    written, failures = predict_files(
        predictor,
        images,
        Path(arguments.output),
        with_probabilities=arguments.probabilities,
        separation=read_separation(run) if arguments.with_instances else None,
        with_overlays=arguments.overlays,
        progress=progress("predicting"),
    )
    if not written:
        others = f" The other {len(images) - 1} cannot be used either." if len(images) > 1 else ""
        raise UserError(failures[0] + others)
    print(f"wrote masks of {written} images to {show_path(arguments.output)}")
    if not failures:
        return 0
    print(f"{len(images) - written} of {len(images)} images could not be used:", *failures, sep="\n", file=sys.stderr)
    return 3
