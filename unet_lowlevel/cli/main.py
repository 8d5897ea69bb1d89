"""The command `unet-lowlevel`, which runs all others."""

import difflib
import importlib
import sys

from unet_lowlevel import __version__
from unet_lowlevel.terminal import complain, say

# {command: (module, what it does)}
COMMANDS = {
    "train": ("train", "train the U-Net on images with masks"),
    "predict": ("predict", "segment images with a trained run"),
    "evaluate": ("evaluate", "score a trained run on images with masks"),
    "check": ("check", "tell what is in a folder of images, and whether it will train"),
    "cross-validate": ("cross_validate", "train and score a network for each fold"),
    "compare": ("compare", "train the same network three ways, and compare"),
    "export": ("export", "write a run as SavedModel, ONNX, LiteRT, bioimage.io or Keras"),
    "pack": ("pack", "pack images with masks into a few large files, to train from"),
    "phantoms": ("phantoms", "draw thorax slices with lung masks"),
    "experiment": ("experiment", "answer a question about the network by small trainings"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "--help-all"):
        say(help_text())
        return 0
    if argv[0] == "--version":
        say(f"unet_lowlevel {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        close = difflib.get_close_matches(argv[0], COMMANDS, 1)
        remedy = f"did you mean {close[0]}?" if close else f"use one of {', '.join(COMMANDS)}."
        complain(f"error: {argv[0]!r} is no command of unet-lowlevel: {remedy}")
        return 2
    return importlib.import_module(f"unet_lowlevel.cli.{COMMANDS[argv[0]][0]}").main(argv[1:])


def help_text() -> str:
    lines = ["usage: unet-lowlevel COMMAND [flags]", "", "U-Net for medical image segmentation.", ""]
    lines += [f"  {name:16s}{what}" for name, (_, what) in COMMANDS.items()]
    lines += ["", "unet-lowlevel COMMAND --help tells the flags of a command,"]
    lines += ["unet-lowlevel --version the version of the package."]
    return "\n".join(lines)
