"""Kills trainings at random moments and resumes them: `python tests/kill_and_resume.py --kills 25`.

Every training begins together with another in the same folder, which must leave it alone, and is killed with it.
The weights, the optimizer's memory and history.csv in the end are held, bit for bit, to those of a training that nobody
disturbed; TensorBoard must have every step once, and no kill may cost more than one interval between checkpoints.
"""

import argparse
import collections
import csv
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import tensorflow as tf

TIMES = ("seconds", "images_per_second")
INTERVAL = 3
FLAGS = ["--base-channels", "4", "--depth", "2", "--steps-per-epoch", "10", "--batch-size", "2"]
FLAGS += ["--dropout-rate", "0.3", "--ema-decay", "0.9", "--warmup-steps", "4", "--group-regex", "patient-\\d+"]
FLAGS += ["--checkpoint-steps", str(INTERVAL), "--threshold", "0.2"]

# Each training is a process of its own, forked from one that has imported TensorFlow, which takes seconds, and no more.
PROCESSES = multiprocessing.get_context("forkserver")
if sys.platform == "linux":  # elsewhere each imports it for itself
    PROCESSES.set_forkserver_preload(["unet_lowlevel.reference.trainers"])


def start(
    flags: list[str],
    errors: Path,
    *,
    notes: Path | None = None,
    pause: float = 0.0,
    full_after: int = 0,
    cluster: str = "",
) -> BaseProcess:
    """Trains as scripts/train_lowlevel.py does with these flags, in a process of its own; see `work`."""
    process = PROCESSES.Process(target=work, args=(flags, errors, notes, pause, full_after, cluster))
    process.start()
    return process


def work(flags: list[str], errors: Path, notes: Path | None, pause: float, full_after: int, cluster: str) -> None:
    """What the process of a training does; its exit code is that of the command.

    Args:
        flags: of the command.
        errors: file that is given what the command says on its standard error.
        notes: file that is given each step before it can be saved.
        pause: seconds to wait after each step.
        full_after: the step from which the disk is as good as full; 0: none.
        cluster: TF_CONFIG of one of several workers.
    """
    if cluster:
        os.environ["TF_CONFIG"] = cluster
    for number, path in ((1, os.devnull), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    from tqdm import tqdm

    from unet_lowlevel.cli.train import main

    tqdm.set_lock(threading.RLock())  # the lock of several processes would be left behind by one that is killed

    def on_step(step: int, loss: float) -> None:
        if notes:
            with notes.open("a") as file:
                file.write(f"{step}\n")
        if step == full_after:  # as if the disk had room for no file larger than this any more
            import resource  # not on Windows

            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        time.sleep(pause)

    sys.exit(main(flags, on_step=on_step))


def finish(process: BaseProcess, errors: Path) -> None:
    process.join()
    assert process.exitcode == 0, errors.read_text()


def state(run: Path, folder: str = "checkpoints") -> dict[str, np.ndarray]:
    """Every variable of the newest checkpoint by name, without the number of times that it was saved."""
    reader = tf.train.load_checkpoint(str(run / folder))
    names = [name for name in reader.get_variable_to_shape_map() if name != "save_counter/.ATTRIBUTES/VARIABLE_VALUE"]
    return {name: reader.get_tensor(name) for name in names if "CHECKPOINTABLE_OBJECT_GRAPH" not in name}


def history(run: Path) -> list[dict[str, str]]:
    """history.csv without the columns that tell the time."""
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def assert_same_training(one: Path, two: Path) -> None:
    assert history(one) == history(two)
    for folder in ("checkpoints", "best"):
        a, b = state(one, folder), state(two, folder)
        assert a.keys() == b.keys() and a
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def told(run: Path) -> dict[str, collections.Counter]:
    """{folder: how often TensorBoard was told of each (tag, step)}; the graph and the like as tag ''."""
    from tensorflow.core.util.event_pb2 import Event

    found = {}
    for folder in ("train", "validation", "network", "summary"):
        found[folder] = collections.Counter()
        for path in (run / folder).glob("events.*"):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                kind = event.WhichOneof("what")
                if kind != "file_version":
                    tags = [value.tag for value in event.summary.value] if kind == "summary" else [kind]
                    found[folder].update((tag, event.step) for tag in tags)
    return found


def kill_and_resume(folder: Path, data: Path, kills: int, seed: int = 0, *, epochs: int = 8, say=print) -> None:
    """Kills until it has been done `kills` times, each training up to five times before its end."""
    moments, whole, notes = random.Random(seed), folder / "whole", folder / "notes"
    errors, rival = folder / "errors", folder / "errors of the rival"
    flags = ["--data", str(data), *FLAGS, "--epochs", str(epochs)]
    first = PROCESSES.Process(target=int)  # for which TensorFlow is imported
    first.start()
    first.join()
    begun = time.monotonic()
    process = begin(whole, notes, errors, flags)
    wait_for_steps([process], notes)
    stepping = time.monotonic()
    finish(process, errors)
    ended = time.monotonic()
    expected, done, number = told(whole), 0, 0
    while done < kills:
        number += 1
        run, resume = folder / f"torn-{number}", []
        for _ in range(5):
            notes.unlink(missing_ok=True)
            pair = [begin(run, notes, path, resume or flags) for path in (errors, rival)]
            # A third of them anywhere, in the start or in the end, too; else somewhere in the training.
            anywhere = moments.random() < 1 / 3
            if not anywhere:
                wait_for_steps(pair, notes)
            time.sleep(moments.uniform(0, ended - begun if anywhere else 0.7 * (ended - stepping)))
            for process in pair:
                process.kill()
            for process in pair:
                process.join()
            assert_one_refused(pair, (errors, rival), stepped=notes.exists())
            done += any(process.exitcode == -signal.SIGKILL for process in pair)
            lost = assert_little_lost(run, notes)
            say(f"kill {done} in training {number}: {lost}")
            resume = ["--resume"] if (run / "config.json").exists() else []
            if any(process.exitcode == 0 for process in pair) or done == kills:
                break
            if not resume and run.exists():
                run, number = folder / f"torn-{number + 1}", number + 1
        finish(begin(run, notes, errors, resume or flags), errors)
        assert_same_training(whole, run)
        assert told(run) == expected
        say(f"training {number}: equal to the undisturbed one")


def begin(run: Path, notes: Path, errors: Path, flags: list[str]) -> BaseProcess:
    """A training that takes its time, so that a kill is likely to meet it anywhere."""
    return start(["--run", str(run), *flags], errors, notes=notes, pause=0.02)


def wait_for_steps(processes: list[BaseProcess], notes: Path) -> None:
    """Waits for the first step, or for the end of all processes without any."""
    while not notes.exists() and any(process.is_alive() for process in processes):
        time.sleep(0.01)


def assert_one_refused(pair: list[BaseProcess], errors: tuple[Path, Path], *, stepped: bool) -> None:
    """Of two that began in one folder, one is refused in one sentence before the other takes its first step."""
    said = [path.read_text() for process, path in zip(pair, errors, strict=True) if process.exitcode == 2]
    assert len(said) == 1 if stepped else len(said) <= 1, [process.exitcode for process in pair]
    refusals = ("is in use by another training", "is not empty")  # the second if it came late
    assert all(any(words in text for words in refusals) and text.count("\n") == 1 for text in said), said


def assert_little_lost(run: Path, notes: Path) -> str:
    """Holds the newest checkpoint to the last step that the killed process has taken, and tells both."""
    if not notes.exists():
        return "before its first step"
    last = int(notes.read_text().split()[-1])
    newest = tf.train.latest_checkpoint(str(run / "checkpoints"))
    saved = int(newest.rpartition("-")[2]) if newest else 0
    assert last - saved <= INTERVAL, (last, saved)
    return f"after step {last}, saved up to step {saved}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from unet_lowlevel.data.phantoms.phantom import write_phantoms

    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "data", 12, (32, 32), slices_per_patient=3, seed=0)
        kill_and_resume(Path(folder), Path(folder) / "data", arguments.kills, arguments.seed)
    print(f"{arguments.kills} kills: nothing lost")


if __name__ == "__main__":
    main()
