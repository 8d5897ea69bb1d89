"""Puts files and folders in their place as a whole, also if the power fails; finds a folder that was renamed."""

import contextlib
import errno
import os
from pathlib import Path
from typing import IO


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


def lock(file: IO) -> bool:
    """Keeps a file for this process as long as it is open; False if another one has it.

    Where the system or the file system has no locks, nobody is kept out.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a file system without locks
        pass
    return True


class Place:
    """A folder that is found again when it, or one above it, is renamed."""

    def __init__(self, folder: Path):
        """Follows the folder, which exists, until `close`."""
        self.folder = folder
        self.descriptor = None if os.name == "nt" else os.open(folder, os.O_RDONLY)  # Windows renames none in use

    def current(self) -> Path | None:
        """Where the folder is now; None if it was removed, or if the system does not tell."""
        if self.descriptor is None:
            return self.folder
        paths = [self.folder]
        with contextlib.suppress(OSError):  # without /proc
            paths.append(Path(os.readlink(self.through())))
        for path in paths:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), os.fstat(self.descriptor)):
                    return path
        return None

    def through(self) -> Path:
        """A path that leads to the folder wherever it is now, where the system has such paths."""
        path = Path(f"/proc/self/fd/{self.descriptor}")
        return path if path.exists() else self.folder

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
