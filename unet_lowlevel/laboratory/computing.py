"""Experiments on computing: half as many bits, and the book beside its fast forms."""

import statistics
import time
from collections.abc import Iterator

from unet_lowlevel.laboratory.experiments import Scale
from unet_lowlevel.laboratory.trials import config_of, new_trainer, scores, training_slices


def precision(scale: Scale) -> Iterator[dict]:
    """Hypothesis: in bfloat16 a step is faster, where the processor has instructions for it, and learns the same.

    bfloat16 has the range of float32, and 8 instead of 24 bits of precision. Weights, statistics and losses stay
    float32.
    """
    return in_turn(scale, {"float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16"}})


def plain(scale: Scale) -> Iterator[dict]:
    """Hypothesis: the fast forms compute what the book defines, but for rounding, and a step takes less time."""
    return in_turn(scale, {"the book (--plain)": {"plain": True}, "fast forms": {"plain": False}})


def in_turn(scale: Scale, variants: dict[str, dict]) -> Iterator[dict]:
    """Trains the variants from the same weights on the same batches, a step of each in turn.

    So what else the machine does slows down all alike. Times are shares of that of the first variant. The networks are
    larger than in the other experiments: in small ones much of the time is not that of computing.
    """
    training, held_out = training_slices(scale)
    size = {"depth": scale.depth + 1, "base_channels": 2 * scale.base_channels}
    losses, seconds, dice = {}, {}, {}
    for seed in range(scale.seeds):
        trainers = {
            name: new_trainer(config_of(scale, seed=seed, **size, **settings), training, held_out)
            for name, settings in variants.items()
        }
        of_steps = {name: [] for name in variants}
        for epoch in range(1, scale.epochs + 1):
            of_epoch = {name: [] for name in variants}
            for images, labels, _ in next(iter(trainers.values())).batches.of_epoch(epoch):
                for name, trainer in trainers.items():
                    start = time.perf_counter()
                    of_epoch[name].append(float(trainer.train_step(images, labels)["loss"]))
                    of_steps[name].append(time.perf_counter() - start)
            for name in variants:
                losses.setdefault((name, seed), []).append(statistics.mean(of_epoch[name]))
        for name, trainer in trainers.items():
            seconds[name, seed] = statistics.median(of_steps[name])
            dice[name, seed] = scores(trainer, held_out)["dice"]
    first = next(iter(variants))
    time_of = {key: seconds[key] / seconds[first, key[1]] for key in seconds}
    for name, seed in seconds:
        share = statistics.median(time_of[name, other] for other in range(scale.seeds))
        steps = [scale.steps_per_epoch * epoch for epoch in range(1, scale.epochs + 1)]
        figures = {"time": time_of[name, seed], "loss": losses[name, seed][-1], "dice": dice[name, seed]}
        curve = {"x": [round(share * step, 1) for step in steps], "y": losses[name, seed]}
        yield {"variant": name, "seed": seed} | figures | curve
