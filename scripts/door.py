"""What every script here does: it hands its flags to a command of the package."""

import importlib
import sys


def open_door(command: str, **options) -> None:
    """Runs `unet_lowlevel.cli.COMMAND.main` and ends with its exit code; says how to install where that is missing."""
    try:
        module = importlib.import_module(f"unet_lowlevel.cli.{command}")
    except ModuleNotFoundError as error:
        print(
            f"error: {error.name} is not installed for {sys.executable}: run `python3 -m venv .venv && .venv/bin/pip "
            "install -e .` in the folder of the checkout, and then this script with .venv/bin/python.",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(module.main(**options))
