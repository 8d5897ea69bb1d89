"""What happens in each level of the network: the size of its gradients and updates, and its activations."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from unet_lowlevel.core.ops.activations import elu
from unet_lowlevel.core.optimizers import global_norm
from unet_lowlevel.core.unet import ConvBlock, UNet

# Activations are looked at in every fourth row and column: neighbours hardly differ.
EVERY = 4
# A unit whose activation has nowhere a greater derivative than this learns next to nothing.
DEAD = 0.05


def place_of(name: str) -> str:
    """The level that a variable or a block belongs to: 'encoder/level_1/conv_1/weight' -> 'encoder_1'."""
    return re.sub(r"^(\w+)/level_(\d+)(/|$)", r"\1_\2/", name).split("/")[0]


def tag_of(name: str, kind: str) -> str:
    """A variable's tag in TensorBoard, which sorts them: by level, and a filter before what normalizes its output.

    'encoder/level_1/batch_normalization_1/beta', 'weights' -> 'encoder_1/weights/conv_1/normalization/beta'
    """
    inner = re.sub(r"^(\w+/level_\d+|\w+)/", "", name)
    inner = re.sub(r"batch_normalization_(\d+)", r"conv_\1/normalization", inner)
    inner = re.sub(r"(^|/)weight$", r"\1filter", inner)
    return f"{place_of(name)}/{kind}/{inner}"


def norms(names: Sequence[str], tensors: Sequence[tf.Tensor]) -> dict[str, float]:
    """{level: sqrt(sum of the squares of all values of its tensors)}."""
    levels: dict[str, list[tf.Tensor]] = {}
    for name, tensor in zip(names, tensors, strict=True):
        levels.setdefault(place_of(name), []).append(tensor)
    return {level: float(global_norm(found)) for level, found in levels.items()}


def update_ratios(names: Sequence[str], before: Sequence[tf.Tensor], after: Sequence[tf.Tensor]) -> dict[str, float]:
    """{level: |after - before| / |before|} of the weights of a level, before and after a step; 0 / 0 = 0."""
    updates = norms(names, [new - old for old, new in zip(before, after, strict=True)])
    lengths = norms(names, before)
    return {level: updates[level] / lengths[level] if lengths[level] else 0.0 for level in lengths}


@contextlib.contextmanager
def watched(model: UNet, look: Callable[[str, tf.Tensor], None]) -> Iterator[None]:
    """Within it, `look` is given each activation that the model computes: its level, and the features [N, H, W, C].

    Only of networks that are made of `ConvBlock`, and where they are called outside of graphs.
    """
    blocks = [module for module in model.submodules if isinstance(module, ConvBlock)]
    activations = [block.activation for block in blocks]

    def shown(level: str, activation: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        def computed(features: tf.Tensor) -> tf.Tensor:
            features = activation(features)
            look(level, features)
            return features

        return computed

    try:
        for block, activation in zip(blocks, activations, strict=True):
            block.activation = shown(place_of(block.name_scope.name), activation)
        yield
    finally:
        for block, activation in zip(blocks, activations, strict=True):
            block.activation = activation


def activation_statistics(model: UNet, images: tf.Tensor) -> dict[str, dict[str, float]]:
    """Of each level, over all of its activations for these images, as in prediction.

    activation_mean, activation_deviation: mean and standard deviation of the values.
    dead_units: the share of channels c where max over n, y, x of f'(z[n, y, x, c]) < DEAD, f the activation function.
    Of ELU f'(z) = f(z) + 1 where f(z) <= 0, else 1; of ReLU 0, else 1.

    Args:
        images: float32 [N, H, W, C], of a size that the network takes.
    """
    found: dict[str, list[np.ndarray]] = {}
    below = 1.0 if model.config.activation == elu.__name__ else 0.0

    def look(level: str, features: tf.Tensor) -> None:
        values = tf.cast(features[:, ::EVERY, ::EVERY], tf.float32).numpy().astype(np.float64)
        highest = values.max((0, 1, 2))
        dead = np.where(highest > 0, 1.0, below * (highest + 1.0)) < DEAD
        found.setdefault(level, []).append(np.array([values.mean(), np.square(values).mean(), dead.mean()]))

    with watched(model, look):
        model(images, training=False)
    results = {}
    for level, parts in found.items():
        mean, square, dead = np.mean(parts, 0).tolist()
        deviation = max(square - mean**2, 0.0) ** 0.5
        results[level] = {"activation_mean": mean, "activation_deviation": deviation, "dead_units": dead}
    return results


def level_curves(
    model: UNet,
    names: Sequence[str],
    before: Sequence[tf.Tensor],
    after: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
    images: tf.Tensor,
) -> dict[str, float]:
    """All curves of the levels by tag, such as "encoder_1/gradient_norm"; see `descriptions.OF_LEVELS`.

    Args:
        model: the network.
        names, before, after, gradients: of the trained weights, before and after a step.
        images: float32 [N, H, W, C], for `activation_statistics`.
    """
    curves = {f"{level}/gradient_norm": norm for level, norm in norms(names, gradients).items()}
    curves |= {f"{level}/update_to_weight": ratio for level, ratio in update_ratios(names, before, after).items()}
    for level, statistics in activation_statistics(model, images).items():
        curves |= {f"{level}/{name}": value for name, value in statistics.items()}
    return curves
