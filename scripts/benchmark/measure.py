"""Compares ours with others: whether they compute the same, how fast, and with how much memory.

Every peer runs in a process of its own, and they take turns, so that a machine that slows down for a while slows
down all of them. The figure of a turn is the median of its steps. Reported are the median, the least and the
greatest of the turns, without the rounds in which the speed of the machine changed.
"""

import dataclasses
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmark.peers import MATRIX_SIZE, PEERS, PRECISIONS, PeerError, Task, Worker, missing_packages, sigmoid, timed
from unet_lowlevel.config import Config
from unet_lowlevel.core import fast
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import processor
from unet_lowlevel.packages import installed_version
from unet_lowlevel.settings import apply
from unet_lowlevel.summary import step_operations
from unet_lowlevel.training.steps import train_step, whole_logits

# Number of losses to compare before anything is timed: the first tests the network and the loss, the others gradients
# and optimizer.
CHECKED_STEPS = 3
# Of float32, of the largest difference: of logits as a share of the largest logit, of probabilities as it is.
OUTPUT_TOLERANCE = 1e-3
LOSS_TOLERANCES = {"float32": (1e-4, 1e-2), "bfloat16": (5e-3, 2e-2)}  # relative: first loss, those after it
PROBABILITY_TOLERANCE = 0.02  # of bfloat16, mean over the pixels
# Repetitions in a turn, for works that do not use the plan's number of steps.
TIMES = {"matmul": 3, "whole": 2, "tiled": 1, "throughput": 1}
TILED_ROUNDS = 3  # at most, because each takes long
MATRIX_GFLOP = 2 * MATRIX_SIZE**3 / 1e9
SPEED_SIZE = 1024  # side of the matrices whose product shows the speed of the machine in a moment
QUIET = 0.1  # how far this may be off from that around it


@dataclasses.dataclass(frozen=True)
class Form:
    """A fast form, or all of them, and how its gain is measured.

    Attributes:
        title: in the table.
        without: the work of ours that runs the definition in its place.
        work: the same with the form, "training" or "inference".
        precisions: in which it is used.
    """

    title: str
    without: str
    work: str = "training"
    precisions: tuple[str, ...] = PRECISIONS


FORMS = (
    Form("`conv2d_of_parts`", "joined_parts"),
    Form("`batch_norm`", "batch_moments"),
    Form("`shifted_elu`", "bfloat16_elu", precisions=("bfloat16",)),
    Form("`InPlaceAdam`", "copying_adam"),
    Form("all of these (`--plain`)", "plain"),
    Form("`FoldedUNet`", "plain_inference", "inference"),
)
# Works that train, and works that predict the picture: compared with our float32 network before anything is timed, as
# is the throughput.
STEPS = {"training", "recompute", *(form.without for form in FORMS if form.work == "training")}
PICTURES = {"inference", *(form.without for form in FORMS if form.work == "inference")}
CHECKED = STEPS | PICTURES | {"throughput"}
# Works of short turns: some untimed steps come before the first turn, and one before each.
WARMED = STEPS | PICTURES | {"convolutions"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        config: network, loss, optimizer, batch and crop size; of float32.
        peers: names in `PEERS`, "ours" among them.
        precisions: of `PRECISIONS`.
        picture_size: side of the image of the inference, in pixels.
        large_size: side of the image that is predicted tile by tile; the one predicted whole has a quarter of it.
        images: in a turn of the throughput, of the size of the training images.
        threads: that one operation may use.
        rounds: turns of each peer; half as many more replace those that are not quiet.
        steps: training steps, or images, in a turn.
    """

    config: Config
    peers: tuple[str, ...]
    precisions: tuple[str, ...]
    picture_size: int
    large_size: int
    images: int
    threads: int
    rounds: int
    steps: int

    def task(self, precision: str, folder: Path) -> Task:
        return Task(apply(self.config, {"precision": precision}), precision, self.threads, folder, self.large_size)

    def described(self) -> dict:
        model, training = self.config.model, self.config.training
        return {
            "base_channels": model.base_channels,
            "depth": model.depth,
            "activation": model.activation.upper(),
            "batch_size": training.batch_size,
            "size": training.crop_size,
            "picture_size": self.picture_size,
            "large_size": self.large_size,
            "images": self.images,
            "threads": self.threads,
            "rounds": self.rounds,
            "steps": self.steps,
        }


@dataclasses.dataclass(frozen=True)
class Expected:
    """What our own network computes in float32: losses of the first steps, logits [1, S, S, 1] of the picture, and
    probabilities [M, S, S, 1] of the many images."""

    losses: list[float]
    logits: np.ndarray
    probabilities: np.ndarray

    def refusal(self, work: str, precision: str, output) -> str:
        """Why a peer with this output (losses, logits or probabilities) computes something else, or ''."""
        if work in STEPS:
            return losses_refusal(output, self.losses, precision)
        expected = self.probabilities if work == "throughput" else self.logits
        if output.shape != expected.shape:
            return f"its output is {output.shape}, ours {expected.shape}"
        difference = self.difference(work, precision, output)
        limit = OUTPUT_TOLERANCE if precision == "float32" else PROBABILITY_TOLERANCE
        # Not `difference > limit`, which nan would pass.
        return "" if difference <= limit else f"its output differs from ours by {difference:.1e}, more than {limit}"

    def difference(self, work: str, precision: str, output: np.ndarray) -> float:
        """In float32 the largest difference of probabilities, or of logits as a share of the largest; in bfloat16,
        where single logits may be far off, the mean difference of probabilities."""
        if work == "throughput":
            differences = np.abs(output - self.probabilities)
        elif precision == "float32":
            differences = np.abs(output - self.logits) / np.max(np.abs(self.logits))
        else:
            differences = np.abs(sigmoid(output) - sigmoid(self.logits))
        return float(np.max(differences) if precision == "float32" else np.mean(differences))


def losses_refusal(losses: list[float], expected: list[float], precision: str) -> str:
    for i, (theirs, ours) in enumerate(zip(losses, expected, strict=True)):
        # Not with `>`, which nan would pass.
        if not abs(theirs - ours) <= LOSS_TOLERANCES[precision][min(i, 1)] * abs(ours):
            return f"its loss at step {i + 1} is {theirs:.6f}, ours {ours:.6f}"
    return ""


def write_inputs(plan: Plan, folder: Path) -> UNet:
    """Writes what a `Task` reads; every variable of the network is random, the moving statistics and the biases too."""
    random = np.random.default_rng(0)
    unet = fast.network(plan.config.model)
    for name, variable in unet.named_variables().items():
        if name.endswith("moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif not name.endswith("weight"):
            variable.assign_add(random.normal(0, 0.1, variable.shape).astype(np.float32))
    size, count = plan.config.training.crop_size, plan.config.training.batch_size
    images = random.normal(size=[count, size, size, 1]).astype(np.float32)
    labels = (images[..., 0] > 0.5).astype(np.int32)
    picture = random.normal(size=[1, plan.picture_size, plan.picture_size, 1]).astype(np.float32)
    many = random.normal(size=[plan.images, size, size, 1]).astype(np.float32)
    np.savez(folder / "weights.npz", **{name: variable.numpy() for name, variable in unet.named_variables().items()})
    np.savez(folder / "batch.npz", images=images, labels=labels, picture=picture, many=many)
    return unet


def expected_of(unet: UNet, task: Task) -> Expected:
    """What the network that `write_inputs` gave computes of its inputs; it is trained a few steps."""
    images, labels = task.batch()
    logits = whole_logits(unet, tf.constant(task.picture())).numpy()
    probabilities = [sigmoid(whole_logits(unet, tf.constant(image[np.newaxis])).numpy()[0]) for image in task.many()]
    step = train_step(unet, task.config, images.shape[1:3], total_steps=10**6)
    losses = [float(step(images, labels)["loss"]) for _ in range(CHECKED_STEPS)]
    return Expected(losses, logits, np.stack(probabilities))


def machine_speed() -> float:
    """GFLOP/s of a NumPy product, in a fraction of a second."""
    matrix = np.ones([SPEED_SIZE, SPEED_SIZE], np.float32)
    return 2 * SPEED_SIZE**3 / 1e9 / statistics.median(timed(lambda: matrix @ matrix, 9)[0])


def quiet_rounds(speeds: Sequence[float]) -> list[bool]:
    """Whether each round was at the speed of its neighbours, from the speeds of the machine before each and after all.

    Both speeds of a quiet round, before and after it, are near the median of these and of the two on either side.
    """
    around = [np.median(speeds[max(i - 2, 0) : i + 4]) for i in range(len(speeds) - 1)]
    return [all(abs(speed / around[i] - 1) <= QUIET for speed in speeds[i : i + 2]) for i in range(len(around))]


class Measurement:
    """One run of the benchmark: starts the workers, gives them turns, and collects the results."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]):
        self.plan, self.folder, self.say = plan, folder, say
        self.left_out: list[dict] = []
        self.rounds: dict[str, list[dict]] = {}
        self.order = random.Random(0)
        self.expected = expected_of(write_inputs(plan, folder), plan.task("float32", folder))

    def leave_out(self, name: str, work: str, precision: str, reason: str) -> None:
        if name == "ours" and work not in ("matmul", "convolutions"):
            raise UserError(f"The {work} of this project has failed ({reason}): nothing can be compared with it.")
        self.left_out.append({"peer": name, "work": work, "precision": precision, "reason": reason.rstrip(".")})
        self.say(f"{PEERS[name].title}, {work}, {precision}: left out, {reason}")

    def candidates(self, work: str) -> list[tuple[str, str, str]]:
        """(peer, work, precision) of all that can do the work, our own first."""
        refused = {(entry["peer"], entry["precision"]) for entry in self.left_out if entry["work"] == "inference"}
        found = []
        for precision in self.plan.precisions:
            for name in self.plan.peers:
                if work not in PEERS[name].works or missing_packages(name):
                    continue
                if work in ("training", "throughput") and (name, precision) in refused:
                    self.leave_out(name, work, precision, "as for the inference")
                elif precision not in PEERS[name].precisions:
                    self.leave_out(name, work, precision, "it has no such convolutions")
                else:
                    found.append((name, work, precision))
        return found

    def measure(
        self, part: str, candidates: list[tuple[str, str, str]], rounds: int | None = None
    ) -> dict[tuple[str, str, str], dict]:
        """Starts the candidates, checks them, gives them their turns: as many as planned, or `rounds`, and half as many
        more if some are not quiet. Keeps the rounds under the name of the part.

        Returns:
            {(peer, work, precision): {difference, see `Expected`, of what is predicted; batch_size of the throughput;
            seconds_to_first_step, from the start of the process; peak_bytes, above the process after its imports;
            turns, median seconds of a step in each; quiet, which of them are; outputs, in each turn of the pipeline the
            median seconds of a fed step, by source}}.
        """
        rounds = rounds or self.plan.rounds
        workers: dict[tuple[str, str, str], Worker] = {}
        notes: dict[tuple[str, str, str], dict] = {}

        def ask(key, times: int) -> dict:
            workers[key].send(times)
            return workers[key].receive()

        def check(key, output) -> None:
            if key[1] in CHECKED and (reason := self.expected.refusal(*key[1:], output)):
                raise PeerError(reason)

        def drop(key, error: PeerError) -> None:
            workers.pop(key).close()
            notes.pop(key, None)
            self.leave_out(*key, str(error))

        try:
            for key in candidates:
                name, work, precision = key
                workers[key] = Worker(name, work, self.plan.task(precision, self.folder))
                try:
                    first = ask(key, 1)
                    seconds = time.perf_counter() - workers[key].started
                    more = ask(key, CHECKED_STEPS - 1)["output"] if work in WARMED else None
                    output = first["output"] + more if work in STEPS else first["output"]
                    check(key, output)
                except PeerError as error:
                    drop(key, error)
                    continue
                difference = self.expected.difference(work, precision, output) if work in CHECKED - STEPS else None
                notes[key] = {"difference": difference, "batch_size": first["batch_size"], "turns": [], "outputs": []}
                notes[key]["seconds_to_first_step"] = seconds
                self.say(f"{PEERS[name].title}, {work}, {precision}: ready after {seconds:.1f} s")
            speeds, quiet = [machine_speed()], []
            while sum(quiet) < rounds and len(quiet) < rounds + rounds // 2:
                for key in self.order.sample(list(workers), len(workers)):
                    try:
                        if key[1] in WARMED:
                            ask(key, 1)
                        message = ask(key, TIMES.get(key[1], self.plan.steps))
                        if key[1] not in STEPS:  # whose losses fall from turn to turn
                            check(key, message["output"])
                    except PeerError as error:
                        drop(key, error)
                        continue
                    notes[key]["turns"].append(statistics.median(message["seconds"]))
                    if key[1] == "pipeline":
                        fed = {name: statistics.median(seconds) for name, seconds in message["output"].items()}
                        notes[key]["outputs"].append(fed)
                    notes[key]["peak_bytes"] = message["peak_bytes"]
                speeds.append(machine_speed())
                quiet = quiet_rounds(speeds)
                self.say(f"{part}, round {len(quiet)}: {sum(quiet)} of {rounds} quiet, {speeds[-1]:.0f} GFLOP/s")
        finally:
            for worker in workers.values():
                worker.close()
        self.rounds[part] = [
            {"gflops": [before, after], "quiet": at_speed}
            for before, after, at_speed in zip(speeds[:-1], speeds[1:], quiet, strict=True)
        ]
        return {key: note | {"quiet": quiet} for key, note in notes.items()}


def run(plan: Plan, say: Callable[[str], None]) -> dict:
    """Measures everything.

    Args:
        plan: what to measure.
        say: called with messages about the progress.

    Returns:
        what benchmark.json holds; `report` shows it.

    Raises:
        UserError: when our own network fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(plan, Path(folder), say)
        for name in plan.peers:
            if lacking := missing_packages(name):
                measurement.leave_out(name, "all", "all", f"not installed: {', '.join(lacking)}")
        # First, because a peer that is refused here need not train.
        inference = measurement.measure("inference", measurement.candidates("inference"))
        throughput = measurement.measure("throughput", measurement.candidates("throughput"))
        works = ("training", "recompute", "convolutions", "matmul")
        training = measurement.measure("training", [key for work in works for key in measurement.candidates(work)])
        large = [("ours", work, precision) for precision in plan.precisions for work in ("whole", "tiled")]
        tiling = measurement.measure("tiling", large, min(plan.rounds, TILED_ROUNDS))
        forms = [row for precision in plan.precisions for row in form_rows(measurement, precision)]
        pipeline = measurement.measure("pipeline", [("ours", "pipeline", "float32")])["ours", "pipeline", "float32"]
    peak = [
        {"peer": name, "precision": precision, "gflops": spread(MATRIX_GFLOP / turns(note), note)}
        for (name, work, precision), note in training.items()
        if work == "matmul"
    ]
    return {
        "settings": plan.described(),
        "machine": machine(),
        "how": {name: PEERS[name].how for name in plan.peers},
        "rounds": measurement.rounds,
        "gflop_of_a_step": step_operations(plan.config) / 1e9,
        "peak": peak,
        "training": training_rows(plan, training, highest(peak)),
        "convolutions": [
            {"precision": precision, "milliseconds": spread(1e3 * turns(note), note)}
            for (_, work, precision), note in training.items()
            if work == "convolutions"
        ],
        "recompute": [recompute_row(training, precision) for precision in plan.precisions],
        "inference": [
            {
                "peer": name,
                "precision": precision,
                "milliseconds": spread(1e3 * turns(note), note),
                "difference": note["difference"],
                "speed_of_ours": speed_of_ours(inference, (name, work, precision)),
            }
            for (name, work, precision), note in inference.items()
        ],
        "throughput": [
            {
                "peer": name,
                "precision": precision,
                "batch_size": note["batch_size"],
                "images_per_second": spread(plan.images / turns(note), note),
                "difference": note["difference"],
                "speed_of_ours": speed_of_ours(throughput, (name, work, precision)),
            }
            for (name, work, precision), note in throughput.items()
        ],
        "tiling": [tiling_row(plan, tiling, precision) for precision in plan.precisions],
        "forms": forms,
        "pipeline": pipeline_figures(plan, pipeline),
        "left_out": measurement.left_out,
    }


def turns(note: dict) -> np.ndarray:
    """Seconds of each turn."""
    return np.array(note["turns"])


def spread(values: np.ndarray, note: dict) -> dict:
    """Median, least, greatest of the quiet rounds, or of all if fewer than half are; median and values of all."""
    chosen = values[note["quiet"]] if 2 * sum(note["quiet"]) >= len(values) else values
    figure = {name: float(getattr(np, name)(chosen)) for name in ("median", "min", "max")}
    return figure | {"median_of_all": float(np.median(values)), "rounds": values.tolist()}


def highest(peak: list[dict]) -> dict[str, float]:
    """{precision: GFLOP/s of the best library}."""
    best: dict[str, float] = {}
    for row in peak:
        best[row["precision"]] = max(row["gflops"]["median"], best.get(row["precision"], 0.0))
    return best


def speed_of_ours(notes: dict, key: tuple[str, str, str]) -> dict[str, float] | None:
    """Speed of ours relative to this peer, turn by turn in the same precision; None without ours."""
    ours = notes.get(("ours", *key[1:]))
    return spread(turns(notes[key]) / turns(ours), ours) if ours else None


def training_rows(plan: Plan, notes: dict, peak: dict[str, float]) -> list[dict]:
    batch_size, gflop = plan.config.training.batch_size, step_operations(plan.config) / 1e9
    rows = []
    for key, note in notes.items():
        name, work, precision = key
        if work == "training":
            images_per_second = spread(batch_size / turns(note), note)
            share = gflop * images_per_second["median"] / batch_size / peak[precision] if precision in peak else None
            alone = notes.get(("ours", "convolutions", precision))
            rows.append(
                {
                    "peer": name,
                    "precision": precision,
                    "images_per_second": images_per_second,
                    "share_of_peak": share,
                    "convolutions_alone": spread(turns(note) / turns(alone), note) if alone else None,
                    "speed_of_ours": speed_of_ours(notes, key),
                    "peak_bytes": note["peak_bytes"],
                    "seconds_to_first_step": note["seconds_to_first_step"],
                }
            )
    return rows


def recompute_row(notes: dict, precision: str) -> dict:
    """What --recompute saves, as a share of the peak memory, and how many times as long a step takes."""
    kept, again = (notes["ours", work, precision] for work in ("training", "recompute"))
    return {
        "precision": precision,
        "peak_bytes": again["peak_bytes"],
        "saved": 1 - again["peak_bytes"] / kept["peak_bytes"],
        "time": spread(turns(again) / turns(kept), kept),
    }


def form_rows(measurement: Measurement, precision: str) -> list[dict]:
    """Measures what each fast form gains: milliseconds of a step, or of an image, without it and with it, in turn."""
    forms = [form for form in FORMS if precision in form.precisions]
    works = dict.fromkeys([*(form.work for form in forms), *(form.without for form in forms)])
    notes = measurement.measure(f"forms, {precision}", [("ours", work, precision) for work in works])
    rows = []
    for form in forms:
        note = notes["ours", form.work, precision]
        without, within = 1e3 * turns(notes["ours", form.without, precision]), 1e3 * turns(note)
        figures = {"without": without, "with": within, "gain": without / within}
        figures = {name: spread(values, note) for name, values in figures.items()}
        rows.append({"form": form.title, "work": form.work, "precision": precision, **figures})
    return rows


def tiling_row(plan: Plan, notes: dict, precision: str) -> dict:
    """Megapixels a second whole and tile by tile, their ratio, and both peaks of memory."""
    whole, tiled = (notes["ours", work, precision] for work in ("whole", "tiled"))
    speeds = [
        (side / 1e3) ** 2 / turns(note) for side, note in ((plan.large_size // 4, whole), (plan.large_size, tiled))
    ]
    return {
        "precision": precision,
        "whole": spread(speeds[0], whole),
        "tiled": spread(speeds[1], tiled),
        "share": spread(speeds[1] / speeds[0], tiled),
        "whole_peak_bytes": whole["peak_bytes"],
        "tiled_peak_bytes": tiled["peak_bytes"],
    }


def pipeline_figures(plan: Plan, note: dict) -> dict[str, dict]:
    """Images a second with a constant batch, fed from memory, and fed from files; the last two also as shares of it."""
    constant = turns(note)
    figures = {"constant": spread(plan.config.training.batch_size / constant, note)}
    for name in note["outputs"][0]:
        fed = np.array([output[name] for output in note["outputs"]])
        figures[name] = spread(plan.config.training.batch_size / fed, note)
        figures[f"{name}_share"] = spread(constant / fed, note)
    return figures


def machine() -> dict:
    """Processor, cores, and the versions that were measured."""
    packages = ("tensorflow", "keras", "torch", "onnxruntime", "openvino", "numpy")
    versions = {"python": platform.python_version()} | {name: installed_version(name) for name in packages}
    return {"processor": processor(), "cores": os.cpu_count(), "versions": versions}
