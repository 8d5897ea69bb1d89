"""The run folder: what a training writes, and all that prediction and evaluation need.

config.json      every setting, versions of the packages, fingerprint of the data
plan.json        fingerprint of the data, and the settings planned for it, with reasons
split.json       stems of the training and of the validation images
checkpoints/     the newest states of the training, for --resume
threshold.json   threshold of the mask, once chosen: at the end of the training, of networks with one class
instances.json   thresholds that separate objects, once chosen: at the end of the training if it has instance labels
model_card.md    what the network was shown, its scores and limits, and model_card.json: at the end of the training
best/            the weights of the epoch with the best validation Dice (--keep last: those of the last epoch)
history.csv      one line per epoch
train/, validation/, network/, summary/    TensorBoard; with --profile also plugins/
.lock            locked as long as a training works here
"""

import contextlib
import csv
import io
import itertools
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from unet_lowlevel.config import Config
from unet_lowlevel.disk import Place, lock, put_in_place, sync
from unet_lowlevel.errors import UserError, shown
from unet_lowlevel.packages import installed_version
from unet_lowlevel.settings import check, from_json, load_json, to_json

LOCK = ".lock"
"""The file that is in a run folder, and locked, as long as a training works there."""

DEMO = Path(__file__).with_name("demo")
"""The run of a small network for the phantoms, which comes with the package.

It was trained on data/phantoms, as a training draws them, with `--base-channels 4`. Its instances.json is of `evaluate
--run COPY_OF_IT --scores instances --choose-thresholds --split training`.
"""


def named(run: str | Path) -> Path:
    """The run folder of this name; "demo" is `DEMO`, unless there is a folder of that name."""
    folder = Path(run)
    return DEMO if str(run) == DEMO.name and not folder.exists() else folder


@contextlib.contextmanager
def next_free(name: str, runs: Path = Path("runs")) -> Iterator[Path]:
    """Makes runs/NAME-1, or the first of runs/NAME-2, ... that does not exist yet; removes it in the end if empty."""
    with contextlib.ExitStack() as stack:
        for number in itertools.count(1):
            folder = runs / f"{name}-{number}"
            try:
                new = stack.enter_context(made(folder))
                break
            except FileExistsError:
                if not runs.is_dir():
                    raise
        sync_names(new)
        yield folder


@contextlib.contextmanager
def made(folder: Path) -> Iterator[list[Path]]:
    """Makes a folder that does not exist yet; in the end removes it, and the parents it was made with, if empty.

    Yields:
        the folder and those parents.
    """
    new = [path for path in folder.parents if not path.exists()]
    try:
        folder.mkdir(parents=True)
        new.insert(0, folder)
        yield new
    finally:
        remove_empty(new)


def remove_empty(folders: list[Path]) -> None:
    """Removes those of the folders that are empty."""
    for path in folders:
        with contextlib.suppress(OSError):
            path.rmdir()


def sync_names(new: list[Path]) -> None:
    """Waits until the names of new folders are on the disk."""
    for path in new:
        sync(path.parent)


def check_new(folder: Path) -> None:
    """Raises a `UserError` unless `folder` is free to become a run folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run {folder} is a file, but needs a new folder: choose another name.")
    if folder.exists() and any(path.name != LOCK or path.is_symlink() for path in folder.iterdir()):
        remedy = "add --resume to go on with it, or choose another name" if is_run(folder) else "choose another name"
        raise UserError(f"--run {folder} is not empty: {remedy}.")


def is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Makes a run folder, or takes an empty one, and locks it; removes it in the end if it is new and still empty.

    Of several trainings that begin in one folder at once, one gets it.

    Raises:
        UserError: when the folder cannot be made, is not empty, or is in use.
    """
    check_new(folder)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(remove_empty, new)  # whoever has made them: the other may have come too late to lock
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--run {folder} cannot be made ({error.strerror}): choose another place.") from None
        stack.enter_context(in_use(folder))
        check_new(folder)  # again: a training may have begun and ended in between
        sync_names(new)  # not before the lock: it takes a while
        yield


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Locks the folder of a run or of a cross-validation against other trainings.

    The lock is that of a file in it: only files can be locked on network drives. The system unlocks it when the process
    ends, even if it is killed.

    Raises:
        UserError: when another process is training there.
    """
    refusal = UserError(f"--run {folder} is in use by another training: wait for its end, or choose another name.")
    if os.name == "nt":  # where the folder is not locked
        yield
        return
    path = folder / LOCK
    try:
        file = path.open("a")
    except FileNotFoundError:  # another training has just removed the folder that it had made
        raise refusal from None
    except OSError as error:
        raise UserError(f"--run {folder} cannot be written to ({error.strerror}): choose another place.") from None
    with file:
        if not lock(file):
            raise refusal
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise refusal  # the other training has just ended, and what is locked here was its file
        with contextlib.closing(Place(folder)) as place:
            try:
                yield
            finally:
                if place.current():
                    (place.current() / LOCK).unlink(missing_ok=True)


def check_resumable(folder: Path) -> None:
    """Raises a `UserError` if a run folder contains a link, whose target a resumed training would write to, or if
    something in it cannot be written."""
    paths = [folder, *sorted(folder.rglob("*"))]
    blocked = [path for path in paths if path.is_dir() and not os.access(path, os.W_OK)]
    if blocked:
        raise UserError(f"{blocked[0]} cannot be written to, but --resume does so: allow it, or go on with a copy.")
    links = [path for path in paths[1:] if path.is_symlink()]
    if links:
        raise UserError(
            f"{links[0]} is a link, but all that --resume writes to must lie in the run folder: copy it there."
        )


def write_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all; see `put_in_place`."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process, or a link whose target must not be overwritten
    with temporary.open("x", encoding="utf-8") as file:
        file.write(text)
    put_in_place(temporary, path)


def write_json(path: Path, values: Mapping) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    """`write_text` of a table; numbers are read back exactly, and None is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def store(run: Path, name: str, values: dict) -> None:
    """Stores what was chosen after the training in a file of the run folder, or raises a `UserError`."""
    try:
        write_json(run / name, values)
    except OSError as error:
        raise UserError(f"--run {run} cannot be written to ({error.strerror}): allow it, or copy the run.") from None


def create(
    folder: Path,
    config: Config,
    training: list[str],
    validation: list[str],
    fingerprint: str,
    implementation: str = "lowlevel",
    plan: dict | None = None,
) -> None:
    """Writes split.json, plan.json and config.json.

    Args:
        implementation: lowlevel, highlevel or keras.
        plan: what plan.json holds; None: there is none.
    """
    packages = ("unet-lowlevel", "tensorflow", "numpy", "scikit-image")
    versions = {"python": platform.python_version()} | {name: installed_version(name) for name in packages}
    split = {"training": training, "validation": validation}
    write_json(folder / "split.json", split)
    if plan:
        write_json(folder / "plan.json", plan)
    run = {"implementation": implementation, "versions": versions, "data_fingerprint": fingerprint}
    # Last, because config.json makes the folder a run.
    write_json(folder / "config.json", to_json(config) | {"run": run})


def read(folder: Path, flag: str = "--run") -> tuple[Config, dict, dict]:
    """The settings, the 'run' part of config.json, and split.json of a run folder, which `flag` has named.

    Raises:
        UserError: when `folder` is no run folder, or a file in it cannot be used.
    """
    if not folder.is_dir():
        raise UserError(f"{flag} {folder} does not exist: name a run folder, such as one below runs/.")
    if not is_run(folder):
        raise UserError(f"{flag} {folder} is no run folder (it has no config.json): name a folder that training made.")
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
