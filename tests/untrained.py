"""Run folders of networks that nobody has trained, for tests of what happens with them afterwards."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel import run_folder
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.checkpoints import Series, by_name
from unet_lowlevel.training.steps import whole_logits


def untrained_run(folder: Path, seed: int = 0, validation: tuple[str, ...] = ("b",), **flags) -> Path:
    """A run folder with weights, and statistics, of which every one counts, and logits of about -1 to 1."""
    config = resolve(flags={"in_channels": 1, "base_channels": 2, "depth": 2} | flags)
    model = UNet(config.model, seed=seed)
    rng = np.random.default_rng(seed)
    for variable in model.named_variables().values():
        variable.assign_add(0.1 * np.abs(rng.normal(size=variable.shape)).astype(np.float32))
    images = tf.constant(rng.normal(size=(1, 64, 64, config.model.in_channels)), tf.float32)
    logits = whole_logits(model, images).numpy()
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2))
    model.output.weight.assign(model.output.weight / deviation)
    model.output.bias.assign((model.output.bias - mean) / deviation)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.create(folder, config, ["a"], list(validation), "")
    Series(by_name(model), folder / "best", 1).save(1)
    return folder
