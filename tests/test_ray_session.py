"""What a cluster gives its workers; Ray itself is in `inference/test_collection.py`."""

import sys

import pytest
from conftest import sentence

from unet_lowlevel import ray_session
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.errors import UserError
from unet_lowlevel.ray_session import Share, share


@pytest.mark.parametrize(
    ("processors", "workers", "cpus"),
    [
        *(([2], 1, 2), ([2], 2, 1), ([16], 3, 5), ([16, 16], 2, 16), ([16, 16], 3, 8), ([16, 4], 2, 8)),
        *(([16, 16, 4], 3, 8), ([16, 16, 16], 3, 16), ([1, 1], 2, 1)),
    ],
)
def test_a_worker_gets_as_many_processors_as_each_can_have(processors, workers, cpus):
    assert share(processors, 0, workers) == Share(workers, cpus, 0)
    assert sum(n // cpus for n in processors) >= workers > sum(n // (cpus + 1) for n in processors)


def test_by_default_a_machine_has_a_worker():
    assert share([8, 8, 8], 0) == Share(3, 8, 0)


def test_graphics_processors_are_for_all_workers_or_none():
    assert [share([8, 8], gpus, 2).gpus for gpus in (0, 1, 2, 4)] == [0, 0, 1, 1]


def test_more_workers_than_processors_are_refused():
    with pytest.raises(UserError) as caught:
        share([2, 2], 0, 5)
    sentence(caught, "--workers 5", "4 processors")


def test_without_ray_one_sentence_says_how_to_get_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_session.importlib.util, "find_spec", lambda name: None)
    flags = ["--run", "demo", "--images", str(tmp_path), "--output", str(tmp_path / "out"), "--cluster", "ray"]
    assert predict(flags) == 2
    assert capfd.readouterr() == ("", "error: --cluster ray needs Ray: pip install 'unet-lowlevel[cluster]'.\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workers", "2"], "--workers 2 is for a cluster: add --cluster ray"),
        (["--workers", "0", "--cluster", "ray"], "--workers is 0"),
        (["--shard", "3/3"], "--shard 3/3"),
        (["--output", "gs://bucket/masks"], "gs://bucket/masks"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, words, tmp_path, capfd):
    assert predict(["--run", "demo", "--images", str(tmp_path), "--output", str(tmp_path / "out"), *flags]) == 2
    assert words in capfd.readouterr().err


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch):
    """At once: Ray itself waits for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError) as caught, ray_session.ray_session(1):
        pass
    sentence(caught, "RAY_ADDRESS 127.0.0.1:1 is not to be reached", "RAY_AUTH_MODE=token", "unset RAY_ADDRESS")
