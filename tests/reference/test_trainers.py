"""Which trainer and which network an implementation has, and what only one of them can do."""

import pytest
from conftest import sentence
from tiny_training import samples, tiny_config

from unet_lowlevel.core.fast import FastUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.reference.keras_trainer import KerasTrainer
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.reference.trainers import make_trainer
from unet_lowlevel.training.trainer import Trainer


@pytest.mark.parametrize(
    ("implementation", "kind", "network", "plain"),
    [
        ("lowlevel", Trainer, FastUNet, False),
        ("lowlevel", Trainer, UNet, True),
        ("highlevel", Trainer, LayersUNet, False),
        ("keras", KerasTrainer, KerasUNet, False),
    ],
)
def test_each_implementation_has_its_own(implementation, kind, network, plain, tmp_path):
    trainer = make_trainer(implementation, tiny_config(plain=plain), tmp_path, samples(), samples())
    assert type(trainer) is kind
    assert type(trainer.unet if kind is KerasTrainer else trainer.model) is network


@pytest.mark.parametrize("implementation", ["highlevel", "keras"])
@pytest.mark.parametrize("name", ["recompute", "plain"])
def test_only_the_low_level_network_has_fast_forms(implementation, name, tmp_path):
    with pytest.raises(UserError) as caught:
        make_trainer(implementation, tiny_config(**{name: True}), tmp_path, samples(), samples())
    sentence(caught, f"--{name} is given", "train_lowlevel.py")
    make_trainer("lowlevel", tiny_config(**{name: True}), tmp_path, samples(), samples())


@pytest.mark.parametrize(
    ("flags", "flag"), [({"accumulate": 2}, "--accumulate"), ({"precision": "float16"}, "--precision float16")]
)
def test_keras_takes_no_batch_in_parts_and_no_float16(flags, flag, tmp_path):
    with pytest.raises(UserError) as caught:
        make_trainer("keras", tiny_config(**flags), tmp_path, samples(), samples())
    sentence(caught, f"{flag} is given", "train_lowlevel.py")
    make_trainer("highlevel", tiny_config(**flags), tmp_path, samples(), samples())
