"""Trainings that go on from the weights of another run (--init)."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, refused, sentence
from tiny_training import samples, tiny_config
from untrained import untrained_run

from unet_lowlevel import run_folder
from unet_lowlevel.cli import cross_validate, train
from unet_lowlevel.config import Config
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.reference.trainers import make_trainer
from unet_lowlevel.training.initial_weights import begin_with, read_weights
from unet_lowlevel.training.train import with_init
from unet_lowlevel.training.trainer import Trainer

HERE = {"seed": 5, "augment": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("runs") / "a", seed=1)


def values(model):
    return {name: variable.numpy() for name, variable in model.named_variables().items()}


def begun(run, tmp_path, **flags):
    """The values of a network before --init, after it, and those of the run."""
    model = UNet(tiny_config(**HERE, **flags).model, seed=5)
    before = values(model)
    begin_with(model, str(run), tmp_path)
    return before, values(model), {name: v.numpy() for name, v in read_weights(run)[1].items()}


@pytest.mark.parametrize("implementation", ["lowlevel", "highlevel", "keras"])
def test_a_training_begins_with_all_weights_and_statistics(implementation, run, tmp_path, capsys):
    config = tiny_config(**HERE, init=str(run), **({"ema_decay": 0.9} if implementation != "keras" else {}))
    trainer = make_trainer(implementation, config, tmp_path, samples(), samples())
    expected = read_weights(run)[1]
    found = (trainer.unet if implementation == "keras" else trainer.model).named_variables()
    assert found.keys() == expected.keys() and any("moving_variance" in name for name in found)
    for name, variable in found.items():
        np.testing.assert_array_equal(variable, expected[name], err_msg=name)
    assert capsys.readouterr().err == ""
    if implementation == "keras":
        assert int(trainer.model.optimizer.iterations) == 0
    else:
        assert not any(slot.numpy().any() for slot in trainer.train_step.optimizer.first)
        for average, variable in zip(trainer.train_step.average.averages, found.values(), strict=True):
            np.testing.assert_array_equal(average, variable)


@pytest.mark.parametrize(
    ("flags", "anew", "why"),
    [
        ({"classes": 3}, ["output/weight", "output/bias"], "3 classes here, 1 in RUN"),
        ({"in_channels": 3}, ["encoder/level_1/conv_1/weight"], "3 channels here, 1 in RUN"),
        (
            {"depth": 3, "classes": 2},
            ["bottleneck/", "level_2/", "output/"],
            "2 classes here, 1 in RUN, 3 levels here, 2",
        ),
        ({"batch_normalization": False}, ["/bias"], "no batch normalization here"),
    ],
)
def test_what_does_not_fit_starts_anew_and_is_named(flags, anew, why, run, tmp_path, capsys):
    before, after, theirs = begun(run, tmp_path, **flags)
    different = {name for name in after if name not in theirs or theirs[name].shape != after[name].shape}
    assert different and different < after.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name] if name in different else theirs[name], err_msg=name)
        assert name not in different or any(part in name for part in anew)
    told = capsys.readouterr().err
    assert told.startswith("note: ") and told.count("\n") == 1 and why.replace("RUN", str(run)) in told
    assert (" starts anew: " if len(different) == 1 else " start anew: ") in told


def test_a_network_of_which_nothing_fits_is_refused(run, tmp_path):
    with pytest.raises(UserError) as caught:
        begun(run, tmp_path, base_channels=3)
    sentence(caught, f"--init {run}", "no kernel that fits", "3 channels at the first level here, 2 in")


def test_a_training_that_was_stopped_goes_on_with_its_own_weights(run, tmp_path):
    """Also if the other run is gone by then; before its first checkpoint it begins with the weights of that again."""
    other = shutil.copytree(run, tmp_path / "a")
    config = tiny_config(**HERE, init=str(other), epochs=1)
    (tmp_path / "b").mkdir()
    begin = Trainer(config, tmp_path / "b", samples(), samples())
    again = Trainer(config, tmp_path / "b", samples(), samples())
    for name, value in values(again.model).items():
        np.testing.assert_array_equal(value, values(begin.model)[name])
    begin.fit()
    shutil.rmtree(other)
    resumed = Trainer(config, tmp_path / "b", samples(), samples())
    resumed.fit(resume=True)
    for name, value in values(resumed.model).items():
        np.testing.assert_array_equal(value, values(begin.model)[name])


def test_from_the_command_line(place, phantoms, capsys):
    flags = ["--data", "data", *TINY, "--init", "run", "--classes", "2", "--epochs", "1"]
    assert train.main(["--run", "new", *flags]) in (0, 1)  # so little training may find nothing
    assert "note: output/bias, output/weight start anew: 2 classes here, 1 in run\n" in capsys.readouterr().err
    assert json.loads((place / "new" / "config.json").read_text())["training"]["init"] == "run"


@pytest.mark.parametrize("command", [train, cross_validate])
def test_a_run_that_cannot_be_used_is_named_before_data_is_read(command, place, capfd):
    flags = ["--run", "new", "--data", "nowhere", "--init"]
    refused(command, [*flags, "nothing"], ["--init nothing does not exist"], place, capfd)
    refused(command, [*flags, "data"], ["--init data is no run folder"], place, capfd)
    shards = next((place / "run" / "best").glob("*.data*"))
    shards.write_bytes(shards.read_bytes()[:50])
    refused(command, [*flags, "run"], ["best", "damaged"], place, capfd)
    shutil.rmtree(place / "run" / "best")
    refused(command, [*flags, "run"], ["holds no checkpoint"], place, capfd)


def test_init_does_not_go_with_resume(place, capfd):
    refused(train, ["--run", "run", "--resume", "--init", "run"], ["--init does not go with --resume"], place, capfd)


def test_a_plan_takes_the_network_of_the_other_run(run, tmp_path):
    """But for what is given; without a plan all settings are those that are asked for."""
    config = Config.of(init=str(run), base_channels=3)
    taken, other = with_init(config), run_folder.read(run)[0]
    assert taken.model.depth == other.model.depth != config.model.depth and taken.model.base_channels == 3
    assert "depth" in taken.given and with_init(Config()) == Config()
    assert with_init(Config.of(init=str(run), plan="off")).model == Config().model
    # Of the two settings of the size of images, one that is given keeps the other of that run away.
    taken = with_init(Config.of(init=str(untrained_run(tmp_path / "sized", image_size=48)), resolution=0.5))
    assert (taken.data.resolution, taken.data.image_size) == (0.5, 0)
