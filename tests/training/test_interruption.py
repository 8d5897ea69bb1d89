"""Trainings that are stopped, killed, doubled or out of room: nothing is lost, and the rest is the same to the bit."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY, on_disk
from kill_and_resume import assert_same_training, history, kill_and_resume, start, state, told
from tiny_training import interrupt_in_epoch_two

from unet_lowlevel import run_folder
from unet_lowlevel.cli.train import main
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.interruption import StopSignals
from unet_lowlevel.training.summaries import FOLDERS

# With dropout, momentum, schedule, warm-up, average and clipping all at work.
LONG = [*TINY, "--epochs", "3", "--steps-per-epoch", "5", "--dropout-rate", "0.3", "--ema-decay", "0.9"]
LONG += ["--warmup-steps", "4", "--clip-norm", "1", "--weight-decay", "0.01"]


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    """A training that nobody has disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["--run", str(run), "--data", str(phantoms), *LONG]) == 0
    return run


def at_step(wanted, action):
    """An `on_step` that acts once, after this step."""
    return lambda step, loss: action() if step == wanted else None


def wait_for(path, process):
    """Waits until a process has written a file."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments(phantoms, tmp_path):
    kill_and_resume(tmp_path, phantoms, kills=3, seed=int(time.time()) % 1000, epochs=4)


@pytest.mark.parametrize("stream", [pytest.param([], marks=pytest.mark.slow), ["--stream"]])
def test_a_killed_process_goes_on_bit_for_bit(whole, phantoms, tmp_path, stream):
    """SIGKILL as soon as the first epoch is on disk: no handler can tidy up, and decoded/ is not to be trusted."""
    torn = tmp_path / "torn"
    flags = ["--run", str(torn), "--data", str(phantoms), *LONG, *stream]
    process = start(flags, tmp_path / "errors", pause=0.05)
    wait_for(torn / "checkpoints" / "checkpoint", process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (torn / "decoded").exists() == bool(stream)
    for file in torn.glob("decoded/*"):
        file.write_bytes(b"torn")
    assert main(["--run", str(torn), "--resume"]) == 0
    assert not (torn / "decoded").exists()
    assert_same_training(whole, torn)


@pytest.mark.parametrize(("number", "steps"), [(signal.SIGINT, (1, 10)), (signal.SIGTERM, (7,))])
def test_a_signal_saves_and_ends(number, steps, whole, phantoms, tmp_path, capsys):
    """In the first epoch and, going on, at the end of the second; within the second."""
    run, flags = tmp_path / "run", ["--data", str(phantoms), *LONG]
    before = signal.getsignal(number)
    for step in steps:
        stop = at_step(step, lambda: signal.raise_signal(number))
        assert main(["--run", str(run), *flags], on_step=stop) == 128 + number
        assert signal.getsignal(number) is before
        error = capsys.readouterr().err
        assert f"stopped by {number.name} after step {step}; all is saved, go on with:" in error
        assert "--resume" in error
        flags = ["--resume"]
    assert main(["--run", str(run), *flags]) == 0
    assert_same_training(whole, run)
    assert told(run) == told(whole)


@pytest.mark.gpu
def test_an_interrupted_training_goes_on_bit_for_bit(whole, phantoms, tmp_path, monkeypatch):
    """Interrupted in epoch 2 of 3, before its checkpoint; of an end after it, see the signals above."""
    torn = tmp_path / "torn"
    interrupt_in_epoch_two(monkeypatch)
    assert main(["--run", str(torn), "--data", str(phantoms), *LONG]) == 130
    monkeypatch.undo()
    assert main(["--run", str(torn), "--resume"]) == 0
    assert_same_training(whole, torn)
    assert told(torn) == told(whole)  # TensorBoard had been told of the epoch, but it was not saved


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


def test_a_run_in_use_is_refused(phantoms, tmp_path, capsys):
    notes, run = tmp_path / "notes", tmp_path / "run"
    flags = ["--run", str(run), "--data", str(phantoms), *LONG, "--epochs", "99"]
    process = start(flags, tmp_path / "errors", notes=notes)
    wait_for(notes, process)
    assert main(["--run", str(run), "--resume"]) == 2
    assert f"--run {run} is in use by another training" in capsys.readouterr().err
    process.terminate()
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    with run_folder.in_use(run):  # free again
        pass


def test_no_run_is_in_use_twice(whole):
    with run_folder.in_use(whole), pytest.raises(UserError), run_folder.in_use(whole):
        pass


@pytest.mark.parametrize(
    "flags, newest", [pytest.param([], 5, marks=pytest.mark.slow), (["--checkpoint-steps", "2"], 7)]
)
def test_a_full_disk_leaves_the_last_checkpoint(flags, newest, whole, phantoms, tmp_path):
    run, errors = tmp_path / "run", tmp_path / "errors"
    process = start(["--run", str(run), "--data", str(phantoms), *LONG, *flags], errors, full_after=9)
    process.join()
    assert process.exitcode == 2, errors.read_text()
    (line,) = [line for line in errors.read_text().splitlines() if line.startswith("error: ")]
    assert f"{run} cannot be written (File too large): make room on its disk and go on with --resume; " in line
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert f"ckpt-{newest}.index" in names and not any("ckpt-9" in name or "ckpt-10" in name for name in names)
    assert main(["--run", str(run), "--resume"]) == 0
    assert_same_training(whole, run)
    assert told(run) == told(whole)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(("part", "damage"), [("index", Path.unlink), ("data-00000-of-00001", cut)])
def test_from_a_damaged_checkpoint_it_goes_back_to_the_one_before(part, damage, whole, tmp_path, capsys):
    torn = tmp_path / "torn"
    shutil.copytree(whole, torn)
    damage(torn / "checkpoints" / f"ckpt-15.{part}")
    assert main(["--run", str(torn), "--resume"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    newest, before = torn / "checkpoints" / "ckpt-15", torn / "checkpoints" / "ckpt-10"
    assert line.startswith(f"note: {newest} is damaged (") and f"going on from {before}, the one before" in line
    assert "{{" not in line and "[Op:" not in line
    assert_same_training(whole, torn)
    assert told(torn) == told(whole)
    damage(newest.with_suffix(f".{part}"))
    damage(before.with_suffix(f".{part}"))
    assert main(["--run", str(torn), "--resume"]) == 2
    assert "restore the run folder" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the new name")
@pytest.mark.parametrize(
    ("implementation", "taken"), [("lowlevel", True), pytest.param("keras", False, marks=pytest.mark.slow)]
)
def test_a_run_that_is_renamed_is_saved_under_its_new_name(taken, implementation, phantoms, tmp_path, capsys):
    """And not torn in two; nothing is written to what has taken its place."""
    run, moved = tmp_path / "run", tmp_path / "renamed run"
    flags = ["--run", str(run), "--data", str(phantoms), *TINY, "--epochs", "3", "--stream"]

    def rename():
        run.rename(moved)
        if taken:
            shutil.copytree(moved, run)
            before.update(on_disk(run))

    before = {}
    assert main(flags, implementation, on_step=at_step(5, rename)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (
        line.startswith(f"error: {run} was renamed to {moved} while it was trained; ")
        and "step 6 is saved there" in line
    )
    assert line.endswith(f"go on with --run '{moved}' --resume.")
    assert on_disk(run) == before if taken else not run.exists()
    assert {path.name for path in moved.iterdir()} - {"best.keras"} == {
        "config.json", "split.json", "plan.json", "history.csv", "checkpoints", "best", *FOLDERS
    }  # fmt: skip
    assert [row["epoch"] for row in history(moved)] == ["1", "2"]
    assert main(["--run", str(moved), "--resume"], implementation) == 0
    whole = tmp_path / "whole"
    assert main(["--run", str(whole), *flags[2:]], implementation) == 0
    assert_same_training(whole, moved)
    assert told(whole) == told(moved)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the new name")
def test_a_run_that_is_renamed_within_an_epoch(whole, phantoms, tmp_path, capsys):
    run, moved = tmp_path / "run", tmp_path / "moved"
    flags = ["--run", str(run), "--data", str(phantoms), *LONG, "--checkpoint-steps", "2"]
    assert main(flags, on_step=at_step(1, lambda: run.rename(moved))) == 2
    assert f"all up to step 2 is saved there: go on with --run {moved} --resume." in capsys.readouterr().err
    assert not run.exists()
    assert main(["--run", str(moved), "--resume"]) == 0
    assert_same_training(whole, moved)
    assert told(moved) == told(whole)


def test_a_run_that_is_removed_ends_its_training(phantoms, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--run", str(run), "--data", str(phantoms), *LONG]
    assert main(flags, on_step=at_step(7, lambda: shutil.rmtree(run))) == 2
    assert f"{run} was renamed or removed while it was trained" in capsys.readouterr().err
    assert not run.exists()


def test_what_cannot_be_written_is_refused_before_anything_starts(whole, tmp_path):
    """Without TensorFlow, and before the data is read."""
    torn = tmp_path / "torn"
    shutil.copytree(whole, torn)
    code = (
        "import os, sys\n"
        "from unet_lowlevel.cli.train import main\n"
        "allowed = os.access\n"
        "os.access = lambda path, mode: allowed(path, mode) and os.path.basename(path) != 'checkpoints'\n"
        f"assert main(['--run', {str(torn)!r}, '--resume', '--epochs', '9']) == 2\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    before = on_disk(torn)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"error: {torn / 'checkpoints'} cannot be written to, but --resume does so: allow it, or go on with a copy.\n"
    )
    assert on_disk(torn) == before


def test_state_holds_every_variable(whole):
    names = " ".join(state(whole))
    for part in ("epoch", "step", "tally", "best_epoch", "moving_mean"):
        assert part in names
