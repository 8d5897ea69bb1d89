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
    ours_alone = {"--recompute": config.model.recompute, "--plain": config.model.plain}
    if implementation == "keras":
        ours_alone["--accumulate"] = config.training.accumulate > 1
        ours_alone["--precision float16"] = config.model.precision == "float16"
    for flag, given in ours_alone.items():
        if given and implementation != "lowlevel":
            raise UserError(f"{flag} is given, but only train_lowlevel.py can do so: train with it, or leave it out.")
    # TensorFlow and Keras take a while to import, so they are imported only when used.
    from unet_lowlevel.training.trainer import Trainer

    if implementation == "keras":
        from unet_lowlevel.reference.keras_trainer import KerasTrainer

        return KerasTrainer(config, run, training, validation)
    if implementation == "highlevel":
        from unet_lowlevel.reference.layers_unet import LayersUNet

        return Trainer(config, run, training, validation, LayersUNet)
    return Trainer(config, run, training, validation)
