"""What all commands share: flags made from `config.py`, and one-sentence errors."""

import argparse
import dataclasses
import difflib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from tqdm import tqdm

from unet_lowlevel import __version__, run_folder
from unet_lowlevel.config import PRESETS, Config
from unet_lowlevel.errors import UserError, reason, shown
from unet_lowlevel.ray_session import check_ray
from unet_lowlevel.scoring import check_scores
from unet_lowlevel.settings import checked, flag, is_list, is_utf8, resolve, sections, settings
from unet_lowlevel.terminal import complain, in_terminal, say, show_path
from unet_lowlevel.training.interruption import Interruptions, Stopped

# Hides TensorFlow's remarks on CUDA and CPU, unless the user has set the variable; what matters it raises.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The default is a lock of several processes, which one that is killed leaves behind.
tqdm.set_lock(threading.RLock())


# {command of the wheel: its script in a checkout}
SCRIPTS = {
    "train": "train_lowlevel.py",
    "predict": "predict_lowlevel.py",
    "evaluate": "evaluate_lowlevel.py",
    "check": "check_data.py",
    "cross-validate": "cross_validate_lowlevel.py",
    "compare": "compare_implementations.py",
    "export": "export_lowlevel.py",
    "pack": "pack_lowlevel.py",
    "phantoms": "make_phantoms.py",
    "experiment": "experiment_lowlevel.py",
}
CONSOLE_SCRIPT, MODULE = "unet-lowlevel", "__main__.py"
# Longer lists of choices stand in a flag's help text, not behind its name, so that lines have at most 80 characters.
WIDEST = 50


def to_type(command: str, *, this: bool = False) -> str:
    """The text to type for a command, called as this one was: by name, as a module, or as a script of a checkout.

    Args:
        command: of `SCRIPTS`.
        this: it is the running command; its own script is named, which may be for example train_keras.py.
    """
    called = Path(sys.argv[0])
    if called.name == CONSOLE_SCRIPT:
        found = shutil.which(CONSOLE_SCRIPT)
        on_path = found is not None and Path(found).resolve().with_suffix("") == called.resolve()  # .exe on Windows
        return f"{CONSOLE_SCRIPT if on_path else show_path(called)} {command}"
    if called.name == MODULE:
        return f"{show_path(sys.executable)} -m unet_lowlevel {command}"
    return f"{show_path(sys.executable)} {show_path(called if this else called.parent / SCRIPTS[command])}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UserError`s of one sentence, and whose help begins with everyday flags."""

    def __init__(self, description: str, command: str):
        """`command` is one of `SCRIPTS`."""
        called = Path(sys.argv[0]).name
        prog = f"{CONSOLE_SCRIPT} {command}" if called in (CONSOLE_SCRIPT, MODULE) else None
        super().__init__(prog, description=description, usage="%(prog)s [flags]", allow_abbrev=False)
        self.rare: list[tuple[object, str, str]] = []  # (flag or group, attribute, text) that --help leaves out
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.add_argument("--version", action="version", version=f"unet_lowlevel {__version__}")
        # Without hidden flags the same as --help, of which the help says nothing.
        self.help_all = self.add_argument("--help-all", action=HelpAll, nargs=0, help=argparse.SUPPRESS)

    def hide(self, thing, attribute: str, instead: str | None) -> None:
        """Shows a flag's help or a group's description in --help-all only."""
        self.help_all.help = "show the other flags as well, and exit"
        self.rare.append((thing, attribute, getattr(thing, attribute)))
        setattr(thing, attribute, instead)

    def _print_message(self, message: str, file=None) -> None:  # all that argparse prints: help and version
        say(message.rstrip("\n"))

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


class HelpAll(argparse.Action):
    """--help-all: the help with all flags."""

    def __call__(self, parser, namespace, values, option_string=None):
        for thing, attribute, text in parser.rare:
            setattr(thing, attribute, text)
        parser.print_help()
        parser.exit()


def add_settings(parser: Parser, *names: str, defaults: dict | None = None, without: Collection[str] = ()) -> None:
    """Adds --preset, --config and a flag for every setting; with `names` only the flags of these settings.

    `defaults` are this command's own, in place of the general ones; the settings `without` get no flag.
    """
    defaults = defaults or {}

    def everyday(item: dataclasses.Field) -> bool:
        return item.metadata["everyday"] or item.name in defaults

    if not names:
        parser.set_defaults(defaults=defaults)
        presets = ", ".join(PRESETS)
        text = f"settings to start from: {presets}; of several, as in paper,strong_augmentation, later ones win"
        parser.add_argument("--preset", default="default", metavar="NAME", help=text)
        parser.add_argument("--config", metavar="FILE", help="JSON file of settings, such as a run's config.json")
    for section, kind in sections().items():
        fields = [item for item in dataclasses.fields(kind) if item.name not in without]
        chosen = [item for item in fields if not names or item.name in names]
        group = parser.add_argument_group(section, kind.__doc__.splitlines()[0]) if chosen else None
        for item in chosen:
            action = add_flag(group, item, defaults.get(item.name, item.default))
            if not names and not everyday(item):
                parser.hide(action, "help", argparse.SUPPRESS)
        if chosen and not names and not any(map(everyday, chosen)):
            parser.hide(group, "description", None)


def run_named(text: str) -> str:
    """The run folder that --run names; see `run_folder.named`."""
    return str(run_folder.named(text))


def add_runs(parser: Parser) -> None:
    """Adds --run, --plain, and the flags for averages over views of an image."""
    parser.add_argument(
        "--run",
        metavar="DIR",
        nargs="+",
        required=True,
        type=run_named,
        help="run folder that training wrote, or demo, a small network for phantoms that comes with the package; of "
        "several the probabilities are averaged, and images are read, and the threshold applied, as in the first",
    )
    views = add_average(parser)
    views.add_argument(
        "--average-rotations",
        dest="average",
        action="store_const",
        const="rotations",
        help="average over the image rotated by 7 angles, as the paper does; takes 7 to 14 times as long",
    )
    parser.add_argument(
        "--plain", action="store_true", help="predict by the definitions of the network, without their fast forms"
    )


def add_average(parser: Parser):
    """Adds --average-flips and --no-average-flips; returns their group, of which one flag can be given."""
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--average-flips",
        dest="average",
        action="store_const",
        const="flips",
        help="average over the image mirrored and turned in the ways that the training has shown, up to 8; takes up to "
        "8 times as long (default: as the training was told, or has planned)",
    )
    views.add_argument(
        "--no-average-flips", dest="average", action="store_const", const="none", help="predict the image as it is"
    )
    parser.set_defaults(average="")
    return views


def add_flag(group, item: dataclasses.Field, default) -> argparse.Action:
    """The flag of one setting; its default shows in the help, but only given flags reach the namespace."""
    options = {"dest": item.name, "default": argparse.SUPPRESS}
    if item.type is bool:
        text = f"{item.metadata['help']} (default: {'on' if default else 'off'})"
        return group.add_argument(flag(item.name), action=argparse.BooleanOptionalAction, help=text, **options)
    default = ",".join(map(str, default)) if is_list(item) else default
    text, choices = item.metadata["help"].replace("%", "%%"), item.metadata["choices"]
    kind = {int: "N", float: "X", str: "TEXT"}.get(item.type, "X,X")
    metavar = item.metadata["metavar"] or ("{" + ",".join(choices) + "}" if choices else kind)
    if len(metavar) > WIDEST:
        metavar, text = "NAME", f"{text}: {', '.join(choices)}"
    text += f" (default: {default})" if default != "" else ""
    return group.add_argument(
        flag(item.name), metavar=metavar, help=text, type=lambda text: read_flag(item, text), **options
    )


def read_flag(item: dataclasses.Field, text: str):
    """The value of a flag, checked, or a `UserError`."""
    value = text
    if is_list(item):
        value = [to_number(part, float) for part in text.split(",") if part.strip()]
    elif item.type is not str:
        value = to_number(text, item.type)
    return checked(item.name, value, flag(item.name))


def to_number(text: str, kind: type):
    """`text` as a number if it is one; else unchanged, so that `checked` reports it."""
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


def given_scores(arguments: argparse.Namespace) -> list[str] | None:
    """The names in --scores, or a `UserError`; None without the flag."""
    if arguments.scores is None:
        return None
    scores = [name.strip() for name in arguments.scores.split(",") if name.strip()]
    check_scores(scores)
    return scores


def add_cluster(parser: Parser) -> None:
    """Adds --cluster and --workers of what processes of Ray can do together."""
    parser.add_argument(
        "--cluster",
        choices=("ray",),
        help="by processes of Ray: on the cluster of RAY_ADDRESS or `ray start`, else on this machine",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes of --cluster (default: one on each machine of it)"
    )


def check_cluster(arguments: argparse.Namespace) -> None:
    """Raises a `UserError` for what --cluster and --workers cannot ask for."""
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}, but must be at least 1: leave it out for one a machine.")
    if arguments.workers and not arguments.cluster:
        raise UserError(f"--workers {arguments.workers} is for a cluster: add --cluster ray, or leave it out.")
    if arguments.cluster:
        check_ray()


def check_runs(runs: str | list[str]) -> list[Config]:
    """The settings of the runs; a `UserError` if one is no run, before TensorFlow is imported, which takes seconds."""
    return [run_folder.read(Path(run))[0] for run in ([runs] if isinstance(runs, str) else runs)]


def run_command(work: Callable[[argparse.Namespace], int | None], parser: Parser, argv: list[str] | None) -> int:
    """Parses and works; a `UserError` becomes one sentence and its exit code, a signal exit code 128 + its number."""
    debug, signals = "--debug" in (sys.argv[1:] if argv is None else argv), Interruptions()
    try:
        with signals:
            return work(parser.parse_args(argv)) or 0
    except (UserError, OSError) as error:
        # Reading and writing have better messages; this one is for all else that the system refuses.
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            error = UserError(f"{error.filename} cannot be used ({reason(error)}): mend that, or name another place.")
        if debug:
            complain(traceback.format_exc().rstrip())
        # A file's name may hold anything; escapes keep the sentence on one line and printable.
        line = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(error)
        )
        complain(in_terminal(f"error: {line}"))
        return error.exit_code
    except Stopped as stopped:
        return 128 + stopped.signal
    except BaseException as error:
        if not signals.received and not isinstance(error, KeyboardInterrupt):
            raise
        remedy = error.args if isinstance(error, KeyboardInterrupt) else ()  # else it is what has become of one
        complain("; ".join(["interrupted", *map(str, remedy)]))
        return 128 + (signals.received or signal.SIGINT)
