"""The three implementations of the network, trained side by side and compared."""

import argparse
import contextlib
import io
import json
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, add_settings, resolved_config, run_command
from unet_lowlevel.cli.train import NETWORKS
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.data.formats.writing import check_new_output
from unet_lowlevel.errors import NothingFound, UserError
from unet_lowlevel.machine import peak_bytes, start_tensorflow
from unet_lowlevel.settings import to_json
from unet_lowlevel.terminal import say, show_path, tensorboard
from unet_lowlevel.training.train import with_default_data

# Few, so that all three take a few minutes.
DEFAULTS = {"epochs": 5}
# Steps in a turn: with short turns, a machine that slows down for a while slows down all three.
TURN = 8
# Each training imports TensorFlow for itself, and its memory is its own.
PROCESSES = multiprocessing.get_context("spawn")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Trains the same network three ways, low-level, high-level and Keras: from the same weights, on the same "
        "batches, in turn, each in a process of its own. Without flags: on generated thorax slices, in a few minutes.",
        "compare",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        required=True,
        help="new folder for the three run folders, comparison.json, comparison.md and steps.csv",
    )
    add_settings(parser, defaults=DEFAULTS)
    return run_command(compare, parser, argv)


def compare(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    check_new_output(output)
    config = resolved_config(arguments)
    if config.training.patience:
        raise UserError(
            f"--patience is {config.training.patience}, but all three have to take the same steps: set it to 0."
        )
    if config.optimizer.ema_decay:
        raise UserError(f"--ema-decay is {config.optimizer.ema_decay}, but Keras has no such averages: set it to 0.")
    config = with_default_data(config)
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.json"
        settings.write_text(json.dumps(to_json(config)), encoding="utf-8")
        notes = train_in_turns(output, settings)
    start_tensorflow()
    from unet_lowlevel.reference import comparison

    results = comparison.compare({name: output / name for name in notes}, notes, config.training.batch_size)
    table = comparison.table(results)
    (output / "comparison.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (output / "comparison.md").write_text(table, encoding="utf-8")
    (output / "steps.csv").write_text(comparison.steps_csv(notes), encoding="utf-8")
    say(
        f"\n{table}\nwrote comparison.json, comparison.md and steps.csv to {show_path(output)}\n"
        f"look at curves and pictures:\n{tensorboard(output)}"
    )


def train_in_turns(output: Path, settings: Path) -> dict[str, dict]:
    """Trains all three into OUTPUT/<implementation>, one at a time, `TURN` steps each.

    Args:
        output: folder of the run folders.
        settings: JSON file of all settings.

    Returns:
        {implementation: notes of `one_training`, with seconds_to_first_step}.

    Raises:
        UserError: with the message of a training that failed.
    """
    processes, parents, notes = [], {}, {}
    try:
        for name in NETWORKS:
            # --patience is given, because train_keras.py has a default of its own.
            flags = ["--run", str(output / name), "--config", str(settings), "--patience", "0"]
            parents[name], child = PROCESSES.Pipe()
            process = PROCESSES.Process(target=one_training, args=(name, flags, child))
            start = time.perf_counter()
            with out_of_reach_of_signals():
                process.start()
            processes.append(process)
            child.close()
            received(parents[name], name)
            notes[name] = {"seconds_to_first_step": time.perf_counter() - start}
            say(f"{name}: first step after {notes[name]['seconds_to_first_step']:.1f} s")
        while True:
            messages = {}
            for name, parent in parents.items():
                parent.send("your turn")
                messages[name] = received(parent, name)
            if "losses" in messages["lowlevel"]:
                return {name: notes[name] | messages[name] for name in notes}
            step = messages["lowlevel"]["step"]
            if step % (10 * TURN) == 0:
                losses = ", ".join(f"{message['loss']:.4f} {name}" for name, message in messages.items())
                say(f"step {step}: loss {losses}")
    except BaseException:  # a comparison cannot go on with what the others would save
        for process in processes:
            process.kill()
        raise
    finally:
        for parent in parents.values():
            parent.close()
        for process in processes:
            process.join()


@contextlib.contextmanager
def out_of_reach_of_signals() -> Iterator[None]:
    """A process that is started inside ignores Ctrl-C and SIGTERM, which mean this one: it ends with the connection."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def received(parent: Connection, name: str) -> dict:
    """The next message of a training, or a `UserError` when it has failed."""
    try:
        message = parent.recv()
    except EOFError:
        message = {"error": "it ended before its time, perhaps for want of memory: try a smaller --batch-size."}
    if "error" in message:
        raise UserError(f"The {name} training has failed: {message['error'].removeprefix('error: ').strip()}")
    return message


def one_training(implementation: str, flags: list[str], child: Connection) -> None:
    """Trains as `train_IMPLEMENTATION.py FLAGS` does, and waits for its turn after the first and each `TURN`th step.

    Sends {step, loss} before it waits; at the end its notes {losses, step_seconds, peak_bytes}, or
    {error} with what it has printed.
    """
    losses: list[float] = []
    step_seconds: list[float] = []
    start = time.perf_counter()

    def on_step(step: int, loss: float) -> None:
        nonlocal start
        step_seconds.append(time.perf_counter() - start)
        losses.append(loss)
        if step == 1 or step % TURN == 0:
            child.send({"step": step, "loss": loss})
            child.recv()
        start = time.perf_counter()

    printed = io.StringIO()
    # The connection ends when another training has failed, or all are interrupted: this one need not go on.
    ended = contextlib.suppress(EOFError, BrokenPipeError)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed), ended:
        code = train(flags, implementation, on_step)
        failed = {"error": printed.getvalue()}
        notes = {"losses": losses, "step_seconds": step_seconds, "peak_bytes": peak_bytes()}
        child.send(notes if code in (0, NothingFound.exit_code) else failed)  # the figures will say what was found
