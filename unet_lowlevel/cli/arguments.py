"""What all commands share: flags made from `config.py`, and one-sentence errors."""

import argparse
import dataclasses
import difflib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from tqdm import tqdm

from unet_lowlevel.config import PRESETS, Config, checked, flag, is_list, is_utf8, resolve, sections, settings
from unet_lowlevel.errors import UserError, listed, reason, shown
from unet_lowlevel.inference import SCORES, TILE_SIZE
from unet_lowlevel.training.interruption import Stopped

# TensorFlow's remarks on CUDA and CPU would bury ours, and what matters it raises; whoever sets the variable sees them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UserError`s of one sentence."""

    def __init__(self, description: str):
        super().__init__(description=description, usage="%(prog)s [flags]", allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str):
        raise UserError(f"{message[0].upper()}{message[1:]}: see --help.")

    def parse_args(self, args=None, namespace=None):
        for text in sys.argv[1:] if args is None else args:
            if not is_utf8(text):
                raise UserError(f"{shown(text)} on the command line is no text in UTF-8: rename what it names.")
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(name, known, 1)
            raise UserError(
                f"{name} is no flag of this command: {f'did you mean {close[0]}?' if close else 'see --help.'}"
            )
        return parsed


def add_settings(parser: Parser, *names: str, defaults: dict | None = None, without: Collection[str] = ()) -> None:
    """Adds --preset, --config and a flag for every setting, or without presets only for the settings named.

    `defaults` are those of this command, over the general ones; it has no flag for the settings `without`.
    """
    defaults = defaults or {}
    if not names:
        parser.set_defaults(defaults=defaults)
        presets = ", ".join(PRESETS)
        parser.add_argument("--preset", default="default", metavar="NAME", help=f"settings to start from: {presets}")
        parser.add_argument("--config", metavar="FILE", help="JSON file of settings, such as a run's config.json")
    for section, kind in sections().items():
        fields = [item for item in dataclasses.fields(kind) if item.name not in without]
        chosen = [item for item in fields if not names or item.name in names]
        group = parser.add_argument_group(section, kind.__doc__.splitlines()[0]) if chosen else None
        for item in chosen:
            add_flag(group, item, defaults.get(item.name, item.default))


def add_runs(parser: Parser) -> None:
    """Adds --run and whether to average over views of the image; see `predictor_of`."""
    parser.add_argument(
        "--run",
        metavar="DIR",
        nargs="+",
        required=True,
        help="run folder that training wrote; of several the probabilities are averaged, and images are read, and the "
        "threshold applied, as in the first",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--average-flips",
        action="store_true",
        help="average over the image mirrored and turned in all 8 ways; takes 8 times as long",
    )
    views.add_argument(
        "--average-rotations",
        action="store_true",
        help="average over the image rotated by 7 angles, as the paper does; takes 7 to 14 times as long",
    )


def predictor_of(arguments: argparse.Namespace, tile_size: int = TILE_SIZE):
    """The `Predictor` of a command with `add_runs`."""
    from unet_lowlevel.inference.ensemble import make_predictor

    return make_predictor(
        [Path(run) for run in arguments.run],
        average_flips=arguments.average_flips,
        average_rotations=arguments.average_rotations,
        tile_size=tile_size,
    )


def add_flag(group, item: dataclasses.Field, default) -> None:
    """The flag of one setting; its default shows in the help, but only given flags reach the namespace."""
    options = {"dest": item.name, "default": argparse.SUPPRESS}
    if item.type is bool:
        text = f"{item.metadata['help']} (default: {'on' if default else 'off'})"
        group.add_argument(flag(item.name), action=argparse.BooleanOptionalAction, help=text, **options)
        return
    default = ",".join(map(str, default)) if is_list(item) else default
    text = item.metadata["help"].replace("%", "%%") + (f" (default: {default})" if default != "" else "")
    choices = item.metadata["choices"]
    metavar = "{" + ",".join(choices) + "}" if choices else {int: "N", float: "X", str: "TEXT"}.get(item.type, "X,X")
    group.add_argument(flag(item.name), metavar=metavar, help=text, type=lambda text: read_flag(item, text), **options)


def read_flag(item: dataclasses.Field, text: str):
    """The value of a flag, checked, or a `UserError`."""
    value = text
    if is_list(item):
        value = [to_number(part, float) for part in text.split(",") if part.strip()]
    elif item.type is not str:
        value = to_number(text, item.type)
    return checked(item.name, value, flag(item.name))


def to_number(text: str, kind: type):
    """`text` as a number where it is one; else as it is, for `checked` to name it."""
    try:
        return kind(text)
    except ValueError:
        return text


def given_settings(arguments: argparse.Namespace) -> dict:
    """{setting: value} of the flags that were given."""
    return {name: value for name, value in vars(arguments).items() if name in settings()}


def resolved_config(arguments: argparse.Namespace) -> Config:
    """The configuration of a command with `add_settings`."""
    return resolve(arguments.preset, arguments.config, given_settings(arguments), arguments.defaults)


def add_scores(parser: Parser) -> None:
    """The flag --scores, for `given_scores`."""
    parser.add_argument(
        "--scores",
        metavar="LIST",
        help="beside the scores of single pixels, any of: instances (average precision of objects), surfaces "
        "(Hausdorff 95 and mean surface distance), boundaries (Rand, information and warping, as in ISBI 2012)",
    )


def given_scores(arguments: argparse.Namespace) -> list[str]:
    """The names in --scores, or a `UserError`."""
    scores = [name.strip() for name in (arguments.scores or "").split(",") if name.strip()]
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise UserError(f"--scores has {unknown[0]!r}, but may have {listed(list(SCORES))}.")
    return scores


def run_command(work: Callable[[argparse.Namespace], int | None], parser: Parser, argv: list[str] | None) -> int:
    """Parses, works, and turns a `UserError` into one sentence and exit code 2, a signal into 128 and its number."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        return work(parser.parse_args(argv)) or 0
    except (UserError, OSError) as error:
        # What is read and written tells more of its failures; this is for whatever the system refuses beside it.
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            error = UserError(f"{error.filename} cannot be used ({reason(error)}): mend that, or name another place.")
        if debug:
            traceback.print_exc()
        # A file's name may hold anything: the sentence stays one line, of characters that every terminal has.
        line = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(error)
        )
        print(f"error: {line}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def check_new_output(output: Path) -> None:
    """Raises a `UserError` unless --output is free to become a folder."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file, but needs a new folder: choose another name.")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"--output {output} is not empty: choose another name.")


def show_path(path: Path | str) -> str:
    """A path as one would type it here: relative below the current folder, quoted where needed."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


def progress(what: str):
    """A tqdm bar over the items of a list, on a terminal only."""
    return lambda items: tqdm(items, desc=what, disable=not sys.stderr.isatty(), leave=False)


def start_tensorflow() -> None:
    """Imports TensorFlow without what it prints meanwhile, which no setting of its own turns off.

    Called when the arguments are known to be right, since it takes seconds.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
