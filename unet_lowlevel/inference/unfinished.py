"""The notes in the output folder of a prediction that is not finished; `predict --resume` goes on with it.

A note is a file of JSON lines. {"settings": ...} tells how it goes on from here, {"file": ..., "sha256": ...} what was
written. Each process that writes masks has a note of its own: a prediction `predict.jsonl`, a shard of it
`predict_3_of_8.jsonl`, and each worker of a cluster one whose name begins likewise.
"""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from unet_lowlevel.data.formats.writing import make_output
from unet_lowlevel.disk import lock, put_in_place
from unet_lowlevel.errors import UserError, shown
from unet_lowlevel.inference.images import WHOLE, Shard

# Settings that tell the network: with another one, what is there is predicted again.
NETWORK = ("run", "weights")
# Settings of shards; a prediction without --shard goes on with all of them.
SHARDS = ("shards", "collection")


def note_of(output: Path, shard: Shard = WHOLE) -> Path:
    """The note of a prediction, or of a shard of it."""
    return output / ("predict.jsonl" if shard == WHOLE else f"predict_{shard.index}_of_{shard.count}.jsonl")


def notes_in(output: Path, shard: Shard = WHOLE) -> list[Path]:
    """The notes there are of a shard and its workers; of the whole, also those of all shards."""
    stem = note_of(output, shard).stem
    return sorted({*output.glob(f"{stem}.jsonl"), *output.glob(f"{stem}_*.jsonl")})


class Before:
    """What an unfinished prediction has written before it is resumed."""

    def __init__(self, folder: Path, notes: Iterable[Path] = (), weights: object = None):
        """Reads the notes; files are finished that were written with these `weights`."""
        self.folder = folder
        self.files: dict[str, tuple[str, bool]] = {}  # {name: (checksum, whether it is of these weights)}
        for note in notes:
            same = False
            for line in lines_of(note):
                same = line["settings"].get("weights") == weights if "settings" in line else same
                if "file" in line:
                    self.files[line["file"]] = line["sha256"], same

    def finished(self, name: str) -> bool:
        """Whether a file is as it was written, by this network; one that was cut off or changed is not."""
        path = self.folder / name
        digest, same = self.files.get(name, ("", False))
        return same and path.is_file() and not path.is_symlink() and checksum(path) == digest

    def make_room(self, name: str) -> Path | None:
        """Takes away a file that is not finished: what another network has written is removed, all else is renamed.

        Returns:
            The new name, if it has one.
        """
        path = self.folder / name
        if self.files.get(name, ("",))[0] == checksum(path):
            path.unlink()
            return None
        names = (path.with_name(f"{name}.before{number or ''}") for number in itertools.count())
        free = next(other for other in names if not os.path.lexists(other))
        put_in_place(path, free)
        return free


def goes_on(output: Path, settings: Mapping[str, object], resume: bool, shard: Shard = WHOLE) -> Before | None:
    """What was written before, where a prediction in the folder `output` goes on; None where one begins.

    Args:
        output: of the prediction; need not exist.
        settings: all that changes masks, as JSON can hold it.
        resume: --resume is given; without a note it changes nothing.
        shard: the shard that is predicted.

    Raises:
        UserError: when the folder has a note, and `resume` is not given or settings differ. Another network, or a whole
            prediction after its shards, does not differ.
    """
    own = notes_in(output, shard)
    if own and not resume:
        raise UserError(
            f"--output {output} holds a prediction that is not finished: add --resume to go on with it, or name "
            "another folder."
        )
    now = json.loads(json.dumps(settings))
    for note in notes_in(output):
        before = next(lines_of(note), {}).get("settings", now)
        for name in {**before, **now}:
            counts = name not in (*NETWORK, *(SHARDS if shard == WHOLE else ()))
            if counts and before.get(name) != now.get(name):
                raise UserError(
                    f"--output {output} holds a prediction with {name} {shown(before.get(name))}, but now it is "
                    f"{shown(now.get(name))}: give the same flags, or name another folder."
                )
    return Before(output, own, now.get("weights")) if own else None


def lines_of(note: Path) -> Iterator[dict]:
    """The lines of a note, but for the one that a process was writing when it was killed.

    Raises:
        UserError: when it is no note.
    """
    with note.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file):
            try:
                line = json.loads(text.strip() or "{}")
            except ValueError:
                line = {} if number else None
            of_settings = isinstance(line, dict) and isinstance(line.get("settings", {}), dict)
            if not of_settings or not all(isinstance(line.get(key, ""), str) for key in ("file", "sha256")):
                raise UserError(f"{note} does not hold the settings of a prediction: name another folder.")
            yield line


class Note:
    """The note that this process writes."""

    def __init__(self, path: Path, settings: Mapping[str, object]):
        """Begins a note, or goes on with one, whose last line a kill may have cut off."""
        self.path, self.settings = path, settings
        self.write("\n" if path.is_file() and path.stat().st_size else "")
        self.add(settings=settings)

    def add(self, **line: object) -> None:
        """Adds a line."""
        self.write(json.dumps(line) + "\n")

    def write(self, text: str) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            what = error.strerror or error
            raise UserError(f"{self.path} is not writable ({what}): name a folder with room in it.") from None

    def wrote(self, name: str) -> None:
        """Adds a file of the folder that has been written, if it is there."""
        path = self.path.with_name(name)
        if path.is_file():
            self.add(file=name, sha256=checksum(path))


@contextlib.contextmanager
def begun(output: Path, settings: Mapping[str, object], shard: Shard = WHOLE) -> Iterator[Note]:
    """Makes the folder and the note in it, and keeps other predictions out while the context lasts.

    Shards are predicted side by side; a whole prediction waits for none of them.

    Raises:
        UserError: when they cannot be made, or another process predicts there.
    """
    make_output(output)
    with contextlib.ExitStack() as stack:
        # Windows has no such locks, and removes no file that is open.
        for path in () if os.name == "nt" else {note_of(output, shard), *notes_in(output, shard)}:
            if not lock(stack.enter_context(path.open("a"))):
                raise UserError(f"--output {output} is in use by another prediction: wait for its end.")
        try:
            yield Note(note_of(output, shard), settings)
        finally:
            if not set(output.iterdir()) - set(notes_in(output)):  # nothing was written
                end(output, shard)


def end(output: Path, shard: Shard = WHOLE) -> None:
    """Removes the notes of a prediction that is finished."""
    for note in notes_in(output, shard):
        note.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
