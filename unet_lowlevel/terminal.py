"""Output of long work for people: lines, progress bars, commands to type next."""

import contextlib
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

Progress = Callable[..., Iterable]
# Called after every training step with its number and the mean loss of the epoch so far.
OnStep = Callable[[int, float], None]
# Seconds between two lines in a log.
INTERVAL = 30


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


def progress(what: str, unit: str = "it", log: bool = False) -> Progress:
    """A bar over the items of a list, or over `count` items, on a terminal only.

    With `log`, what is no terminal gets a line now and then instead: how many are done, how fast, and the time left.
    """

    def shown(items: Iterable, count: int | None = None) -> Iterable:
        if log and not on_terminal():
            return logged(items, what, unit, len(items) if count is None else count)
        return tqdm(items, desc=what, unit=unit, total=count, disable=not on_terminal(), leave=False)

    return shown


def logged(items: Iterable, what: str, unit: str, count: int) -> Iterator:
    """The items; a line every `INTERVAL` seconds tells how far they are."""
    begun = told = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if not number:  # what goes before the first item is not to be expected of the others
            begun = told = now
        elif now - told >= INTERVAL:
            told, rate = now, number / (now - begun)
            left = tqdm.format_interval((count - number) / rate)
            complain(f"{what}: {number} of {count} {unit}, {rate:.3g} per second, {left} left")
        yield item


def show_path(path: Path | str) -> str:
    """A path to type in a shell: relative if it is below the current folder, quoted if needed; or a URL."""
    if "://" in str(path):
        return shlex.quote(str(path))
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
