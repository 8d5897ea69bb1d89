"""The check of a data set from the command line."""

import argparse
import contextlib
import dataclasses
import json
from collections import Counter
from pathlib import Path

from unet_lowlevel import settings
from unet_lowlevel.cli.arguments import Parser, add_settings, given_settings, run_command, to_type
from unet_lowlevel.config import Config
from unet_lowlevel.data.check.findings import ERROR, NOTE, SEVERITIES, WARNING, Finding, judge
from unet_lowlevel.data.check.inspection import Measurement, inspect
from unet_lowlevel.data.check.report import TILES, costs, facts_of, sheet_of
from unet_lowlevel.data.formats.writing import refuse_existing, write_image
from unet_lowlevel.data.packed import as_packed
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory
from unet_lowlevel.planning.before_training import Planned, planned_for
from unet_lowlevel.terminal import progress, say, show_path, to_paste, wrapped
from unet_lowlevel.training.train import by_patient

SETTINGS = [
    *("data", "images", "masks", "instances", "channels", "mask_values", "mask_colors", "ignore_value"),
    *("max_megapixels", "nan", "resolution", "image_size", "stream"),
    *("validation_fraction", "validation_list", "folds", "fold", "blocks", "group_regex", "seed"),
    *("classes", "depth", "base_channels", "batch_size", "crop_size", "precision", "plan", "minutes"),
]


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
    config = as_packed(by_patient(settings.check(settings.apply(Config(), given))))
    sheet = Path(arguments.sheet) if arguments.sheet else None
    if sheet:
        check_sheet(sheet)
    measurements, mistakes = inspect(config, progress("reading"))
    planned = plan_of(measurements, config)
    findings, evidence = judge(planned.config if planned else config, measurements, mistakes, available_memory())
    facts = facts_of(evidence) | costs(evidence)
    if sheet:
        write_image(sheet, sheet_of(evidence, findings))
    wrong = any(finding.severity != NOTE for finding in findings)
    if arguments.json:
        report = {"good": not wrong, "facts": facts, "findings": [dataclasses.asdict(found) for found in findings]}
        say(json.dumps(report | (planned.to_json() if planned else {}), indent=2))
    else:
        say(report_of(facts, findings, given, sheet, planned.text() if planned and planned.choices else ""))
    return int(wrong)


def plan_of(measurements: list[Measurement], config: Config) -> Planned | None:
    """The plan, if anything can be read; that --group-regex is mistaken is among the findings."""
    with contextlib.suppress(UserError):
        return planned_for(measurements, config) if any(m.shapes for m in measurements) else None
    return None


def check_sheet(path: Path) -> None:
    """Raises a `UserError` unless --sheet can be written."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--sheet is {path}, but is written as PNG only: let its name end in .png.")
    if not path.parent.is_dir():
        raise UserError(f"--sheet {path} lies in no folder that exists: make {path.parent}, or name another file.")
    refuse_existing(path)


def report_of(facts: dict, findings: list[Finding], given: dict, sheet: Path | None, plan: str) -> str:
    """The report for people."""
    lines = [f"{name:8s}  {text}" for name, text in rows(facts)]
    lines += ["", plan] if plan else []
    for severity in SEVERITIES:
        found = [finding for finding in findings if finding.severity == severity]
        if found:
            lines += ["", f"{severity}s" if len(found) > 1 else severity]
            for finding in found:
                lines += [wrapped(f"  - {finding.what}", 4), wrapped(f"    fix: {finding.fix}", 9)]
    numbers = Counter(finding.severity for finding in findings)
    counted = [f"{numbers[severity]} {severity}{'s' * (numbers[severity] != 1)}" for severity in (ERROR, WARNING)]
    lines.append("")
    if sheet:
        lines.append(f"images with their masks: {show_path(sheet)}")
    if numbers[ERROR]:
        lines.append(f"will not train as it is: {' and '.join(counted)}")
    elif numbers[WARNING]:
        lines.append(f"would train, but probably learn something wrong: {counted[1]}")
    else:
        lines.append("good to train on; see whether it learns at all:")
        lines.append(to_paste(to_type("train"), *settings.typed(given), "--overfit-one-batch"))
    return "\n".join(lines)


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
        shown = f"values {shown}; " if values else ""  # which packing has made classes of
        shares = ", ".join(f"{k}: {100 * share:.3g} %" for k, share in enumerate(masks["class_shares"]))
        found += [
            ("masks", f"{shown}{masks['empty']} of {masks['readable']} without foreground"),
            ("", f"foreground {low} to {high} % of an image, median {middle} %"),
            ("classes", shares),
        ]
        if masks["labelled"]:
            low, middle, high, share = (f"{100 * share:.3g}" for share in masks["labelled"])
            found.append(("labelled", f"{share} % of all pixels; {low} to {high} % of an image, median {middle} %"))
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
                f"about {time_text(duration['seconds'])} here, as busy as it is: {duration['epochs']} epochs of "
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
