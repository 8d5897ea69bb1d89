"""The check of a data set from the command line."""

import argparse
import dataclasses
import json
import math
import shlex
import time
from collections import Counter
from pathlib import Path

import numpy as np

from unet_lowlevel import settings
from unet_lowlevel.cli.arguments import Parser, add_settings, given_settings, run_command, to_type
from unet_lowlevel.config import Config
from unet_lowlevel.data.check.findings import ERROR, NOTE, SEVERITIES, WARNING, Evidence, Finding, decoded_bytes, judge
from unet_lowlevel.data.check.inspection import Measurement, inspect
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats.writing import refuse_existing, write_image
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory, start_tensorflow
from unet_lowlevel.pictures import contact_sheet, evenly, overlay
from unet_lowlevel.terminal import progress, show_path

SETTINGS = [
    *("data", "images", "masks", "channels", "mask_values", "mask_colors", "max_megapixels", "stream"),
    *("validation_fraction", "validation_list", "folds", "fold", "blocks", "group_regex", "seed"),
    *("classes", "depth", "base_channels", "batch_size", "crop_size"),
]
FRAMES = {ERROR: (220, 40, 40), WARNING: (245, 150, 30), NOTE: (90, 150, 220)}
TILES, TILE_SIDE = 64, 160
# Measured: training reaches this share of the speed of a large product of matrices, and needs so many times the memory
# of its convolutions' outputs.
SHARE_OF_PEAK = 0.65
MEMORY_OF_ACTIVATIONS = 3


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Tells what is in a folder of images and masks, and whether it will train. Changes nothing. Exit code 0: fine; "
        "1: training would fail, or learn something wrong; 2: the command itself is mistaken.",
        "check",
    )
    add_settings(parser, *SETTINGS)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--sheet",
        metavar="FILE.png",
        help=f"also write a picture of up to {TILES} images with their masks, the suspicious ones first and framed",
    )
    return run_command(check_data, parser, argv)


def check_data(arguments: argparse.Namespace) -> int:
    """Checks, reports, and returns 1 when there is an error or a warning."""
    given = given_settings(arguments)
    config = settings.check(settings.apply(Config(), given))
    sheet = Path(arguments.sheet) if arguments.sheet else None
    if sheet:
        check_sheet(sheet)
    measurements, mistakes = inspect(config, progress("reading"))
    findings, evidence = judge(config, measurements, mistakes, available_memory())
    facts = facts_of(evidence) | costs(evidence)
    if sheet:
        write_image(sheet, contact_sheet(tiles(evidence, findings), TILE_SIDE))
    wrong = any(finding.severity != NOTE for finding in findings)
    if arguments.json:
        report = {"good": not wrong, "facts": facts, "findings": [dataclasses.asdict(found) for found in findings]}
        print(json.dumps(report, indent=2))
    else:
        print(report_of(facts, findings, given, sheet))
    return int(wrong)


def check_sheet(path: Path) -> None:
    """Raises a `UserError` unless --sheet can be written."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--sheet is {path}, but is written as PNG only: let its name end in .png.")
    if not path.parent.is_dir():
        raise UserError(f"--sheet {path} lies in no folder that exists: make {path.parent}, or name another file.")
    refuse_existing(path)


def facts_of(evidence: Evidence) -> dict:
    """The facts about the data, as JSON can hold them."""
    images = [m.image for m in evidence.measurements if m.image]
    masks = [m.mask for m in evidence.measurements if m.mask]
    shares = [mask.foreground for mask in masks]
    length = max((len(mask.counts) for mask in masks), default=0)
    counts = np.sum([np.pad(mask.counts, (0, length - len(mask.counts))) for mask in masks], axis=0)
    return {
        "pairs": len(evidence.measurements),
        "images": {
            "readable": len(images),
            "sizes": frequencies("x".join(map(str, image.size)) for image in images),
            "channels": frequencies(str(image.channels) for image in images),
            "dtypes": frequencies(image.dtype for image in images),
            "lowest": min((image.low for image in images), default=None),
            "highest": max((image.high for image in images), default=None),
        },
        "masks": {
            "readable": len(masks),
            "values": sorted(
                {str(value) for mask in masks for value in mask.values}, key=lambda text: (len(text), text)
            ),
            "empty": shares.count(0),
            "foreground": [f(shares) for f in (min, np.median, max)] if masks else [],
            "class_shares": (counts / counts.sum()).tolist() if masks else [],
        },
        "split": {"training": len(evidence.training), "held_out": len(evidence.held_out)},
    }


def frequencies(things) -> dict[str, int]:
    """{thing: how many}, the most frequent first."""
    return dict(Counter(things).most_common())


def costs(evidence: Evidence) -> dict:
    """About how much memory and time a training takes here: see `SHARE_OF_PEAK` and `MEMORY_OF_ACTIVATIONS`."""
    sizes = [m for m in evidence.measurements if m.image]
    if not sizes or not evidence.training:
        return {}
    start_tensorflow()
    from unet_lowlevel.data.pipeline import resolve_crop_size
    from unet_lowlevel.summary import step_operations, summarize

    in_channels = Counter(m.image.channels for m in sizes).most_common(1)[0][0]
    config = settings.apply(evidence.config, {"in_channels": in_channels})
    config = settings.apply(config, {"crop_size": resolve_crop_size(config, sizes)})
    side, batch = config.training.crop_size, config.training.batch_size
    layers = summarize(config.model, side, side)
    values = sum(math.prod(layer.shape) for layer in layers if "conv" in layer.name or layer.name.endswith("/up"))
    steps = -(-len(evidence.training) // batch)
    peak = peak_speed()
    return {
        "memory": {
            "decoded_bytes": decoded_bytes(evidence.measurements),
            "step_bytes": round(MEMORY_OF_ACTIVATIONS * 4 * batch * values),
            "available_bytes": available_memory(),
        },
        "time": {
            "crop_size": side,
            "batch_size": batch,
            "steps_per_epoch": steps,
            "seconds_per_epoch": steps * step_operations(config) / (SHARE_OF_PEAK * peak),
            "peak_flops": peak,
        },
    }


def peak_speed(side: int = 2048) -> float:
    """Floating-point operations a second in the product of two large matrices: the best of three."""
    import tensorflow as tf

    matrix = tf.random.stateless_normal([side, side], [0, 0])
    seconds = []
    for _ in range(4):  # the first includes the set-up
        start = time.perf_counter()
        tf.matmul(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])


def tiles(evidence: Evidence, findings: list[Finding]) -> list[tuple[np.ndarray, str, tuple[int, int, int] | None]]:
    """Picture, name and colour of the frame of up to `TILES` images: those of the findings, then some of the others."""
    frames: dict[str, tuple[int, int, int]] = {}
    for finding in findings:  # the worst come first
        for stem in finding.stems:
            frames.setdefault(stem, FRAMES[finding.severity])
    measured = {m.stem: m for m in evidence.measurements}
    stems = [stem for stem in frames if stem in measured][:TILES]
    others = [stem for stem in measured if stem not in frames]
    stems += [others[i] for i in evenly(len(others), TILES - len(stems))] if others else []
    return [(thumbnail(measured[stem], evidence.config), stem, frames.get(stem)) for stem in stems]


def thumbnail(m: Measurement, config: Config) -> np.ndarray:
    """The image with its mask over it, reduced; gray if the image, and without mask if the mask cannot be used."""
    if not m.image:
        return np.full((TILE_SIDE, TILE_SIDE, 3), 128, np.uint8)
    image = read_image(m.pair.image, config.data)
    label = np.zeros(m.size, np.uint8)
    if m.mask and m.mask.size == m.size:
        label = read_label(m.pair.masks, config.model.classes, config.data)
    step = max(max(m.size) // (2 * TILE_SIDE), 1)
    return overlay(image[::step, ::step], label[::step, ::step])


def report_of(facts: dict, findings: list[Finding], given: dict, sheet: Path | None) -> str:
    """The report for people."""
    lines = [f"{name:8s}  {text}" for name, text in rows(facts)]
    for severity in SEVERITIES:
        found = [finding for finding in findings if finding.severity == severity]
        if found:
            lines += ["", f"{severity}s" if len(found) > 1 else severity]
            for finding in found:
                lines += [f"  - {finding.what}", f"    fix: {finding.fix}"]
    numbers = Counter(finding.severity for finding in findings)
    counted = [f"{numbers[severity]} {severity}{'s' * (numbers[severity] != 1)}" for severity in (ERROR, WARNING)]
    flags = " ".join(f"{settings.flag(name)} {quoted(value)}" for name, value in given.items())
    lines.append("")
    if sheet:
        lines.append(f"images with their masks: {show_path(sheet)}")
    if numbers[ERROR]:
        lines.append(f"will not train as it is: {' and '.join(counted)}")
    elif numbers[WARNING]:
        lines.append(f"would train, but probably learn something wrong: {counted[1]}")
    else:
        lines.append("good to train on; see whether it learns at all:")
        lines.append(f"  {to_type('train')} {flags} --overfit-one-batch")
    return "\n".join(lines)


def quoted(value) -> str:
    return shlex.quote(str(value))


def rows(facts: dict) -> list[tuple[str, str]]:
    """The facts as text in two columns."""
    images, masks, split = facts["images"], facts["masks"], facts["split"]
    found = [("pairs", str(facts["pairs"]))]
    if images["readable"]:
        found += [
            ("images", f"{listing(images['sizes'])} (height x width)"),
            (
                "",
                f"channels {listing(images['channels'])}; {listing(images['dtypes'])}; "
                f"values {images['lowest']:g} to {images['highest']:g}",
            ),
        ]
    if masks["readable"]:
        low, middle, high = (f"{100 * share:.3g}" for share in masks["foreground"])
        values = masks["values"]
        shown = ", ".join(values if len(values) <= 8 else [*values[:7], f"... ({len(values)} in all)"])
        shares = ", ".join(f"{k}: {100 * share:.3g} %" for k, share in enumerate(masks["class_shares"]))
        found += [
            ("masks", f"values {shown}; {masks['empty']} of {masks['readable']} without foreground"),
            ("", f"foreground {low} to {high} % of an image, median {middle} %"),
            ("classes", shares),
        ]
    if split["training"]:
        found.append(("split", f"{split['training']} to train on, {split['held_out']} held out"))
    if "memory" in facts:
        memory, duration, side = facts["memory"], facts["time"], facts["time"]["crop_size"]
        available = memory["available_bytes"]
        found += [
            (
                "memory",
                f"{size_text(memory['decoded_bytes'])} for the decoded data and about "
                f"{size_text(memory['step_bytes'])} for a step"
                + (f", of {size_text(available)} available" if available is not None else ""),
            ),
            (
                "time",
                f"about {time_text(duration['seconds_per_epoch'])} an epoch on this machine, as busy as it is: "
                f"{duration['steps_per_epoch']} steps of {duration['batch_size']} crops of {side}x{side}",
            ),
        ]
    return found


def listing(numbers: dict[str, int], limit: int = 4) -> str:
    """'256x256 (334), 520x696 (90) and 7 more'; a single thing without its number."""
    if len(numbers) == 1:
        return next(iter(numbers))
    shown = ", ".join(f"{thing} ({number})" for thing, number in list(numbers.items())[:limit])
    return shown + (f" and {len(numbers) - limit} more" if len(numbers) > limit else "")


def size_text(number: int) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.3g} MiB"


def time_text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
