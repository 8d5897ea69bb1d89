"""Writes results completely or not at all, and never over existing files."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from unet_lowlevel.disk import put_in_place
from unet_lowlevel.errors import UserError


def refuse_existing(path: Path) -> None:
    """Raises a `UserError` if `path` exists: nothing is ever overwritten."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already and is not overwritten: move it away or name another folder.")


def check_new_output(output: Path) -> None:
    """Raises a `UserError` unless --output is new or an empty folder."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file, but needs a new folder: choose another name.")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"--output {output} is not empty: choose another name.")


def make_output(output: Path) -> None:
    """Makes the folder --output if it does not exist; raises a `UserError` if that fails."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made ({error.strerror}): choose another folder.") from None


def temporary_of(path: Path, suffix: str = ".tmp") -> Path:
    """Where `written_whole` writes first; the name has a fixed length, because that of `path` may be the longest."""
    return path.with_name(f".{uuid.uuid5(uuid.NAMESPACE_URL, path.name).hex}{suffix}")


@contextlib.contextmanager
def written_whole(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yields a temporary path beside `path`, for a file or a folder, and renames it to `path` at the end.

    After an error it is removed. What a killed process has left of the same file goes too.

    Raises:
        UserError: when `path` exists or cannot be written.
    """
    refuse_existing(path)
    temporary = temporary_of(path, suffix)
    _remove(temporary)
    try:
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        raise UserError(f"{path} is not writable ({error.strerror or error}): name a folder with room in it.") from None
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Removes a file or a folder, if it is there and can be removed."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


def write_image(path: str | Path, array: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Writes [H,W] or [H,W,1] uint8 or uint16, or [H,W,3] uint8, as PNG: see `written_whole`.

    `palette` uint8 [256,3]: the colours in which the values of uint8 [H,W] are shown.
    """
    path = Path(path)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if path.suffix.lower() != ".png" or (array.ndim, array.dtype) not in ((2, np.uint8), (2, np.uint16), (3, np.uint8)):
        raise ValueError(f"no PNG of {array.dtype} {array.shape} as {path.name}")
    with written_whole(path) as temporary:
        image = Image.fromarray(array)
        if palette is not None:
            image.putpalette(palette.tobytes())
        image.save(temporary, format="PNG")
