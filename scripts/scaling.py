"""Times a training step of 1, 2, 4 and 8 replicas, and estimates it on GPUs."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.terminal import say

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (1, 2, 4, 8)
CROP, BATCH = 128, 8
SIZE = {"crop_size": CROP, "batch_size": BATCH, "in_channels": 1, "base_channels": 16, "depth": 5}
QUALITY = ["--plan", "off", "--no-check", "--epochs", "5", "--steps-per-epoch", "40", "--batch-size", "8"]

# What the estimate assumes, of a GPU and of what connects it with the others. None of it was measured here.
FLOPS = 30e12
PLACES = {
    "8 GPUs of a machine (100 GB/s, 10 microseconds)": (8, 100e9, 10e-6),
    "8 machines with a GPU each (25 Gbit/s, 50 microseconds)": (8, 25e9 / 8, 50e-6),
    "64 machines with a GPU each (25 Gbit/s, 50 microseconds)": (64, 25e9 / 8, 50e-6),
}


def measure(kind: str, count: int, steps: int) -> dict:
    """Milliseconds of each step of this process, and what each replica adds up in one."""
    from unet_lowlevel.training.cluster import replicas_of

    replicas = replicas_of("none" if count == 1 else kind, devices=count)
    import numpy as np
    import tensorflow as tf

    from unet_lowlevel.config import Config
    from unet_lowlevel.core import fast
    from unet_lowlevel.training.steps import train_step

    config = Config.of(**SIZE)
    with replicas.scope():
        step = train_step(fast.network(config.model), config, (CROP, CROP), total_steps=10**6)
    run, share = replicas.compiled(step), replicas.of_worker(BATCH)
    pixels = np.random.default_rng(0).normal(size=(BATCH, CROP, CROP, 1)).astype(np.float32)[share]
    batch = tf.constant(pixels), tf.cast(pixels[..., 0] > 1, tf.int32)
    times = []
    for _ in range(steps + 2):  # two to trace and to settle
        start = time.perf_counter()
        float(run(False, BATCH, *batch)["loss"])
        times.append(1000 * (time.perf_counter() - start))
    parameters = sum(weight.shape.num_elements() for weight in step.weights)
    return {"milliseconds": times[2:], "parameters": parameters}


def of_processes(kind: str, count: int, steps: int) -> dict:
    """`measure` in as many processes as it takes; what the first of them found."""
    processes = count if kind == "multiworker" else 1
    sockets = [socket.socket() for _ in range(processes)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{found.getsockname()[1]}" for found in sockets]
    for found in sockets:
        found.close()
    running = []
    for i in range(processes):
        config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}})
        environment = os.environ | ({"TF_CONFIG": config} if processes > 1 else {})
        command = [sys.executable, ROOT / "scripts" / "scaling_study.py", "--measure", kind, str(count), str(steps)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    outputs = [process.communicate()[0] for process in running]
    return json.loads(outputs[0].splitlines()[-1])


def quality(count: int, synchronized: bool, folder: Path) -> float:
    """Validation Dice of phantoms after 200 steps."""
    run = folder / f"{count}-{synchronized}"
    flags = ["--strategy", "mirrored", "--replicas", str(count)] if count > 1 else []
    flags += ["--sync-batch-norm"] if synchronized else []
    command = [sys.executable, ROOT / "scripts" / "train_lowlevel.py", "--run", run, *QUALITY, *flags]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float((run / "history.csv").read_text().splitlines()[-1].split(",")[5])


def estimate(count: int, bandwidth: float, latency: float, parameters: int, flops: float, parts: int) -> dict:
    """Seconds of a step on GPUs that nobody has measured: the model that the README gives in words.

    compute = parts (--accumulate) * flops of a part's images / FLOPS
    exchange = 2 (count - 1) / count * 4 bytes * parameters / bandwidth + 2 (count - 1) latency * (6 + 3 parts)

    Adding up in a ring sends every number 2 (count - 1) / count times from each replica, and takes 2 (count - 1) turns
    for each of the sums: the gradients, the loss, the counts, the moving statistics, and numbers of images and pixels.
    """
    turns = 2 * (count - 1)
    exchange = turns / count * 4 * parameters / bandwidth + turns * latency * (6 + 3 * parts)
    return {"compute": parts * flops / FLOPS, "exchange": exchange}


def tables(results: dict) -> str:
    """What was measured, and what the model says, as Markdown."""
    lines = []
    kinds = [results[kind] for kind in ("mirrored", "multiworker")]
    for count in map(str, COUNTS):
        times = [f"{statistics.median(kind[count]['milliseconds']):.0f}" for kind in kinds]
        dice = [f"{results['dice'][kind][count]:.4f}" for kind in ("alone", "synchronized")]
        lines.append([count, *times, *dice])
    text = markdown_table(
        ["replicas", "one process, ms a step", "several processes", "Dice", "Dice, synchronized"], lines
    )
    first = results["mirrored"]["1"]
    lines = []
    for place, (count, bandwidth, latency) in PLACES.items():
        for images in (4, 32):
            flops = 1e9 * results["gflop_of_an_image"] * images
            found = [estimate(count, bandwidth, latency, first["parameters"], flops, parts) for parts in (1, 4)]
            shares = [times["compute"] / sum(times.values()) for times in found]
            times = [f"{1000 * found[0][name]:.1f} ms" for name in ("compute", "exchange")]
            lines.append([place, images, *times, *(f"{share:.0%}" for share in shares)])
    head = ["", "images of 256x256 a replica", "compute", "exchange", "efficiency", "with `--accumulate 4`"]
    return f"{text}\n\n{markdown_table(head, lines)}"


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("Times a step of 1, 2, 4 and 8 replicas, and estimates it on GPUs.", "scaling-study")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write; without it the tables of one")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps to time (default: 20)")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    return run_command(study, parser, argv)


def study(arguments: argparse.Namespace) -> None:
    """Measures all, or one case in a process of its own, or prints what was measured."""
    measured = ROOT / "data" / "measured"
    if arguments.measure:
        kind, count, steps = arguments.measure
        say(json.dumps(measure(kind, int(count), int(steps))))
        return
    if not arguments.output:
        say(tables(json.loads((measured / "scaling.json").read_text())))
        return
    benchmark = json.loads((measured / "benchmark.json").read_text())
    results: dict = {"gflop_of_an_image": benchmark["gflop_of_a_step"] / 4}
    for kind in ("mirrored", "multiworker"):
        results[kind] = {str(count): of_processes(kind, count, arguments.steps) for count in COUNTS}
    with tempfile.TemporaryDirectory() as folder:
        results["dice"] = {
            name: {str(count): quality(count, synchronized, Path(folder)) for count in COUNTS}
            for name, synchronized in (("alone", False), ("synchronized", True))
        }
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    say(tables(results))
