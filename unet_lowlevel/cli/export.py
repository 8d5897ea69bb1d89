"""A trained run as a Keras model."""

import argparse
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, check_runs, run_command
from unet_lowlevel.data.formats.writing import refuse_existing
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.terminal import say, show_path


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Writes the best network of a run, however it was trained, as a .keras file for plain Keras.", "export"
    )
    parser.add_argument("--run", metavar="DIR", required=True, help="run folder that training wrote")
    parser.add_argument("--output", metavar="FILE", required=True, help="new .keras file")
    return run_command(export, parser, argv)


def export(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    if output.suffix != ".keras":
        raise UserError(f"--output is {output}, but must end in .keras, by which Keras knows its files.")
    check_runs(arguments.run)
    refuse_existing(output)
    start_tensorflow()
    from unet_lowlevel.inference.predictor import load
    from unet_lowlevel.reference.keras_unet import KerasUNet
    from unet_lowlevel.reference.weights import write_keras

    predictor = load(arguments.run, network=KerasUNet)
    network, data = predictor.networks[0].model.network, predictor.config.data
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_keras(network, output)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error.strerror}): choose another place.") from None
    size = f"{data.image_size} pixels a side" if data.image_size else f"{data.resolution:g} of their sides"
    first = f"resized to {size} by the mean of the area, then " if data.resizes else ""
    say(f"wrote {show_path(output)}: logits of images {first}normalized as the run's config.json says")
