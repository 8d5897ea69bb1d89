"""Trainings that are stopped, killed, doubled or out of room: nothing is lost, and the rest is the same to the bit."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import TINY
from kill_and_resume import PROGRAM, assert_same_training, kill_and_resume, state, told

from unet_lowlevel import run_folder
from unet_lowlevel.cli.train import main
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.interruption import StopSignals
from unet_lowlevel.training.totals import Tally

LONG = [*TINY, "--epochs", "3", "--steps-per-epoch", "5", "--dropout-rate", "0.3", "--ema-decay", "0.9"]


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    """A training that nobody has disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["--run", str(run), "--data", str(phantoms), *LONG]) == 0
    return run


def at_step(wanted, action):
    """An `on_step` that acts once, after this step."""
    return lambda step, loss: action() if step == wanted else None


def test_killed_at_random_moments(phantoms, tmp_path):
    kill_and_resume(tmp_path, phantoms, kills=3, seed=int(time.time()) % 1000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 7, 10])  # in the first epoch, in the second, and at the end of that
def test_a_signal_saves_and_ends(number, step, whole, phantoms, tmp_path, capsys):
    run = tmp_path / "run"
    before = signal.getsignal(number)
    stop = at_step(step, lambda: signal.raise_signal(number))
    assert main(["--run", str(run), "--data", str(phantoms), *LONG], on_step=stop) == 128 + number
    assert signal.getsignal(number) is before
    error = capsys.readouterr().err
    assert f"stopped by {number.name} after step {step}; all is saved, go on with:" in error and "--resume" in error
    assert main(["--run", str(run), "--resume"]) == 0
    assert_same_training(whole, run)
    assert told(run) == told(whole)


def test_a_second_signal_ends_at_once(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_are_left_alone_in_other_threads():
    found = []

    def work():
        with StopSignals() as signals:
            found.append(signals.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.parametrize("flags", [["--checkpoint-steps", "2"], ["--checkpoint-minutes", "0.000001"]])
def test_checkpoints_within_an_epoch_change_nothing(flags, whole, phantoms, tmp_path):
    run, saved = tmp_path / "run", []

    def look(step, loss):
        folder = run / "checkpoints"
        saved.append({path.stem for path in folder.glob("ckpt-*.index")} if folder.exists() else set())

    assert main(["--run", str(run), "--data", str(phantoms), *LONG, *flags], on_step=look) == 0
    assert "ckpt-2" in saved[2] and all(len(files) <= 2 for files in saved)
    assert_same_training(whole, run)


def test_a_run_in_use_is_refused(whole, phantoms, tmp_path, capsys):
    notes, run = tmp_path / "notes", tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(notes), "--run", str(run), "--data", str(phantoms), *LONG, "--epochs", "99"]
    )
    while not notes.exists():
        assert process.poll() is None
        time.sleep(0.01)
    assert main(["--run", str(run), "--resume"]) == 2
    assert f"--run {run} is in use by another training" in capsys.readouterr().err
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    with run_folder.in_use(run):  # free again
        pass


def test_no_run_is_in_use_twice(whole):
    with run_folder.in_use(whole), pytest.raises(UserError), run_folder.in_use(whole):
        pass


LIMITED = """
import resource, sys
from unet_lowlevel.cli.train import main
def limit(step, loss):
    if step == int(sys.argv[1]):  # as if the disk had room for no file larger than this any more
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:], on_step=limit))
"""


@pytest.mark.parametrize("flags, newest", [([], 5), (["--checkpoint-steps", "2"], 7)])
def test_a_full_disk_leaves_the_last_checkpoint(flags, newest, whole, phantoms, tmp_path):
    run = tmp_path / "run"
    arguments = ["9", "--run", str(run), "--data", str(phantoms), *LONG, *flags]
    process = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert process.returncode == 2, process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert f"{run} cannot be written" in line and "--resume" in line
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert f"ckpt-{newest}.index" in names and not any("ckpt-9" in name or "ckpt-10" in name for name in names)
    assert main(["--run", str(run), "--resume"]) == 0
    assert_same_training(whole, run)
    assert told(run) == told(whole)


def test_a_tally_survives_as_text():
    tally = Tally()
    tally.steps, tally.images, tally.loss, tally.seconds = 3, 12, 0.1 + 0.2, 1.5
    tally.confusion, tally.thresholds = np.array([[5, 1], [2, 8]]), np.arange(20).reshape(10, 2)
    again = Tally.from_json(tally.to_json())
    assert vars(again).keys() == vars(tally).keys() and again.loss == tally.loss and again.scores
    np.testing.assert_array_equal(again.confusion, tally.confusion)
    np.testing.assert_array_equal(again.thresholds, tally.thresholds)
    assert again.confusion.dtype == np.int64
    assert vars(Tally.from_json("")) == vars(Tally())


def test_state_holds_every_variable(whole):
    names = " ".join(state(whole))
    for part in ("epoch", "step", "tally", "best_epoch", "moving_mean"):
        assert part in names
