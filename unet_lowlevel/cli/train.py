"""Training from the command line."""

import argparse
import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli.arguments import Parser, add_settings, given_settings, resolved_config, run_command, to_type
from unet_lowlevel.cli.train_on_ray import train_on_ray
from unet_lowlevel.config import Config
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.reference.trainers import make_trainer
from unet_lowlevel.terminal import OnStep, complain, say, show_path, tensorboard, to_paste, wrapped
from unet_lowlevel.training.cluster import CLUSTERS, STRATEGIES, replicas_of
from unet_lowlevel.training.interruption import Stopped
from unet_lowlevel.training.train import CHANGES_ON_RESUME, PHANTOM_SETTINGS, PHANTOMS, is_of_phantoms, train

# What `train_NAME.py` trains, and its own defaults.
NETWORKS = {
    "lowlevel": "the low-level U-Net",
    "highlevel": "the same U-Net from tf.keras.layers, with the low-level training step",
    "keras": "the same U-Net as a Keras model, with compile and fit",
}
DEFAULTS = {"keras": {"patience": 10, "plan": "off"}}


def main(argv: list[str] | None = None, implementation: str = "lowlevel", on_step: OnStep | None = None) -> int:
    """The command; returns its exit code.

    Args:
        argv: flags, or None for those of the process.
        implementation: one of `NETWORKS`.
        on_step: see `train`.
    """
    network = NETWORKS[implementation]
    parser = Parser(f"Trains {network}. Without flags: on generated thorax slices, in a few minutes.", "train")
    parser.add_argument(
        "--run", metavar="DIR", help=f"run folder to write; none: the next free runs/{implementation}-N"
    )
    parser.add_argument("--resume", action="store_true", help="go on with --run from its newest checkpoint")
    add_no_check(parser)
    parser.add_argument("--summary", action="store_true", help="print the network layer by layer and stop")
    if implementation == "lowlevel":
        add_replicas(parser)
    add_settings(parser, defaults=DEFAULTS.get(implementation))
    flags = sys.argv[1:] if argv is None else argv
    return run_command(lambda arguments: train_as_asked(arguments, implementation, on_step, flags), parser, argv)


def add_no_check(parser: Parser) -> None:
    """Adds --no-check."""
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="neither look for mistakes in the data nor refuse a step that needs more memory than there is",
    )


def add_replicas(parser: Parser) -> None:
    """Adds the flags that say where the replicas of a training run; they are no settings of the run."""
    group = parser.add_argument_group("several devices or machines, see unet_lowlevel/training/README.md")
    strategies, clusters = (
        "; ".join(f"{name}: {text}" for name, text in table.items()) for table in (STRATEGIES, CLUSTERS)
    )
    group.add_argument("--strategy", choices=STRATEGIES, default="none", help=f"{strategies} (default: none)")
    rare = [
        group.add_argument(
            "--cluster",
            choices=CLUSTERS,
            default="tf_config",
            help=f"of multiworker, who tells each process of the others; {clusters} (default: tf_config)",
        ),
        group.add_argument(
            "--workers", metavar="N", type=int, default=2, help="of ray, how many processes it starts (default: 2)"
        ),
        group.add_argument(
            "--replicas",
            metavar="N",
            type=int,
            default=0,
            help="of mirrored, how many devices; 0: all GPUs (default: 0)",
        ),
    ]
    for flag in rare:
        parser.hide(flag, "help", argparse.SUPPRESS)


def train_as_asked(
    arguments: argparse.Namespace, implementation: str, on_step: OnStep | None, flags: list[str]
) -> int | None:
    """Trains, or prints the summary of the network; `flags` are what the arguments were parsed from.

    Returns:
        the exit code, if another process has found it.
    """
    if arguments.summary:
        print_summary(resolved_config(arguments))
        return None
    if arguments.resume:
        changes = changes_on_resume(arguments, *CHANGES_ON_RESUME)
        config = settings.apply(run_folder.read(Path(arguments.run))[0], changes)
    else:
        config, changes = resolved_config(arguments), {}  # config.json of the run will have them
    on_ray, replicas = False, None
    if implementation == "lowlevel" and arguments.strategy != "none":
        on_ray = arguments.strategy == "multiworker" and arguments.cluster == "ray"
        replicas = None if on_ray else replicas_of(arguments.strategy, arguments.cluster, arguments.replicas)
        if replicas and not replicas.chief:
            train(config, "", replicas=replicas, on_step=on_step)
            return None
    given = contextlib.nullcontext(Path(arguments.run)) if arguments.run else None
    with given or run_folder.next_free(implementation) as run:
        with resumable(run, "config.json", "train", changes):
            if on_ray:
                return train_on_ray(main, flags, run, arguments.workers)
            kept = train(
                config,
                run,
                resume=arguments.resume,
                check=not arguments.no_check,
                on_step=on_step,
                implementation=implementation,
                make_trainer=None if replicas else functools.partial(make_trainer, implementation),
                replicas=replicas,
            )
        report(run, kept)
    return None


@contextlib.contextmanager
def resumable(folder: Path, name: str, command: str, changes: dict) -> Iterator[None]:
    """If the work inside is stopped, prints how to go on with `folder`; on Ctrl-C only if the file `name` is in it.

    Args:
        folder: of a run or a cross-validation.
        name: of the file that makes it one.
        command: see `to_type`.
        changes: {setting: value} in place of the folder's, for the next --resume as well.

    Raises:
        Stopped, KeyboardInterrupt: again, for `run_command`, which makes an exit code of it.
    """
    resume = to_paste(to_type(command, this=True), f"--run {show_path(folder)}", "--resume", *settings.typed(changes))
    try:
        yield
    except Stopped as stopped:
        complain(f"stopped by {stopped}; all is saved, go on with:\n{resume}")
        raise
    except KeyboardInterrupt:
        if (folder / name).is_file():
            raise KeyboardInterrupt(f"what was saved is kept; go on with:\n{resume}") from None
        raise


def changes_on_resume(arguments: argparse.Namespace, *allowed: str) -> dict:
    """{setting: value} of the flags given with --resume; a `UserError` unless all are `allowed`."""
    if not arguments.run:
        raise UserError("--resume needs --run DIR: name the run folder to go on with.")
    given = given_settings(arguments)
    other = [settings.flag(name) for name in given if name not in allowed]
    other += ["--preset"] * (arguments.preset != "default") + ["--config"] * bool(arguments.config)
    if other:
        raise UserError(f"{other[0]} does not go with --resume, which takes the run's settings: leave it out.")
    return given


def report(run: Path, kept: dict) -> None:
    """Prints the result of a training and what to do next."""
    from unet_lowlevel.training.history import read_history

    config = run_folder.read(run)[0]
    if config.training.overfit_one_batch:
        say(wrapped(overfitting_verdict(read_history(run / "history.csv")[-1]["train_dice"])))
    say(
        f"{config.training.keep} epoch {kept['epoch']}: validation Dice {kept['validation_dice']:.4f}, "
        f"IoU {kept['validation_iou']:.4f}, mean IoU over thresholds {kept['validation_mean_iou']:.4f}\n"
        f"weights, curves and settings are in {show_path(run)}\n"
    )
    if not config.training.overfit_one_batch:  # what it has learned by heart is of no use elsewhere
        output = f"--output {show_path(Path('scores') / run.name)}"
        command = to_paste(to_type("evaluate"), f"--run {show_path(run)}", output, "--pictures 6")
        say(f"score the held-out images:\n{command}\n{to_predict(config, [run], run.name)}")
    say(f"look at curves and pictures:\n{tensorboard(run)}")


def to_predict(config: Config, runs: list[Path], name: str) -> str:
    """What to paste to predict new images, into predictions/`name`: new phantoms if `config` is of phantoms."""
    folds = " with all folds" if len(runs) > 1 else ""
    images, lines = "new_images", [f"predict{folds} new images, here those in the folder new_images:"]
    if is_of_phantoms(config):
        folder = PHANTOMS.with_name("new_phantoms")
        images, lines = show_path(folder / "images"), [f"predict{folds} new phantoms:"]
        if not folder.exists():
            (height, width), output = PHANTOM_SETTINGS["size"], f"--output {show_path(folder)}"
            size = f"--height {height} --width {width}"
            lines.append(to_paste(to_type("phantoms"), output, size, "--count 16", "--seed 1"))
    first, *others = map(show_path, runs)
    output = f"--output {show_path(Path('predictions') / name)}"
    lines.append(to_paste(to_type("predict"), f"--run {first}", *others, f"--images {images}", output, "--overlays"))
    return "\n".join(lines)


def overfitting_verdict(dice: float) -> str:
    """The result of --overfit-one-batch as a sentence."""
    if dice >= 0.95:
        return f"one batch was learned by heart (Dice {dice:.3f}): images, masks and settings fit together"
    return (
        f"one batch was not learned by heart (Dice {dice:.3f}, expected at least 0.95): look at the pictures in "
        "TensorBoard to see whether masks belong to their images, then try another --learning-rate or more --epochs"
    )


def print_summary(config: Config) -> None:
    """Prints the network layer by layer, for one training crop."""
    start_tensorflow()
    from unet_lowlevel.geometry import smallest_valid_size
    from unet_lowlevel.summary import summarize, table

    model = config.model if config.model.in_channels else dataclasses.replace(config.model, in_channels=1)
    automatic = smallest_valid_size(model, 256) if model.padding == "valid" else 256
    side = config.training.crop_size or automatic
    say(table(summarize(model, side, side), side, side, model.in_channels))
