"""Speed and memory beside Keras, PyTorch, ONNX Runtime and OpenVINO."""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path

from benchmark.peers import BATCH_SIZES, PEERS, PRECISIONS
from unet_lowlevel.cli.arguments import Parser, add_settings, given_settings, run_command
from unet_lowlevel.data.formats.writing import check_new_output, make_output
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.settings import resolve
from unet_lowlevel.terminal import say, show_path

# Held fixed, so that every peer can do the same.
FIXED = {"in_channels": 1, "loss": "dice", "schedule": "constant"}


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Measures training, inference of one image and of many, memory, start-up and input pipeline beside other "
        "libraries, those that are installed of `pip install -e '.[benchmark]'`: the same network with the same "
        "weights, in turn, each in a process of its own with as many threads; and what each fast form of core/fast.py "
        "gains. A peer that computes something else is not timed.",
        "benchmark",
    )
    parser.prog = "scripts/benchmark"  # which is no command of the wheel
    parser.add_argument("--output", metavar="DIR", required=True, help="new folder for benchmark.json and benchmark.md")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 3 steps, float32: seven minutes")
    parser.add_argument(
        "--onednn",
        action="store_true",
        help="only list what oneDNN runs in a step and in a prediction of ours, with times, as profile.json and .md",
    )
    parser.add_argument("--peers", metavar="A,B", help=f"some of {','.join(PEERS)} (default: all)")
    parser.add_argument(
        "--precision",
        dest="precisions",
        metavar="A,B",
        help=f"some of {','.join(PRECISIONS)} (default: all; with --quick float32)",
    )
    # Integer flags that are no settings of a training.
    numbers = {
        "--size": (256, "side of the images of training, and of the many images, in pixels"),
        "--inference-size": (512, "side of the image of the inference in pixels"),
        "--large-size": (
            None,
            "side of the image that is predicted tile by tile, beside one of a quarter of that (default: 8192; with "
            "--quick 4096)",
        ),
        "--threads": (os.cpu_count() or 1, "threads that one operation may use"),
        "--rounds": (
            None,
            "how often everyone has its turn (default: 10; with --quick 3), without the rounds that are repeated",
        ),
        "--steps": (None, "training steps or images in a turn (default: 4; with --quick 3)"),
    }
    for name, (default, text) in numbers.items():
        known = "" if default is None else f" (default: {default})"
        parser.add_argument(name, metavar="N", type=int, default=default, help=text + known)
    add_settings(parser, "base_channels", "depth", "batch_size")
    return run_command(measure, parser, argv)


def measure(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    check_new_output(output)
    peers = chosen("--peers", arguments.peers, tuple(PEERS))
    default = PRECISIONS[0] if arguments.quick else None
    precisions = chosen("--precision", default if arguments.precisions is None else arguments.precisions, PRECISIONS)
    config = resolve(flags=FIXED | {"crop_size": arguments.size} | given_settings(arguments))
    multiple = 2 ** (config.model.depth - 1)
    large_size = (4096 if arguments.quick else 8192) if arguments.large_size is None else arguments.large_size
    rounds = (3 if arguments.quick else 10) if arguments.rounds is None else arguments.rounds
    steps = (3 if arguments.quick else 4) if arguments.steps is None else arguments.steps
    for flag, value, unit in (
        ("--size", arguments.size, multiple),
        ("--inference-size", arguments.inference_size, multiple),
        ("--large-size", large_size, 4 * multiple),
        ("--threads", arguments.threads, 1),
        ("--rounds", rounds, 1),
        ("--steps", steps, 1),
    ):
        if value < 1 or value % unit:
            what = f"a multiple of {unit}, as the depth {config.model.depth} asks for" if unit > 1 else "at least 1"
            raise UserError(f"{flag} is {value}, but must be {what}.")
    make_output(output)
    start_tensorflow()
    from benchmark.measure import Plan, run
    from benchmark.tables import report

    plan = Plan(
        config=config,
        peers=("ours", *(name for name in peers if name != "ours")),
        precisions=precisions,
        picture_size=arguments.inference_size,
        large_size=large_size,
        images=BATCH_SIZES[-1] * math.ceil((100 if arguments.quick else 1000) / rounds / BATCH_SIZES[-1]),
        threads=arguments.threads,
        rounds=rounds,
        steps=steps,
    )
    if arguments.onednn:
        write_profile(plan, output)
        return
    results = run(plan, say)
    text = report(results)
    (output / "benchmark.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (output / "benchmark.md").write_text(text, encoding="utf-8")
    say(f"\n{text}\nwrote benchmark.json and benchmark.md to {show_path(output)}")


def write_profile(plan, output: Path) -> None:
    """Profiles our training step and prediction, and writes both files."""
    from benchmark.measure import write_inputs
    from benchmark.onednn import profile, table

    profiles = {}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(plan, Path(folder))
        for work in ("training", "inference"):
            for precision in plan.precisions:
                profiles[work, precision] = profile(plan.task(precision, Path(folder)), work, plan.steps)
    text = table(profiles)
    rows = [{"work": work, "precision": precision} | found for (work, precision), found in profiles.items()]
    (output / "profile.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (output / "profile.md").write_text(text + "\n", encoding="utf-8")
    say(f"{text}\nwrote profile.json and profile.md to {show_path(output)}")


def chosen(flag: str, text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names in "a,b", in the order of `known`; without a text all of `known`."""
    names = known if text is None else tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in known:
            raise UserError(f"{flag} is {name!r}, but needs some of {','.join(known)}.")
    return tuple(name for name in known if name in names)
