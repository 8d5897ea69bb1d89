"""The note in the output folder of a prediction that is not finished; `predict --resume` goes on with it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from unet_lowlevel.data.formats.writing import make_output, written_whole
from unet_lowlevel.errors import UserError, shown
from unet_lowlevel.settings import load_json

NAME = "predict.json"


def goes_on(output: Path, settings: Mapping[str, object], resume: bool) -> bool:
    """Whether a prediction in the folder `output` goes on where one with the same settings ended.

    Args:
        output: of the prediction; need not exist.
        settings: all that changes masks, as JSON can hold it.
        resume: --resume is given; without a note it changes nothing.

    Raises:
        UserError: when the folder has a note, and `resume` is not given or settings differ.
    """
    note = output / NAME
    if not note.is_file():
        return False
    if not resume:
        raise UserError(
            f"--output {output} holds a prediction that is not finished: add --resume to go on with it, or name "
            "another folder."
        )
    before, now = load_json(note), json.loads(json.dumps(settings))
    if not isinstance(before, dict):
        raise UserError(f"{note} does not hold the settings of a prediction: name another folder.")
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise UserError(
                f"--output {output} holds a prediction with {name} {shown(before.get(name))}, but now it is "
                f"{shown(now.get(name))}: give the same flags, or name another folder."
            )
    return True


@contextlib.contextmanager
def begun(output: Path, settings: Mapping[str, object]) -> Iterator[None]:
    """Makes the folder and the note in it, and keeps other predictions out while the context lasts.

    Raises:
        UserError: when they cannot be made, or another process predicts there.
    """
    make_output(output)
    note = output / NAME
    if not note.is_file():
        with written_whole(note) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    with note.open("rb") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--output {output} is in use by another prediction: wait for its end.") from None
        except (ImportError, OSError):  # Windows, or a file system without locks
            pass
        try:
            yield
        finally:
            if list(output.iterdir()) == [note]:  # nothing was written
                end(output)


def end(output: Path) -> None:
    """Removes the note."""
    (output / NAME).unlink(missing_ok=True)
