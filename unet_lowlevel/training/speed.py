"""How fast a training would be on this machine."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from unet_lowlevel.config import Config
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.pictures import evenly
from unet_lowlevel.planning.plan import Speed
from unet_lowlevel.settings import apply
from unet_lowlevel.training.trainer import Trainer

# The first runs include the set-up of kernels for each size.
WARM_UP, STEPS, IMAGES = 3, 12, 5


def measured(config: Config, training: list[Sample], validation: list[Sample]) -> Speed:
    """The speed of the training step, its batches included, and of the validation, by medians.

    The network that is measured is another than the one that will be trained.

    Args:
        config: complete but for the number of steps.
        training, validation: samples.
    """
    config = apply(config, {"epochs": 1, "steps_per_epoch": WARM_UP + STEPS, "init": ""})
    trainer = Trainer(config, Path(), training, validation)
    batches = trainer.batches.of_epoch(1)

    def step() -> None:
        *batch, _ = next(batches)
        float(trainer.train_step(*batch)["loss"])

    def evaluate(sample: Sample) -> None:
        float(trainer.evaluate(sample)["loss"])

    steps = [timed(step) for _ in range(WARM_UP + STEPS)][WARM_UP:]
    images = [validation[i] for i in evenly(len(validation), IMAGES)]
    for image in images:
        evaluate(image)
    seconds = [timed(lambda image=image: evaluate(image)) for image in images]
    return Speed(statistics.median(steps), statistics.mean(seconds) * len(validation))


def timed(work: Callable[[], None]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
