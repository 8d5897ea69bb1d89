"""Kills trainings at random moments and resumes them: `python tests/kill_and_resume.py --kills 25`.

The weights, the optimizer's memory and history.csv in the end are held, bit for bit, to those of a training that nobody
disturbed; TensorBoard must have every step once, and no kill may cost more than one interval between checkpoints.
"""

import argparse
import collections
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

TIMES = ("seconds", "images_per_second")
INTERVAL = 3
FLAGS = ["--base-channels", "4", "--depth", "2", "--epochs", "8", "--steps-per-epoch", "10", "--batch-size", "2"]
FLAGS += ["--dropout-rate", "0.3", "--ema-decay", "0.9", "--warmup-steps", "4", "--group-regex", "patient-\\d+"]
FLAGS += ["--checkpoint-steps", str(INTERVAL)]
# Trains as scripts/train_lowlevel.py does, a little slower, and notes each step before it can be saved.
PROGRAM = """
import sys, time
from unet_lowlevel.cli.train import main
def note(step, loss):
    with open(sys.argv[1], "a") as file:
        file.write(f"{step}\\n")
    time.sleep(0.02)
sys.exit(main(sys.argv[2:], on_step=note))
"""


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
    for folder in ("train", "validation"):
        found[folder] = collections.Counter()
        for path in (run / folder).glob("events.*"):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                kind = event.WhichOneof("what")
                if kind != "file_version":
                    tags = [value.tag for value in event.summary.value] if kind == "summary" else [kind]
                    found[folder].update((tag, event.step) for tag in tags)
    return found


def start(run: Path, notes: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, str(notes), "--run", str(run), *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    error = process.communicate()[1].decode()
    assert process.returncode == 0, error


def kill_and_resume(folder: Path, data: Path, kills: int, seed: int = 0, say=print) -> None:
    """Kills until it has been done `kills` times, each training up to five times before its end."""
    moments, whole, notes = random.Random(seed), folder / "whole", folder / "notes"
    flags = ["--data", str(data), *FLAGS]
    begun = time.monotonic()
    finish(start(whole, notes, *flags))
    duration = time.monotonic() - begun
    expected, done, number = told(whole), 0, 0
    while done < kills:
        number += 1
        run, resume = folder / f"torn-{number}", []
        for _ in range(5):
            notes.unlink(missing_ok=True)
            process = start(run, notes, *(resume or flags))
            # A third of them anywhere, in the start or in the end, too; else somewhere in the training.
            anywhere = moments.random() < 1 / 3
            while not anywhere and not notes.exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, duration if anywhere else 0.5 * duration))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += process.returncode == -signal.SIGKILL
            lost = assert_little_lost(run, notes)
            say(f"kill {done} in training {number}: {lost}")
            resume = ["--resume"] if (run / "config.json").exists() else []
            if process.returncode == 0 or done == kills:
                break
            if not resume and run.exists():
                run, number = folder / f"torn-{number + 1}", number + 1
        finish(start(run, notes, *(resume or flags)))
        assert_same_training(whole, run)
        assert told(run) == expected
        say(f"training {number}: equal to the undisturbed one")


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
