"""A training that goes on from the weights of another run (--init)."""

from pathlib import Path

import tensorflow as tf

from unet_lowlevel import run_folder
from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.terminal import note
from unet_lowlevel.training.checkpoints import listed_in, restore_best

# Why weights may not fit: the settings that decide which there are, and of which shapes.
SHAPING = {
    "in_channels": "channels",
    "classes": "classes",
    "depth": "levels",
    "base_channels": "channels at the first level",
    "kernel_size": "pixels a side of kernels",
    "convolutions_per_block": "convolutions a block",
}
# What a training takes over from the other run instead of planning it, so that the weights fit.
NETWORK = (
    *("depth", "base_channels", "kernel_size", "convolutions_per_block", "padding", "activation"),
    *("batch_normalization", "resolution", "image_size"),
)


def read_weights(init: Path) -> tuple[ModelConfig, dict[str, tf.Variable]]:
    """The network of the run folder `init`, of any implementation, and its best weights and statistics by name.

    Raises:
        UserError: when `init` is no run folder, or its weights are missing or damaged.
    """
    config = run_folder.read(init, "--init")[0].model
    model = UNet(config)
    restore_best(model, init)
    return config, model.named_variables()


def begin_with(model: UNet, init: str, run: Path) -> None:
    """Gives `model` the best weights of the run `init`: all of the same name and shape; a note names the others.

    Does nothing without `init`, or if the training in the folder `run` has checkpoints, from which it goes on.

    Raises:
        UserError: see `read_weights`; or when no kernel fits.
    """
    if not init or listed_in(run / "checkpoints"):
        return
    theirs, weights = read_weights(Path(init))
    ours = model.named_variables()
    fitting = {name for name, v in ours.items() if name in weights and weights[name].shape == v.shape}
    counts = [(text, getattr(model.config, name), getattr(theirs, name)) for name, text in SHAPING.items()]
    reasons = [f"{here} {text} here, {there} in {init}" for text, here, there in counts if here != there]
    if model.config.batch_normalization != theirs.batch_normalization:
        reasons.append(f"{'no ' * theirs.batch_normalization}batch normalization here")
    if not any(ours[name].shape.rank == 4 for name in fitting):
        raise UserError(f"--init {init} has no kernel that fits ({', '.join(reasons)}): name a run of such a network.")
    for name in fitting:
        ours[name].assign(weights[name])
    anew = [name for name in ours if name not in fitting]
    if anew:
        note(f"{listed(anew)} start{'s' * (len(anew) == 1)} anew: {', '.join(reasons)}")
