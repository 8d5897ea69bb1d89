"""The time of each random change of training images, beside that of the training step."""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.config import Config
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.terminal import say, show_path

OFF = {"flips": False, "quarter_turns": False, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}
# {what is timed: (preset, settings)}; each change is made of every crop.
CASES = {
    "crop alone": ("default", OFF),
    "flips and quarter turns": ("default", OFF | {"flips": True, "quarter_turns": True}),
    "rotation and scaling": ("default", OFF | {"rotation": 45.0, "scaling": 0.3}),
    "rotation and scaling, bicubic": ("default", OFF | {"rotation": 45.0, "scaling": 0.3, "interpolation": "bicubic"}),
    "gamma": ("default", OFF | {"gamma": 0.4}),
    "contrast": ("default", OFF | {"contrast": 0.25}),
    "brightness": ("default", OFF | {"brightness": 0.3}),
    "blur": ("default", OFF | {"blur": 1.5}),
    "low resolution": ("default", OFF | {"low_resolution": 2.0}),
    "noise": ("default", OFF | {"noise": 0.3}),
    "the default, `--preset light_augmentation`": ("light_augmentation", {}),
    "`--preset strong_augmentation`": ("strong_augmentation", {}),
}


def milliseconds(work, times: int) -> float:
    """Processor time of all threads for one of `times` calls."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1000


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Processor time of a batch of 8 crops of 256x256 for each random change, and of a training step.",
        "time-augmentation",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of all cases (default: 5)")
    return run_command(time_all, parser, argv)


def time_all(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1:
        raise UserError(f"--rounds is {arguments.rounds}, but must be at least 1.")
    if not arguments.output.parent.is_dir():
        raise UserError(f"--output {arguments.output} lies in no folder that exists: make it, or name another file.")
    start_tensorflow()
    import tensorflow as tf

    from unet_lowlevel.core import fast
    from unet_lowlevel.data.pipeline import TrainingBatches
    from unet_lowlevel.training.steps import train_step

    size = {"crop_size": 256, "batch_size": 8, "in_channels": 1, "steps_per_epoch": 10}
    pixels = np.random.default_rng(0).normal(size=(16, 320, 320, 1)).astype(np.float32)
    samples = [Sample(str(i), image, np.uint8(image[..., 0] > 1)) for i, image in enumerate(pixels)]
    works = {}
    for name, (preset, settings) in CASES.items():
        batches = TrainingBatches(samples, Config.of(preset, **size | settings))
        works[name] = (lambda batches=batches: list(batches.of_epoch(1))), batches.steps_per_epoch
    config = Config.of(**size)
    step = train_step(fast.network(config.model), config, (256, 256), total_steps=10**6)
    batch = tf.constant(pixels[:8, :256, :256]), tf.cast(pixels[:8, :256, :256, 0] > 1, tf.int32)
    works["a training step, float32"] = (lambda: float(step(*batch)["loss"])), 1
    times = {name: [] for name in works}
    for turn in range(arguments.rounds + 1):
        for name, (work, steps) in works.items():
            found = milliseconds(work, max(1, 3 // steps)) / steps
            if turn:  # the first one traces
                times[name].append(round(found, 2))
    arguments.output.write_text(json.dumps({"milliseconds": times}, indent=1) + "\n")
    alone = statistics.median(times["crop alone"])
    rows = []
    for name, found in times.items():
        middle = statistics.median(found)
        more = "" if name in ("crop alone", "a training step, float32") else f"{middle - alone:.1f}"
        rows.append([name, f"{middle:.1f} ({min(found):.1f} to {max(found):.1f})", more])
    say(markdown_table(["a batch of 8 crops of 256x256", "milliseconds of processor time", "more than the crop"], rows))
    say(f"wrote {show_path(arguments.output)}")
