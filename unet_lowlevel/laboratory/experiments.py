"""The table of experiments; from the trials of one, its table and its picture."""

import dataclasses
import importlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from unet_lowlevel.laboratory.charts import line_chart
from unet_lowlevel.machine import processor
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.packages import installed_version
from unet_lowlevel.terminal import say


@dataclass(frozen=True)
class Scale:
    """How large an experiment is. That of the tests is smaller.

    Attributes:
        side: of the slices, in pixels.
        patients: whose slices a network learns.
        held_out: patients whose slices it is scored on.
        epochs, steps_per_epoch: of a training.
        seeds: how often everything is repeated with other first weights and batches.
        depth, base_channels: of the network.
    """

    side: int = 96
    patients: int = 32
    held_out: int = 8
    epochs: int = 12
    steps_per_epoch: int = 24
    seeds: int = 3
    depth: int = 4
    base_channels: int = 8


@dataclass(frozen=True)
class Experiment:
    """What an experiment asks, and how its trials are shown.

    Attributes:
        question: the title of its picture.
        module: of this folder, with a function of the experiment's name that yields trials: dictionaries with
            `variant`, `seed`, figures for `columns`, and points `x` and `y` of a line (of `line`, else of the variant).
        columns: {figure: (heading, format)} of the table.
        x, y: what the axes of the picture are, with units.
        logarithmic: the x axis is.
    """

    question: str
    module: str
    columns: dict[str, tuple[str, str]]
    x: str
    y: str
    logarithmic: bool = False


DICE = {"dice": ("Dice at the end", ".3f")}
EARLY = {"early": ("Dice after a third of the steps", ".3f")} | DICE
TIME = {"time": ("time of a step", ".2f"), "loss": ("loss at the end", ".3f")} | DICE
STEP, HELD_OUT_DICE = "training step", "Dice on held-out slices"

EXPERIMENTS = {
    "skips": Experiment(
        "What do the skips bring?",
        "networks",
        {
            "dice": ("Dice", ".3f"),
            "edge": ("wrong within 2 pixels of the edge, %", ".1f"),
            "inside": ("wrong elsewhere, %", ".2f"),
        },
        "distance to the edge of the lungs, pixels",
        "wrong pixels, %",
    ),
    "batch-normalization": Experiment("Batch normalization, or not?", "networks", EARLY, STEP, HELD_OUT_DICE),
    "activation": Experiment("ELU or ReLU?", "networks", EARLY, STEP, HELD_OUT_DICE),
    "imbalance": Experiment(
        "Dice or cross-entropy for small structures?",
        "learning",
        {"dice": ("Dice", ".3f"), "precision": ("precision", ".3f"), "recall": ("recall", ".3f")},
        STEP,
        "Dice of the nodules on held-out slices",
    ),
    "depth": Experiment(
        "How deep, and how far must a pixel see?",
        "networks",
        {"field": ("receptive field, pixels", ".0f"), "parameters": ("parameters", ",.0f"), "dice": ("Dice", ".3f")},
        "receptive field, pixels a side",
        HELD_OUT_DICE,
        logarithmic=True,
    ),
    "padding": Experiment(
        "Valid or same padding at the border?",
        "networks",
        {"border": ("wrong in the outermost 4 pixels, %", ".2f"), "inside": ("wrong elsewhere, %", ".2f")},
        "distance to the border of the image, pixels",
        "wrong pixels, %",
    ),
    "data": Experiment(
        "How much data is enough?",
        "learning",
        {"dice": ("Dice", ".3f")},
        "patients to train on, 4 slices each",
        HELD_OUT_DICE,
        logarithmic=True,
    ),
    "learning-rate": Experiment(
        "Which learning rate?",
        "learning",
        {"tested": ("loss in the range test", ".2f"), "dice": ("Dice, trained at this rate", ".3f")},
        "learning rate, growing from step to step",
        "loss, running mean, cut at 2",
        logarithmic=True,
    ),
    "precision": Experiment(
        "float32 or bfloat16?", "computing", TIME, "time, in steps of float32", "loss, mean of an epoch"
    ),
    "plain": Experiment(
        "What do the fast forms gain on the book?",
        "computing",
        TIME,
        "time, in steps of the book",
        "loss, mean of an epoch",
    ),
}


def run(name: str, scale: Scale) -> dict:
    """Runs an experiment.

    Returns:
        what its JSON file holds: question, command, machine, scale, and the trials with their figures.
    """
    experiment = EXPERIMENTS[name]
    module = importlib.import_module(f"{__package__}.{experiment.module}")
    trials = []
    for trial in getattr(module, name.replace("-", "_"))(scale):
        trials.append({key: rounded(value) for key, value in trial.items()})
        known = [f"{words} {trial[key]:{form}}" for key, (words, form) in experiment.columns.items() if key in trial]
        say(f"{trial['variant']}, seed {trial['seed']}: {', '.join(known) or 'done'}")
    about = {"question": experiment.question, "command": command(name), "machine": machine()}
    return about | {"scale": dataclasses.asdict(scale), "trials": trials}


def command(name: str) -> str:
    return f"unet-lowlevel experiment {name}"


def rounded(value):
    """Six digits of a number, or of each in a list."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def machine() -> dict:
    """Processor, cores, and versions."""
    versions = {"python": platform.python_version()}
    versions |= {package: installed_version(package) for package in ("tensorflow", "numpy")}
    return {"processor": processor(), "cores": os.cpu_count(), "versions": versions}


def table(name: str, figures: dict) -> str:
    """The table in Markdown: a row for each variant, the mean of the seeds and (least to most) of them."""
    columns, rows = EXPERIMENTS[name].columns, {}
    for trial in figures["trials"]:
        if any(key in trial for key in columns):
            rows.setdefault(trial["variant"], []).append(trial)
    lines = [
        [variant, *(spread([t[key] for t in trials], form) for key, (_, form) in columns.items())]
        for variant, trials in rows.items()
    ]
    return markdown_table(["", *(heading for heading, _ in columns.values())], lines) + "\n"


def spread(values: Sequence[float], form: str) -> str:
    """The mean, and from where to where the values go if they differ in the digits that are shown."""
    mean, least, most = (format(value, form) for value in (sum(values) / len(values), min(values), max(values)))
    return mean if least == most else f"{mean} ({least} to {most})"


def picture(name: str, figures: dict) -> str:
    """The chart as the text of an SVG file."""
    experiment, lines = EXPERIMENTS[name], {}
    for trial in figures["trials"]:
        for x, y in zip(trial.get("x", []), trial.get("y", []), strict=True):
            lines.setdefault(trial.get("line", trial["variant"]), {}).setdefault(x, []).append(y)
    return line_chart(experiment.question, experiment.x, experiment.y, lines, experiment.logarithmic)
