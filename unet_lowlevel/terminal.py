"""Output of long work for people: lines, progress bars, commands to type next."""

import contextlib
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

Progress = Callable[[Iterable], Iterable]
# Called after every training step with its number and the mean loss of the epoch so far.
OnStep = Callable[[int, float], None]


def on_terminal() -> bool:
    """Whether stderr is a terminal: a terminal gets a progress bar, a log gets lines only."""
    return sys.stderr is not None and sys.stderr.isatty()


def say(text: str) -> None:
    """Prints lines to stdout, above the progress bars, and at once, also to a file; `text` is without the last newline.

    No work ends because it cannot be printed: what a closed pipe or a full disk does not take is lost, and characters
    that the encoding lacks are escaped.
    """
    put(text, sys.stdout)


def complain(text: str) -> None:
    """As `say`, but to stderr."""
    put(text, sys.stderr)


def put(text: str, stream: TextIO | None) -> None:
    """Prints lines to a stream; None: of a process that was started without it."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):
        tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), stream)
        stream.flush()


def note(text: str) -> None:
    """Prints to stderr that the program goes on differently than planned."""
    complain(f"note: {text}")


def warn(text: str) -> None:
    """Prints to stderr what the result will probably suffer from."""
    complain(wrapped(f"warning: {text}"))


def wrapped(text: str, indent: int = 2) -> str:
    """The text in lines of at most 100 characters, the further ones indented; words, such as flags, stay whole."""
    return textwrap.fill(text, 100, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def progress(what: str) -> Progress:
    """A bar over the items of a list, on a terminal only."""
    return lambda items: tqdm(items, desc=what, disable=not on_terminal(), leave=False)


def show_path(path: Path | str) -> str:
    """A path to type in a shell: relative if it is below the current folder, quoted if needed; or a URL."""
    if "://" in str(path):
        return shlex.quote(str(path))
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
