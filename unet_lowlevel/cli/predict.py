"""Prediction from the command line."""

import argparse
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, progress, run_command, show_path, start_tensorflow


def main(argv: list[str] | None = None, *, by_keras: bool = False) -> int:
    """The command; returns its exit code. `by_keras`: Keras predicts, whoever has trained."""
    parser = Parser("Segments images with a trained run: writes <stem>.png masks of the images' sizes.")
    parser.add_argument("--run", metavar="DIR", required=True, help="run folder that training wrote")
    if by_keras:
        parser.add_argument("--model", metavar="FILE", help="weights of this .keras file instead of the run's")
    parser.add_argument("--images", metavar="PATH", nargs="+", required=True, help="image files, or a folder of them")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the masks; nothing is overwritten")
    parser.add_argument("--probabilities", action="store_true", help="also write 16-bit <stem>_probability.png")
    parser.add_argument("--overlays", action="store_true", help="also write <stem>_overlay.png")
    return run_command(predict_by_keras if by_keras else predict, parser, argv)


def predict(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from unet_lowlevel.inference.predictor import Predictor

    predict_with(Predictor(Path(arguments.run)), arguments)


def predict_by_keras(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from unet_lowlevel.inference.predictor import Predictor
    from unet_lowlevel.reference.keras_unet import KerasUNet
    from unet_lowlevel.reference.weights import load_keras

    predictor = Predictor(Path(arguments.run), KerasUNet)
    if arguments.model:
        load_keras(Path(arguments.model), predictor.model)
    predict_with(predictor, arguments)


def predict_with(predictor, arguments: argparse.Namespace) -> None:
    """Predicts the images of the command and says so."""
    from unet_lowlevel.inference.predictor import find_images, predict_files

    images = find_images(arguments.images)
    predict_files(
        predictor,
        images,
        Path(arguments.output),
        with_probabilities=arguments.probabilities,
        with_overlays=arguments.overlays,
        progress=progress("predicting"),
    )
    print(f"wrote masks of {len(images)} images to {show_path(arguments.output)}")
