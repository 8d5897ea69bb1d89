"""The run folder: what a training writes, and all that prediction and evaluation need.

config.json      every setting, versions of the packages, fingerprint of the data
split.json       stems of the training and of the validation images
checkpoints/     the newest states of the training, for --resume
instances.json   thresholds that separate objects, once chosen
best/            the weights with the best validation mean IoU (--keep last: those of the last epoch)
history.csv      one line per epoch
train/, validation/    TensorBoard
"""

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from unet_lowlevel.config import Config
from unet_lowlevel.errors import UserError, shown
from unet_lowlevel.settings import check, from_json, load_json, to_json


def next_free(name: str, runs: Path = Path("runs")) -> Path:
    """runs/NAME-1, or the first of runs/NAME-2, ... that does not exist yet."""
    number = 1
    while (runs / f"{name}-{number}").exists():
        number += 1
    return runs / f"{name}-{number}"


def check_new(folder: Path) -> None:
    """Raises a `UserError` unless `folder` is free to become a run folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run {folder} is a file, but needs a new folder: choose another name.")
    if folder.exists() and any(folder.iterdir()):
        remedy = "add --resume to go on with it, or choose another name" if is_run(folder) else "choose another name"
        raise UserError(f"--run {folder} is not empty: {remedy}.")


def is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


@contextlib.contextmanager
def in_use(folder: Path, name: str = "config.json") -> Iterator[None]:
    """Locks a run folder against other trainings. The system unlocks it when the process ends, even if it is killed.

    Args:
        folder: of a run, or of a cross-validation.
        name: of the file in it that is locked.

    Raises:
        UserError: when another process is training there.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where the folder is not locked
        yield
        return
    with (folder / name).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--run {folder} is in use by another training: wait for its end, or stop it.") from None
        yield


def refuse_links(folder: Path) -> None:
    """Raises a `UserError` if a run folder contains a link: a resumed training would write to its target."""
    links = [path for path in sorted(folder.rglob("*")) if path.is_symlink()]
    if links:
        raise UserError(
            f"{links[0]} is a link, but all that --resume writes to must lie in the run folder: copy it there."
        )


def write_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process, or a link whose target must not be overwritten
    with temporary.open("x", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def create(
    folder: Path,
    config: Config,
    training: list[str],
    validation: list[str],
    fingerprint: str,
    implementation: str = "lowlevel",
) -> None:
    """Makes the folder with config.json and split.json; `implementation`: lowlevel, highlevel or keras."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run {folder} cannot be made ({error.strerror}): choose another place.") from None
    packages = ("unet-lowlevel", "tensorflow", "numpy", "scikit-image")
    versions = {"python": platform.python_version()} | {name: installed_version(name) for name in packages}
    split = {"training": training, "validation": validation}
    write_text(folder / "split.json", json.dumps(split, indent=1) + "\n")
    run = {"implementation": implementation, "versions": versions, "data_fingerprint": fingerprint}
    # Last, because config.json makes the folder a run.
    write_text(folder / "config.json", json.dumps(to_json(config) | {"run": run}, indent=1) + "\n")


def installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def read(folder: Path) -> tuple[Config, dict, dict]:
    """The settings, the 'run' part of config.json, and split.json of a run folder.

    Raises:
        UserError: when `folder` is no run folder, or a file in it cannot be used.
    """
    if not folder.is_dir():
        raise UserError(f"--run {folder} does not exist: name a run folder, such as one below runs/.")
    if not is_run(folder):
        raise UserError(f"--run {folder} is no run folder (it has no config.json): name a folder that training made.")
    content = load_json(folder / "config.json")
    config = check(from_json(content, str(folder / "config.json")))
    if config.model.in_channels < 1:
        raise UserError(f"{folder / 'config.json'} has model.in_channels 0, but a trained network has at least 1.")
    run, split = content.get("run", {}), load_json(folder / "split.json")
    if not isinstance(run, dict):
        raise UserError(
            f"{folder / 'config.json'} has {shown(run)} in section 'run', but needs versions: restore the file."
        )
    parts = [split.get(part) if isinstance(split, dict) else None for part in ("training", "validation")]
    if not all(isinstance(stems, list) and stems and all(isinstance(stem, str) for stem in stems) for stems in parts):
        raise UserError(f"{folder / 'split.json'} does not list training and validation images: restore the file.")
    return config, run, split
