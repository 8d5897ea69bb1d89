"""What the experiments share: how large they are, their images, a training, and what its network gets wrong."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from unet_lowlevel.config import Config
from unet_lowlevel.core import fast
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.phantoms.phantom import draw_phantom
from unet_lowlevel.data.pipeline import resolve_crop_size
from unet_lowlevel.data.samples import Sample, with_normalization
from unet_lowlevel.laboratory.experiments import Scale
from unet_lowlevel.scoring.counts import class_scores, predicted_labels
from unet_lowlevel.settings import apply
from unet_lowlevel.terminal import complain
from unet_lowlevel.training.interruption import Stopped
from unet_lowlevel.training.trainer import Trainer

SLICES = 4  # of each patient
HELD_OUT = 10_000  # number of the first patient that no network is trained on


def config_of(scale: Scale, **settings) -> Config:
    """The settings of a trial: those of the scale, with `settings` in place of them, and no plan."""
    common = {"depth": scale.depth, "base_channels": scale.base_channels, "epochs": scale.epochs}
    common |= {"steps_per_epoch": scale.steps_per_epoch, "in_channels": 1, "pictures": 0, "keep": "last"}
    return Config.of(plan="off", **(common | settings))


def as_drawn(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return image, mask


def slices(patients: Iterable[int], side: int, change: Callable[..., tuple] = as_drawn) -> list[Sample]:
    """`SLICES` thorax slices of each patient with the label 1 in the lungs.

    Args:
        patients: their numbers, which determine everything.
        side: in pixels.
        change: makes image and label uint8 [H, W] of image, mask (0 and 1) and a random generator.
    """
    found = []
    for patient in patients:
        for i in range(SLICES):
            image, mask = draw_phantom(patient, i, SLICES, (side, side), seed=0)
            image, label = change(image, mask // 255, np.random.default_rng([patient, i]))
            sample = Sample(f"patient-{patient}_slice-{i}", image[..., np.newaxis], label)
            found.append(with_normalization(sample, Config().data))
    return found


def training_slices(scale: Scale, change: Callable[..., tuple] = as_drawn) -> tuple[list[Sample], list[Sample]]:
    """Slices to train on, and those of other patients to score on."""
    groups = range(scale.patients), range(HELD_OUT, HELD_OUT + scale.held_out)
    return slices(groups[0], scale.side, change), slices(groups[1], scale.side, change)


def new_trainer(config: Config, training: list[Sample], held_out: list[Sample], network=fast.network) -> Trainer:
    """A trainer with first weights and everything to train them; `network` makes a network of settings and seed."""
    crop_size = resolve_crop_size(config, [sample.size for sample in training])
    return Trainer(apply(config, {"crop_size": crop_size}), Path(), training, held_out, network)


def train(
    config: Config, training: list[Sample], held_out: list[Sample], network: Callable[..., UNet] = fast.network
) -> Trainer:
    """Trains to the last epoch.

    Returns:
        the trainer, whose `model` has the last weights, and whose `journal.history` has a row for each epoch. The
        folder that it has written is gone.

    Raises:
        Stopped: after Ctrl-C or SIGTERM, which ends the experiment.
    """
    trainer = new_trainer(config, training, held_out, network)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        trainer.run = Path(folder)
        try:
            trainer.fit()
            if trainer.received:  # in the last epoch, after which a training has nothing to stop
                raise Stopped(trainer.received, trainer.total_steps)
        except Stopped:
            complain("interrupted")
            raise
    return trainer


def course(trainer: Trainer, name: str = "validation_dice") -> dict[str, list[float]]:
    """A column of the history over the steps, to draw: {"x": steps, "y": values}."""
    history = trainer.journal.history
    return {"x": [row["step"] for row in history], "y": [row[name] for row in history]}


def prediction(trainer: Trainer, sample: Sample) -> np.ndarray:
    """The class of each pixel of the whole slice, int32 [H, W]."""
    return predicted_labels(trainer.evaluate(sample)["probabilities"])[0].numpy()


def scores(trainer: Trainer, samples: list[Sample]) -> dict[str, float]:
    """Dice, precision and recall of the foreground, from the counts of all slices together."""
    confusion = sum(trainer.evaluate(sample)["confusion"][0].numpy() for sample in samples)
    return {name: float(values[1]) for name, values in class_scores(confusion).items()}


def wrong_at(distances: list[np.ndarray], wrong: list[np.ndarray], furthest: int) -> dict[str, list[float]]:
    """How many of the pixels at each distance are wrong, to draw.

    Args:
        distances: whole pixels [H, W] of each slice, from 1 on.
        wrong: bool [H, W] of each slice.
        furthest: distance that is looked at.

    Returns:
        {"x": the distances 1 ... furthest that occur, "y": wrong pixels in percent}
    """
    everything, missed = (np.zeros(furthest + 1) for _ in range(2))
    for distance, errors in zip(distances, wrong, strict=True):
        distance = np.minimum(distance, furthest + 1)
        everything += np.bincount(distance.ravel(), minlength=furthest + 2)[:-1]
        missed += np.bincount(distance[errors], minlength=furthest + 2)[:-1]
    there = [int(x) for x in np.flatnonzero(everything)]
    return {"x": there, "y": [float(100 * missed[x] / everything[x]) for x in there]}


def shares(distances: list[np.ndarray], wrong: list[np.ndarray], near: int) -> tuple[float, float]:
    """Wrong pixels in percent: of those up to `near` pixels away, and of those further away; see `wrong_at`."""
    at, errors = np.concatenate(distances, None), np.concatenate(wrong, None)
    return float(100 * errors[at <= near].mean()), float(100 * errors[at > near].mean())
