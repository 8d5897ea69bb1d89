"""Checkpoints that do not fit, or are damaged: refused in a sentence."""

import dataclasses
import shutil

import pytest
from conftest import sentence

from unet_lowlevel import run_folder
from unet_lowlevel.core import fast
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.checkpoints import Checkpoints, Progress, restore_best
from unet_lowlevel.training.steps import train_step


def test_a_damaged_checkpoint_is_refused_in_a_sentence(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
    data = next((tmp_path / "checkpoints").glob("ckpt-6.data*"))
    data.write_bytes(data.read_bytes()[:100])
    config = run_folder.read(tiny_run)[0]
    model = fast.network(config.model, seed=0)
    memory = train_step(model, config, (32, 32), 6)
    with pytest.raises(UserError) as caught:
        Checkpoints(tmp_path, 2, model=model, memory=memory, progress=Progress()).restore()
    sentence(caught, "ckpt-6")


def test_a_checkpoint_of_another_network_is_refused(tiny_run, tmp_path):
    config, _, _ = run_folder.read(tiny_run)
    for changes in ({"depth": 3}, {"base_channels": 4}, {"batch_normalization": False}):
        with pytest.raises(UserError, match="does not fit this network"):
            restore_best(UNet(dataclasses.replace(config.model, **changes)), tiny_run)
    (tmp_path / "empty" / "best").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_best(UNet(config.model), tmp_path / "empty")
