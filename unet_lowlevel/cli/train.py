"""Training from the command line."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from unet_lowlevel import config as settings
from unet_lowlevel import run_folder
from unet_lowlevel.cli.arguments import (
    Parser,
    add_settings,
    given_settings,
    progress,
    resolved_config,
    run_command,
    show_path,
    start_tensorflow,
)
from unet_lowlevel.config import Config
from unet_lowlevel.data import phantom
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.splits import split
from unet_lowlevel.data.storage import gather, in_memory, on_disk
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.training.interruption import Stopped

OnStep = Callable[[int, float], None]
PHANTOMS = Path("data/phantoms")
# Enough patients for a fair split, small enough that the first training takes two minutes.
PHANTOM_SETTINGS = {"count": 160, "size": (128, 128), "slices_per_patient": 8, "seed": 0}


# What `train_NAME.py` trains, and where it differs from the other defaults.
NETWORKS = {
    "lowlevel": "the low-level U-Net",
    "highlevel": "the same U-Net from tf.keras.layers, with the low-level training step",
    "keras": "the same U-Net as a Keras model, with compile and fit",
}
DEFAULTS = {"keras": {"patience": 10}}


def main(argv: list[str] | None = None, implementation: str = "lowlevel", on_step: OnStep | None = None) -> int:
    """The command; returns its exit code.

    Args:
        argv: flags, or None for those of the process.
        implementation: one of `NETWORKS`.
        on_step: see `Trainer.fit`.
    """
    network = NETWORKS[implementation]
    parser = Parser(f"Trains {network}. Without flags: on generated thorax slices, in a few minutes.")
    parser.add_argument(
        "--run", metavar="DIR", help=f"run folder to write; none: the next free runs/{implementation}-N"
    )
    parser.add_argument("--resume", action="store_true", help="go on with --run from its newest checkpoint")
    parser.add_argument("--summary", action="store_true", help="print the network layer by layer and stop")
    add_settings(parser, defaults=DEFAULTS.get(implementation))
    return run_command(lambda arguments: train(arguments, implementation, on_step), parser, argv)


def train(arguments: argparse.Namespace, implementation: str, on_step: OnStep | None) -> int:
    """Trains, or prints the summary of the network."""
    if arguments.summary:
        return print_summary(resolved_config(arguments))
    if arguments.resume:
        config, run, stored, parts = resumed(arguments, implementation)
    else:
        config, run = resolved_config(arguments), Path(arguments.run or run_folder.next_free(implementation))
        run_folder.check_new(run)
        config = with_default_data(config)
    pairs = find_pairs(config.data)
    if not arguments.resume:
        groups = {pair.stem: pair.group for pair in pairs}
        training, validation = split(list(groups), config.data, config.training.seed, groups)
        parts = {"training": training, "validation": validation}
    with (
        resumable(run, "config.json"),
        run_folder.in_use(run) if arguments.resume else contextlib.nullcontext(),
        on_disk(run) if config.data.stream else in_memory(len(pairs)) as keep,
    ):
        samples, digest = gather(pairs, config, keep, progress("reading"))
        if arguments.resume and digest != stored.get("data_fingerprint"):
            raise UserError(f"The data of {run} has changed since the training began: restore it, or train anew.")
        unknown = {stem for stems in parts.values() for stem in stems} - {sample.stem for sample in samples}
        if unknown:
            raise UserError(
                f"{run / 'split.json'} names {listed(sorted(unknown))}, but the data has no such image: restore it."
            )
        config = fit_to_data(config, samples)
        options = {"implementation": implementation, "resume": arguments.resume, "on_step": on_step}
        report(config, run, run_training(config, run, samples, parts, digest, **options))
    return 0


@contextlib.contextmanager
def resumable(folder: Path, name: str) -> Iterator[None]:
    """Tells, when what is inside is stopped, how to go on with `folder`: if it has the file `name` by then.

    Raises:
        Stopped: for `run_command`, which makes an exit code of it.
    """
    resume = f"{show_path(sys.executable)} {show_path(sys.argv[0])} --run {show_path(folder)} --resume"
    try:
        yield
    except Stopped as stopped:
        print(f"stopped by {stopped}; all is saved, go on with:  {resume}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        if (folder / name).is_file():
            print(f"what was saved is kept; go on with:  {resume}", file=sys.stderr)
        raise


def changes_on_resume(arguments: argparse.Namespace, *allowed: str) -> dict:
    """{setting: value} of the flags beside --resume, all of them `allowed`, or a `UserError`."""
    if not arguments.run:
        raise UserError("--resume needs --run DIR: name the run folder to go on with.")
    given = given_settings(arguments)
    other = [settings.flag(name) for name in given if name not in allowed]
    other += ["--preset"] * (arguments.preset != "default") + ["--config"] * bool(arguments.config)
    if other:
        raise UserError(f"{other[0]} does not go with --resume, which takes the run's settings: leave it out.")
    return given


def resumed(arguments: argparse.Namespace, implementation: str) -> tuple[Config, Path, dict, dict]:
    """Settings, folder, stored facts and split of the run to go on with; --epochs and --stream may change."""
    given = changes_on_resume(arguments, "epochs", "stream")
    run = Path(arguments.run)
    config, stored, parts = run_folder.read(run)
    run_folder.refuse_links(run)
    if stored.get("implementation") != implementation:
        raise UserError(f"--run {run} was not made by train_{implementation}.py: go on with the script that made it.")
    return settings.apply(config, given), run, stored, parts


def with_default_data(config: Config) -> Config:
    """Without data of the user's own: the phantoms, made where they are missing."""
    if config.data.data or config.data.images:
        return config
    if not PHANTOMS.exists():
        phantom.write_phantoms(PHANTOMS, **PHANTOM_SETTINGS, progress=progress("drawing phantoms"))
    changes = {"data": str(PHANTOMS)}
    if not config.data.group_regex:
        changes["group_regex"] = phantom.GROUP_REGEX
    return settings.apply(config, changes)


def fit_to_data(config: Config, samples: list) -> Config:
    """Settles what the data decides: channels and crop size."""
    start_tensorflow()
    from unet_lowlevel.data.pipeline import resolve_crop_size

    channels, wanted = samples[0].image.shape[-1], config.model.in_channels
    if wanted not in (0, channels):
        raise UserError(f"--in-channels is {wanted}, but the images have {channels} channels: leave the flag out.")
    config = settings.apply(config, {"in_channels": channels})
    return settings.apply(config, {"crop_size": resolve_crop_size(config, samples)})


def run_training(
    config: Config,
    run: Path,
    samples: list,
    stems: dict[str, list[str]],
    digest: str,
    *,
    implementation: str,
    resume: bool,
    on_step: OnStep | None,
):
    """Trains and returns the trainer, whose journal tells what was reached."""
    from unet_lowlevel.data.pipeline import one_batch
    from unet_lowlevel.reference.trainers import make_trainer

    by_stem = {sample.stem: sample for sample in samples}
    parts = [[by_stem[stem] for stem in stems[part]] for part in ("training", "validation")]
    if config.training.overfit_one_batch:
        config, batch = one_batch(config, parts[0])
        parts = [batch, batch]
    trainer = make_trainer(implementation, config, run, *parts)
    if not resume:
        run_folder.create(run, config, stems["training"], stems["validation"], digest, implementation)
    steps = trainer.batches.steps_per_epoch
    print(
        f"training on {len(parts[0])} images, validating on {len(parts[1])}: {config.training.epochs} epochs of "
        f"{steps} steps into {show_path(run)}",
        flush=True,
    )
    # Whoever resumes has kept others out since before the data was read.
    with contextlib.nullcontext() if resume else run_folder.in_use(run):
        trainer.fit(resume=resume, on_step=on_step)
    return trainer


def report(config: Config, run: Path, trainer) -> None:
    """Says what a training has reached."""
    kept = trainer.journal.kept()
    if config.training.overfit_one_batch:
        print(overfitting_verdict(trainer.journal.history[-1]["train_dice"]))
    scripts = Path(sys.argv[0]).parent
    images = config.data.images or Path(config.data.data) / "images"
    print(
        f"{config.training.keep} epoch {kept['epoch']}: validation Dice {kept['validation_dice']:.4f}, "
        f"IoU {kept['validation_iou']:.4f}, mean IoU {kept['validation_mean_iou']:.4f}; weights, curves and settings "
        f"are in {show_path(run)}\n"
        f"look at the curves:  {show_path(sys.executable)} -m tensorboard.main --logdir {show_path(run)}\n"
        f"predict:             {show_path(sys.executable)} {show_path(scripts / 'predict_lowlevel.py')} "
        f"--run {show_path(run)} --images {show_path(images)} --output {show_path(Path('predictions') / run.name)}"
    )


def overfitting_verdict(dice: float) -> str:
    """What --overfit-one-batch has shown."""
    if dice >= 0.95:
        return f"one batch was learned by heart (Dice {dice:.3f}): images, masks and settings fit together"
    return (
        f"one batch was not learned by heart (Dice {dice:.3f}, expected at least 0.95): look at the pictures in "
        "TensorBoard to see whether masks belong to their images, then try another --learning-rate or more --epochs"
    )


def print_summary(config: Config) -> int:
    """Prints the network layer by layer, for one training crop."""
    start_tensorflow()
    from unet_lowlevel.summary import summarize, table
    from unet_lowlevel.unet import smallest_valid_size

    model = config.model if config.model.in_channels else dataclasses.replace(config.model, in_channels=1)
    automatic = smallest_valid_size(model, 256) if model.padding == "valid" else 256
    side = config.training.crop_size or automatic
    print(table(summarize(model, side, side), side, side, model.in_channels))
    return 0
