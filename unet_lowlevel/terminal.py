"""Output of long work for people: lines, progress bars, commands to type next."""

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

Progress = Callable[[Iterable], Iterable]


def on_terminal() -> bool:
    """Whether stderr is a terminal: a terminal gets a progress bar, a log gets lines only."""
    return sys.stderr.isatty()


def say(text: str, bar: type[tqdm] | tqdm = tqdm) -> None:
    """Prints a line above the bar, and flushes it, also to a file."""
    bar.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints to stderr that the program goes on differently than planned."""
    tqdm.write(f"note: {text}", file=sys.stderr)


def warn(text: str) -> None:
    """Prints to stderr what the result will probably suffer from."""
    tqdm.write(f"warning: {text}", file=sys.stderr)


def progress(what: str) -> Progress:
    """A bar over the items of a list, on a terminal only."""
    return lambda items: tqdm(items, desc=what, disable=not on_terminal(), leave=False)


def show_path(path: Path | str) -> str:
    """A path to type in a shell: relative if it is below the current folder, quoted if needed."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
