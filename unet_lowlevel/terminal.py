"""Output of long work for people: lines, progress bars, commands to type next."""

import contextlib
import os
import shlex
import shutil
import subprocess
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
    complain(in_terminal(f"note: {text}"))


def warn(text: str) -> None:
    """Prints to stderr what the result will probably suffer from."""
    complain(wrapped(f"warning: {text}"))


def wrapped(text: str, indent: int = 2, width: int = 100) -> str:
    """The text in lines of at most `width` characters, the further ones indented; words, such as flags, stay whole."""
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def in_terminal(sentence: str) -> str:
    """The sentence, on a terminal in lines that fit it; elsewhere it stays one line, for programs."""
    return wrapped(sentence, width=min(100, shutil.get_terminal_size().columns)) if on_terminal() else sentence


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
    if "://" not in str(path):
        path = Path(path)
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
    # PowerShell takes a program in single quotes for a text; there only what has blanks needs quotes, double ones.
    return shlex.quote(str(path)) if os.name == "posix" else subprocess.list2cmdline([str(path)])


def to_paste(*parts: str) -> str:
    """A command to paste into a shell, indented, in lines of at most 100 characters where its parts allow that.

    Args:
        parts: the command, and its flags with their values, which stay in one line.
    """
    lines = [f"  {parts[0]}"]
    for part in parts[1:]:
        # The shells of Windows have other characters than a backslash there: one line.
        if os.name == "posix" and len(f"{lines[-1]} {part} \\") > 100:
            lines[-1] += " \\"
            lines.append(f"      {part}")
        else:
            lines[-1] += f" {part}"
    return "\n".join(lines)


def tensorboard(folder: Path) -> str:
    """The command that shows the curves and pictures of the runs in a folder, see `to_paste`."""
    # By default TensorBoard keeps 10 pictures of a tag.
    return to_paste(
        f"{show_path(sys.executable)} -m tensorboard.main",
        f"--logdir {show_path(folder)}",
        "--samples_per_plugin images=100",
    )
