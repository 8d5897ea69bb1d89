"""The run folder: written whole, read back as it was, and a sentence for each way it can be damaged."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from unet_lowlevel import run_folder
from unet_lowlevel import settings as cfg
from unet_lowlevel.errors import UserError

CONFIG = cfg.resolve(flags={"in_channels": 3, "class_weights": [1, 4], "crop_size": 64})


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "lung"
    folder.mkdir(parents=True)
    run_folder.create(folder, CONFIG, ["a", "ß-2"], ["c"], "sha256:12")
    return folder


def test_round_trip(run):
    config, made_with, split = run_folder.read(run)
    assert config == CONFIG
    assert split == {"training": ["a", "ß-2"], "validation": ["c"]}
    assert made_with["data_fingerprint"] == "sha256:12"
    assert {"python", "tensorflow", "numpy", "unet-lowlevel"} <= made_with["versions"].keys()


def test_nothing_else_is_left_in_the_folder(run):
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "split.json"]


def test_config_can_be_used_again(run):
    assert cfg.resolve(file=str(run / "config.json")) == CONFIG


def test_config_is_written_last(tmp_path, monkeypatch):
    """A folder with config.json is a run, so that nothing may be missing once it is there."""
    order, write = [], run_folder.write_text
    monkeypatch.setattr(run_folder, "write_text", lambda path, text: (order.append(path.name), write(path, text)))
    run_folder.create(tmp_path, CONFIG, [], [], "")
    assert order[-1] == "config.json" and len(order) == 2


def test_write_text_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "history.csv"
    run_folder.write_text(path, "old ß\n")

    def fails(*args):
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="killed"):
        run_folder.write_text(path, "new\n")
    assert path.read_text(encoding="utf-8") == "old ß\n"
    monkeypatch.undo()
    run_folder.write_text(path, "new\n")
    assert path.read_text(encoding="utf-8") == "new\n"
    assert [item.name for item in tmp_path.iterdir()] == ["history.csv"]


def test_next_free(tmp_path):
    with run_folder.next_free("lowlevel", tmp_path / "runs") as folder:
        assert folder == tmp_path / "runs" / "lowlevel-1" and folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lowlevel-1").mkdir()
    (tmp_path / "lowlevel-2").write_text("a file counts, too")
    (tmp_path / "lowlevel-4").mkdir()
    with run_folder.next_free("lowlevel", tmp_path) as one, run_folder.next_free("lowlevel", tmp_path) as two:
        assert (one, two) == (tmp_path / "lowlevel-3", tmp_path / "lowlevel-5")
        (one / "used").write_text("")
    assert one.exists() and not two.exists()
    with pytest.raises(NotADirectoryError), run_folder.next_free("lowlevel", tmp_path / "lowlevel-2"):
        pass


def test_check_new(tmp_path, run):
    run_folder.check_new(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    run_folder.check_new(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, but needs a new folder: choose another name"):
        run_folder.check_new(tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_text("the user's")
    with pytest.raises(UserError, match="full is not empty: choose another name"):
        run_folder.check_new(tmp_path / "full")
    with pytest.raises(UserError, match="lung is not empty: add --resume to go on with it, or choose another name"):
        run_folder.check_new(run)


def test_links_in_a_run_are_refused_before_it_is_written_to(run, tmp_path):
    run_folder.check_resumable(run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "more").symlink_to(tmp_path)
    with pytest.raises(UserError, match="checkpoints/more is a link, but all that --resume writes to must lie in"):
        run_folder.check_resumable(run)


def test_a_run_in_use_is_refused(run):
    refusal = pytest.raises(UserError, match="lung is in use by another training: wait")
    with run_folder.in_use(run), refusal, run_folder.in_use(run):
        pass
    with run_folder.in_use(run):
        pass


def test_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("the user's")
    refusal = pytest.raises(UserError, match=r"--run .*file/run cannot be made \(.+\): choose another place")
    with refusal, run_folder.taken(tmp_path / "file" / "run"):
        pass
    assert (tmp_path / "file").read_text() == "the user's"


def test_read_of_no_run(tmp_path):
    with pytest.raises(UserError, match="none does not exist"):
        run_folder.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"is no run folder \(it has no config.json\)"):
        run_folder.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file does not exist: name a run folder"):
        run_folder.read(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "", "not readable as JSON"),
        ("config.json", '{"model": {"depth": 5', "not readable as JSON"),
        ("config.json", b"\xff\xfe", "not readable as JSON"),
        ("config.json", "[]", "holds no JSON object"),
        ("config.json", "null", "holds no JSON object"),
        ("config.json", "{}", "has model.in_channels 0"),
        ("config.json", '{"model": {"depth": 99}}', "model.depth in"),
        ("config.json", '{"modell": {}}', "unknown section 'modell'"),
        ("config.json", '{"model": {"in_channels": 1}, "run": 5}', "has 5 in section 'run'"),
        ("split.json", None, "does not exist"),
        ("split.json", "", "not readable as JSON"),
        ("split.json", "[]", "does not list training and validation images"),
        ("split.json", '{"training": []}', "does not list training and validation images"),
        ("split.json", '{"training": ["a"], "validation": 5}', "does not list training and validation images"),
        ("split.json", '{"training": ["a"], "validation": "b"}', "does not list training and validation images"),
        ("split.json", '{"training": ["a"], "validation": [5]}', "does not list training and validation images"),
    ],
)
def test_damage_is_a_sentence_that_names_the_file(run, name, content, message):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        run_folder.read(run)
    assert message in str(error.value) and str(run / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_a_run_must_fit_each_other(run):
    content = json.loads((run / "config.json").read_text())
    content["model"]["kernel_size"] = 4
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="must be odd"):
        run_folder.read(run)


TAKERS = """
import contextlib, sys, time
from pathlib import Path
from unet_lowlevel import run_folder
from unet_lowlevel.errors import UserError
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
with contextlib.ExitStack() as stack:
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    for number in range(rounds):
        while time.time() < start + 0.02 * number:
            pass
        try:
            stack.enter_context(run_folder.taken(folder / str(number)))
            print(number, flush=True)
        except UserError as error:
            assert f"--run {folder / str(number)} is in use by another training: wait" in str(error), error
        print(stack.enter_context(run_folder.next_free("low", folder / "free")).name, flush=True)
    print("done", flush=True)
    sys.stdin.readline()
"""


def test_of_processes_that_begin_at_once_one_gets_the_folder(tmp_path):
    """Also when it is empty already; without a name each gets its own. Nothing is left in them."""
    (tmp_path / "0").mkdir()
    command, pipe = [sys.executable, "-c", TAKERS, str(tmp_path), "15"], subprocess.PIPE
    takers = [subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) for _ in range(8)]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    start = time.time() + 0.05
    for taker in takers:
        taker.stdin.write(f"{start}\n")
        taker.stdin.flush()
    got = [list(iter(taker.stdout.readline, "done\n")) for taker in takers]
    for taker in takers:
        taker.communicate("\n")
        assert taker.returncode == 0
    got = sorted(name.strip() for names in got for name in names)
    assert got == sorted([*map(str, range(15)), *(f"low-{i + 1}" for i in range(8 * 15))])
    assert (tmp_path / "0").exists() and not any(path.is_file() for path in tmp_path.rglob("*"))


def test_of_threads_that_begin_at_once_one_gets_the_folder(tmp_path):
    folder, together, ended = tmp_path / "runs" / "mine", threading.Barrier(8), threading.Barrier(8)

    def take(_):
        together.wait()
        try:
            with run_folder.taken(folder):
                ended.wait()
                return "taken"
        except UserError as error:
            ended.wait()
            return str(error)

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(take, range(8)))
        assert said.count("taken") == 1 and sum("is in use by another training" in text for text in said) == 7
        assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_a_killed_training_has_taken_is_free_again(run, tmp_path):
    (tmp_path / "new").mkdir()
    for folder in (run, tmp_path / "new"):
        (folder / run_folder.LOCK).write_text("")
    with run_folder.in_use(run), run_folder.taken(tmp_path / "new"):
        pass
    assert [list(folder.glob(".*")) for folder in (run, tmp_path / "new")] == [[], []]


def test_a_folder_that_was_used_remains(tmp_path):
    with run_folder.taken(tmp_path / "run"):
        run_folder.create(tmp_path / "run", CONFIG, ["a"], ["b"], "")
    with pytest.raises(UserError, match="is not empty: add --resume"), run_folder.taken(tmp_path / "run"):
        pass
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "split.json"]


def test_no_lock_is_made_elsewhere(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / run_folder.LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not empty"), run_folder.taken(tmp_path / "run"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Such as some network drives: a training goes on there, unlocked."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_folder.taken(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]
