"""Other packages: which version is installed, and those that only some work needs."""

import importlib
import importlib.metadata
from pathlib import Path

from unet_lowlevel.errors import UserError


def installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def optional_package(name: str, user: str | Path, extra: str = "medical"):
    """Imports the package `name` of an `extra`, which `user`, a file or flag, needs; a `UserError` if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{user} needs the package {name}: run pip install -e '.[{extra}]'.") from None
