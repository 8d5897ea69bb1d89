"""Phantoms from the command line."""

import argparse
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.data.phantoms.phantom import write_phantoms
from unet_lowlevel.errors import UserError
from unet_lowlevel.terminal import progress, say, show_path


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Draws thorax slices with lung masks, as image files in DIR/images and DIR/masks.", "phantoms")
    parser.add_argument("--output", metavar="DIR", required=True, help="new folder")
    parser.add_argument("--count", metavar="N", type=int, default=240, help="number of slices (default: %(default)s)")
    parser.add_argument(
        "--height", metavar="N", type=int, default=256, help="pixels, 32 to 4096 (default: %(default)s)"
    )
    parser.add_argument("--width", metavar="N", type=int, default=256, help="pixels, 32 to 4096 (default: %(default)s)")
    parser.add_argument(
        "--slices-per-patient", metavar="N", type=int, default=8, help="slices of one patient (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="other seeds give other patients (default: %(default)s)"
    )
    return run_command(make_phantoms, parser, argv)


def make_phantoms(arguments: argparse.Namespace) -> None:
    limits = {
        "--count": (arguments.count, 1, 10**6),
        "--height": (arguments.height, 32, 4096),
        "--width": (arguments.width, 32, 4096),
        "--slices-per-patient": (arguments.slices_per_patient, 1, 10**6),
        "--seed": (arguments.seed, 0, 2**31 - 1),
    }
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise UserError(f"{name} is {value}, but must be {least} to {most}.")
    write_phantoms(
        Path(arguments.output),
        arguments.count,
        (arguments.height, arguments.width),
        arguments.slices_per_patient,
        arguments.seed,
        progress=progress("drawing phantoms"),
    )
    say(f"wrote {arguments.count} slices to {show_path(arguments.output)}")
