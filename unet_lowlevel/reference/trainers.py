"""Makes the trainer of an implementation: of the low-level network, of Keras layers, or by Keras' `fit`."""

from pathlib import Path

from unet_lowlevel.config import Config
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError


def make_trainer(implementation: str, config: Config, run: Path, training: list[Sample], validation: list[Sample]):
    """A `Trainer` or a `KerasTrainer`, for implementation lowlevel, highlevel or keras; see `Trainer`.

    Raises:
        UserError: for a setting that this implementation lacks.
    """
    for name in ("recompute", "plain"):
        if getattr(config.model, name) and implementation != "lowlevel":
            raise UserError(
                f"--{name} is given, but only train_lowlevel.py can do so: train with it, or leave the flag out."
            )
    # TensorFlow and Keras take a while to import, so they are imported only when used.
    from unet_lowlevel.training.trainer import Trainer

    if implementation == "keras":
        from unet_lowlevel.reference.keras_trainer import KerasTrainer

        return KerasTrainer(config, run, training, validation)
    if implementation == "highlevel":
        from unet_lowlevel.reference.layers_unet import LayersUNet

        return Trainer(config, run, training, validation, LayersUNet)
    return Trainer(config, run, training, validation)
