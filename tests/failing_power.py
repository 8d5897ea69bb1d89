"""A disk that keeps what it was told to keep, and nothing else: what a loss of power may leave of a folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Disk:
    """Follows a folder, and looks at it before each renaming and each `os.fsync`.

    What TensorFlow writes without Python is seen too, once it is synced.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[["Disk"], None] | None = None):
        """Begins with the folder as it is; `look` is called before each of these calls."""
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("needs /proc")
        self.folder, self.look = folder, look or (lambda disk: None)
        self.contents: dict[int, bytes] = {}  # of each file by its inode, as it was synced last
        self.names: dict[int, dict[str, int]] = {}  # of each folder
        self.open: list[int] = []  # so that no inode is used again
        self.renamed: list[tuple[Path, Path]] = []
        for path in (folder, *folder.rglob("*")):
            self.keep(path)
        fsync, replace = os.fsync, os.replace

        def watched_fsync(descriptor: int) -> None:
            self.look(self)
            fsync(descriptor)
            self.keep(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

        def watched_replace(source, target) -> None:
            self.look(self)
            assert self.is_kept(Path(source)), f"{source} was renamed before it was synced"
            replace(source, target)
            self.renamed.append((Path(source), Path(target)))

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        monkeypatch.setattr(os, "rename", watched_replace)

    def keep(self, path: Path) -> None:
        """What lies at `path` now is on the disk."""
        self.open.append(os.open(path, os.O_RDONLY))
        number = path.stat().st_ino
        if path.is_dir():
            self.names[number] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.contents[number] = path.read_bytes()

    def is_kept(self, path: Path) -> bool:
        """Whether the file, or the folder with all in it, is on the disk as it is."""
        number = path.stat().st_ino
        if not path.is_dir():
            return self.contents.get(number) == path.read_bytes()
        names = {entry.name: entry.inode() for entry in os.scandir(path)}
        return self.names.get(number, {}) == names and all(map(self.is_kept, path.iterdir()))

    def after_power_loss(self, target: Path, *, with_names: bool) -> Path:
        """Writes to `target` what is left of the folder.

        Args:
            target: a new folder.
            with_names: the names of files reach the disk at once, their content does not; else names do not, either.
        """
        current = {entry.stat().st_ino: entry for entry in (self.folder, *self.folder.rglob("*"))}

        def write(number: int, path: Path) -> None:
            names = self.names.get(number)
            if with_names and number in current:
                entry = current[number]
                names = {e.name: e.inode() for e in os.scandir(entry)} if entry.is_dir() else None
            if names is None and (number in self.contents or number not in current or current[number].is_file()):
                path.write_bytes(self.contents.get(number, b""))
                return
            path.mkdir(parents=True)
            for name, inner in (names or {}).items():
                write(inner, path / name)

        write(self.folder.stat().st_ino, target)
        return target

    def close(self) -> None:
        for descriptor in self.open:
            os.close(descriptor)
