"""Experiments from the command line."""

import argparse
import difflib
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, run_command, to_type
from unet_lowlevel.data.formats.writing import check_new_output, make_output
from unet_lowlevel.errors import UserError
from unet_lowlevel.laboratory.experiments import EXPERIMENTS, Scale, picture, run, table
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.run_folder import write_json, write_text
from unet_lowlevel.terminal import say, show_path

NAMES = "".join(f"  {name:21s}{experiment.question}\n" for name, experiment in EXPERIMENTS.items())


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Answers one question by a few small trainings, in minutes.", "experiment")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"experiments:\n{NAMES}"
    parser.add_argument("name", metavar="NAME", nargs="?", help="which experiment; none: their list")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="new folder for picture (NAME.svg), table (NAME.md) and figures (NAME.json) (default: experiments/NAME)",
    )
    return run_command(experiment, parser, argv)


def experiment(arguments: argparse.Namespace) -> None:
    name = arguments.name
    if name is None:
        return say(f"{to_type('experiment')} NAME runs one of\n\n{NAMES}")
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, 1)
        remedy = f"did you mean {close[0]}?" if close else f"use one of {', '.join(EXPERIMENTS)}."
        raise UserError(f"{name!r} is no experiment: {remedy}")
    output = arguments.output or Path("experiments") / name
    check_new_output(output)
    start_tensorflow()
    figures = run(name, Scale())
    make_output(output)
    write_json(output / f"{name}.json", figures)
    write_text(output / f"{name}.md", f"{figures['question']} `{figures['command']}`\n\n{table(name, figures)}")
    write_text(output / f"{name}.svg", picture(name, figures))
    say(f"\n{table(name, figures)}\nwrote {name}.svg, {name}.md and {name}.json to {show_path(output)}")
