"""What every script here does: it hands its flags to a command of the package."""

import sys


def open_door(module: str, **options):
    """Runs `main` of a module and ends with its exit code; says how to install where the package is missing."""
    try:
        from unet_lowlevel.cli.process import run
    except ModuleNotFoundError as error:
        print(
            f"error: {error.name} is not installed for {sys.executable}: run `python3 -m venv .venv && .venv/bin/pip "
            "install -e .` in the folder of the checkout, and then this script with .venv/bin/python.",
            file=sys.stderr,
        )
        sys.exit(2)
    run(module, **options)
