"""Puts files and folders in their place as a whole, also if the power fails."""

import errno
import os
from pathlib import Path


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames a file or a folder to `path`, in place of a file there; both lie in one folder.

    When the power fails, `path` is afterwards what it was before, or the new one, whole. When this function has
    returned, it is the new one.
    """
    for item in (temporary, *temporary.rglob("*")):
        sync(item)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk and not only in memory."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows has no such thing for folders
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot do so, either
            raise
    finally:
        os.close(descriptor)
