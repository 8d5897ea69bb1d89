"""Checkpoints: the newest are kept; what does not fit, or is damaged, is refused in a sentence."""

import contextlib
import dataclasses
import shutil
import subprocess

import pytest
import tensorflow as tf
from conftest import on_disk, sentence

from unet_lowlevel import run_folder
from unet_lowlevel.core import fast
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.checkpoints import Checkpoints, Progress, Series, restore_best
from unet_lowlevel.training.journal import Journal
from unet_lowlevel.training.steps import train_step


def test_a_damaged_checkpoint_is_refused_in_a_sentence(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
    for data in (tmp_path / "checkpoints").glob("ckpt-*.data*"):
        data.write_bytes(data.read_bytes()[:100])
    config = run_folder.read(tiny_run)[0]
    model = fast.network(config.model, seed=0)
    memory = train_step(model, config, (32, 32), 6)
    with pytest.raises(UserError) as caught:
        Checkpoints(tmp_path, 2, model=model, memory=memory, progress=Progress()).newest.restore()
    sentence(caught, "ckpt-6")


def test_a_checkpoint_of_another_network_is_refused(tiny_run, tmp_path):
    config, _, _ = run_folder.read(tiny_run)
    for changes in ({"depth": 3}, {"base_channels": 4}, {"batch_normalization": False}):
        with pytest.raises(UserError, match="does not fit this network"):
            restore_best(UNet(dataclasses.replace(config.model, **changes)), tiny_run)
    (tmp_path / "empty" / "best").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no checkpoint.*go on with train --run \S+empty --resume\."):
        restore_best(UNet(config.model), tmp_path / "empty")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 300 KiB, where the system lets us mount one."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_in_plain_words(small_disk, tiny_run):
    config = run_folder.read(tiny_run)[0]
    model = fast.network(config.model, seed=0)
    journal = Journal(config, small_disk, model, train_step(model, config, (32, 32), 6), resume=False)
    journal.save_within_epoch()
    with contextlib.suppress(OSError), (small_disk / "more").open("wb", 0) as file:
        while True:
            file.write(bytes(1000))
    before = on_disk(small_disk / "checkpoints")
    journal.totals.steps += 1
    with pytest.raises(UserError) as caught:
        journal.save_within_epoch()
    sentence(caught, f"{small_disk} cannot be written (No space left on device): make room", "are as they were")
    assert on_disk(small_disk / "checkpoints") == before
    (small_disk / "more").unlink()
    journal.save_within_epoch()
    assert journal.checkpoints.newest.names == ["ckpt-0", "ckpt-1"]
    journal.close()


def test_the_newest_are_kept_and_listed(tmp_path):
    value = tf.Variable(0)
    series = Series(tf.train.Checkpoint(value=value), tmp_path / "checkpoints", 2)
    for number in (3, 6, 4, 4):
        value.assign(number)
        series.save(number)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"checkpoint"} | {f"ckpt-{n}.{part}" for n in (6, 4) for part in ("index", "data-00000-of-00001")}
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")) == str(tmp_path / "checkpoints" / "ckpt-4")
    value.assign(0)
    again = Series(tf.train.Checkpoint(value=value), tmp_path / "checkpoints", 2)
    again.restore()
    assert value == 4 and again.names == ["ckpt-6", "ckpt-4"]


def test_a_run_of_tensorflows_own_manager_goes_on(tmp_path):
    """As versions before 1.0 have used it."""
    value = tf.Variable(0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(value=value), str(tmp_path / "checkpoints"), 2)
    for number in (3, 6, 9):
        value.assign(number)
        manager.save(number)
    series = Series(tf.train.Checkpoint(value=value), tmp_path / "checkpoints", 2)
    value.assign(0)
    series.restore()
    assert value == 9 and series.names == ["ckpt-6", "ckpt-9"]
    series.save(12)
    value.assign(0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(value=value), str(tmp_path / "checkpoints"), 2)
    assert manager.restore_or_initialize().endswith("ckpt-12") and value == 9
