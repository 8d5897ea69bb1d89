"""What a person sees of a long piece of work: lines, bars, commands to type next."""

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

Progress = Callable[[Iterable], Iterable]


def on_terminal() -> bool:
    """Whether somebody watches; a bar is for a terminal, a log gets lines only."""
    return sys.stderr.isatty()


def say(text: str, bar: type[tqdm] | tqdm = tqdm) -> None:
    """Prints a line above the bar, at once also into a file."""
    bar.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints a line about something that went on otherwise than planned."""
    tqdm.write(f"note: {text}", file=sys.stderr)


def progress(what: str) -> Progress:
    """A bar over the items of a list, on a terminal only."""
    return lambda items: tqdm(items, desc=what, disable=not on_terminal(), leave=False)


def show_path(path: Path | str) -> str:
    """A path as one would type it here: relative below the current folder, quoted where needed."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
