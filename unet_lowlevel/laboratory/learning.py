"""Experiments on learning: losses under imbalance, how much data, which learning rate."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from unet_lowlevel.laboratory.experiments import Scale
from unet_lowlevel.laboratory.trials import (
    HELD_OUT,
    config_of,
    course,
    new_trainer,
    scores,
    slices,
    train,
    training_slices,
)

LOSSES = {"dice": "Dice", "cross_entropy": "cross-entropy", "dice_cross_entropy": "their sum"}
LOWEST, HIGHEST = 1e-5, 10.0  # learning rates of the range test
CUT = 2.0  # losses above are drawn here


def with_nodule(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A slice with a bright disc of radius 2 to 3 in a lung; its label is that disc: at 96x96 a pixel in 500."""
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return image, np.zeros_like(mask)
    i, radius = rng.integers(rows.size), rng.uniform(2, 3)
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    disc = (y - rows[i]) ** 2 + (x - columns[i]) ** 2 <= radius**2
    return np.where(disc, np.minimum(image + 80.0, 255.0), image).astype(np.uint8), disc.astype(np.uint8)


def imbalance(scale: Scale) -> Iterator[dict]:
    """Hypothesis: where one pixel in hundreds is foreground, Dice loss finds more of it than cross-entropy.

    Cross-entropy is a mean over pixels, nearly all of which say "background". Dice compares areas: it does not see how
    much background there is.
    """
    training, held_out = training_slices(scale, with_nodule)
    for seed in range(scale.seeds):
        for loss, variant in LOSSES.items():
            trainer = train(config_of(scale, loss=loss, seed=seed), training, held_out)
            found = scores(trainer, held_out)
            figures = {name: found[name] for name in ("dice", "precision", "recall")}
            yield {"variant": variant, "seed": seed} | figures | course(trainer)


def data(scale: Scale) -> Iterator[dict]:
    """Hypothesis: twice as many patients raise Dice by less and less, and random changes are worth some patients.

    All networks take the same number of steps. Each seed has other patients.
    """
    held_out = slices(range(HELD_OUT, HELD_OUT + scale.held_out), scale.side)
    counts = [2**i for i in range(int(math.log2(scale.patients)) + 1)]
    for seed in range(scale.seeds):
        everyone = slices(range(seed * scale.patients, (seed + 1) * scale.patients), scale.side)
        for count in counts:
            for augment in (True, False):
                chosen = everyone[: count * len(everyone) // scale.patients]
                dice = scores(train(config_of(scale, augment=augment, seed=seed), chosen, held_out), held_out)["dice"]
                line = "with random changes" if augment else "without"
                patients = f"{count} patient{'s' * (count > 1)}"
                yield {
                    "variant": f"{patients}, {line}",
                    "seed": seed,
                    "dice": dice,
                    "line": line,
                    "x": [count],
                    "y": [dice],
                }


def learning_rate(scale: Scale) -> Iterator[dict]:
    """Hypothesis: one short training whose learning rate grows shows which learning rates train well.

    As long as the rate is too low, the loss hardly falls; where it falls fast, the rate is good; where it rises, the
    rate is too high. To see whether that is true, networks are then trained at some rates.

    Reference: Smith 2017, section 3.3 ("LR range test").
    """
    training, held_out = training_slices(scale)
    for optimizer, words in {"adam": "Adam", "sgd": "SGD with momentum"}.items():
        for seed in range(scale.seeds):
            config = config_of(scale, optimizer=optimizer, seed=seed)
            curve = range_test(config, training, held_out)
            yield {"variant": f"{words}, range test", "seed": seed, "line": words} | curve
            for rate in (1e-4, 1e-3, 1e-2, 1e-1):
                trained = train(
                    config_of(scale, optimizer=optimizer, learning_rate=rate, seed=seed), training, held_out
                )
                nearest = int(np.argmin(np.abs(np.log(np.array(curve["x"]) / rate))))
                figures = {"tested": curve["y"][nearest], "dice": scores(trained, held_out)["dice"]}
                yield {"variant": f"{words}, {rate:g}", "seed": seed} | figures


def range_test(config, training, held_out) -> dict[str, list[float]]:
    """The loss, as a running mean, over a learning rate that grows from `LOWEST` to `HIGHEST`, to draw.

    `exponential` is the schedule learning_rate * final_fraction^x: here with a fraction above 1.
    """
    grows = {"schedule": "exponential", "learning_rate": LOWEST, "final_fraction": HIGHEST / LOWEST}
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, **grows))
    trainer = new_trainer(config, training, held_out)
    rates, losses, mean = [], [], 0.0
    for epoch in range(1, config.training.epochs + 1):
        for images, labels, _ in trainer.batches.of_epoch(epoch):
            result = trainer.train_step(images, labels)
            loss = float(result["loss"])
            mean = 0.9 * mean + 0.1 * (min(loss, CUT) if math.isfinite(loss) else CUT)
            rates.append(float(result["learning_rate"]))
            losses.append(mean / (1 - 0.9 ** (len(losses) + 1)))  # not drawn to 0, where it has begun
    return {"x": rates, "y": losses}
