"""Training in workers that Ray starts."""

import sys

import pytest
from kill_and_resume import FLAGS, assert_same_training, finish
from kill_workers import kill_by_ray, of_worker, start_workers

from unet_lowlevel.cli import train
from unet_lowlevel.cli.train_on_ray import Lines, repeat


def test_without_ray_it_is_one_sentence(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    flags = ["--run", "run", "--data", str(phantoms), "--strategy", "multiworker", "--cluster", "ray"]
    assert train.main(flags) == 2
    assert capsys.readouterr().err == "error: --cluster ray needs Ray: pip install 'unet-lowlevel[cluster]'.\n"
    assert not list(tmp_path.iterdir())


def test_what_workers_say_is_said_here(capsys):
    class Queue(list):
        put, get = list.append, lambda self: self.pop(0)

    queue = Queue()
    print("loss 0.5", file=Lines(queue, is_error=False))
    print("error: ...", file=Lines(queue, is_error=True))
    queue.put(None)
    repeat(queue)
    assert capsys.readouterr() == ("loss 0.5\n", "error: ...\n")


@pytest.mark.slow
def test_ray_starts_all_again_when_a_worker_is_killed(phantoms, tmp_path):
    flags = ["--data", str(phantoms), "--plan", "off", "--no-check", "--epochs", "6", *FLAGS]
    for i, worker in enumerate(start_workers(tmp_path / "undisturbed", flags, tmp_path / "errors")):
        finish(worker, of_worker(tmp_path / "errors", i))
    output = kill_by_ray(tmp_path / "run", flags, kills=1)
    assert "has lost another" in output or output.count("training on") > 1, output
    assert_same_training(tmp_path / "undisturbed", tmp_path / "run")
