"""Experiments on the network: skips, batch normalization, activation, depth, padding."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from scipy import ndimage

from unet_lowlevel.config import IGNORED
from unet_lowlevel.core.ops.cropping import crop_and_concat
from unet_lowlevel.core.ops.pooling import max_pool2d
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.laboratory.experiments import Scale
from unet_lowlevel.laboratory.trials import (
    HELD_OUT,
    config_of,
    course,
    prediction,
    scores,
    shares,
    slices,
    train,
    training_slices,
    wrong_at,
)
from unet_lowlevel.summary import summarize

NEAR_EDGE, NEAR_BORDER = 8, 16  # pixels: the distances at which the pictures show errors


class UNetWithoutSkips(UNet):
    """A U-Net whose decoder gets zeros in place of what the encoder has kept: as many weights, and nothing copied."""

    def forward(self, features: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """As `UNet.forward`, without its skips."""
        for block in self.encoder:
            features = max_pool2d(block(features, training=training, seed=seed))
        features = self.bottleneck(features, training=training, seed=seed)
        for up, block in zip(self.decoder_ups, self.decoder, strict=True):
            features = up(features)
            features = block(crop_and_concat(tf.zeros_like(features), features), training=training, seed=seed)
        return self.output(features)


def skips(scale: Scale) -> Iterator[dict]:
    """Hypothesis: without skips the network still finds the lungs, but no longer knows where exactly they end.

    Pooling throws away where in a square of pixels the largest value was. The skips bring that back.
    """
    training, held_out = training_slices(scale)
    for seed in range(scale.seeds):
        for variant, network in {"with skips": UNet, "without skips": UNetWithoutSkips}.items():
            trainer = train(config_of(scale, seed=seed), training, held_out, network)
            shown = [sample for sample in held_out if sample.label.any()]
            wrong = [prediction(trainer, sample) != sample.label for sample in shown]
            distances = [from_edge(sample.label) for sample in shown]
            edge, inside = shares(distances, wrong, 2)
            figures = {"dice": scores(trainer, held_out)["dice"], "edge": edge, "inside": inside}
            yield {"variant": variant, "seed": seed} | figures | wrong_at(distances, wrong, NEAR_EDGE)


def from_edge(label: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest pixel of the other class, rounded down: 1 on both sides of the edge."""
    inside, outside = (ndimage.distance_transform_edt(mask) for mask in (label, 1 - label))
    return np.where(label, inside, outside).astype(int)


def batch_normalization(scale: Scale) -> Iterator[dict]:
    """Hypothesis: with batch normalization the network learns in fewer steps, and bears a higher learning rate.

    It gives every layer inputs of the same mean and spread, however the layers below have moved.
    """
    training, held_out = training_slices(scale)
    for seed in range(scale.seeds):
        for rate in (0.001, 0.02):
            for normalized in (True, False):
                settings = {"batch_normalization": normalized, "learning_rate": rate, "seed": seed}
                trainer = train(config_of(scale, **settings), training, held_out)
                variant = f"{'with' if normalized else 'without'}, learning rate {rate}"
                curve = course(trainer)
                figures = {"early": curve["y"][(scale.epochs - 1) // 3], "dice": curve["y"][-1]}
                yield {"variant": variant, "seed": seed} | figures | curve


def activation(scale: Scale) -> Iterator[dict]:
    """Hypothesis: ELU learns a little faster than ReLU where no batch normalization helps; else they are equal.

    Below 0 the gradient of ReLU is 0, and a value that is always there learns no more. ELU has a gradient everywhere.
    """
    training, held_out = training_slices(scale)
    for seed in range(scale.seeds):
        for normalized in (True, False):
            for name in ("elu", "relu"):
                settings = {"activation": name, "batch_normalization": normalized, "seed": seed}
                trainer = train(config_of(scale, **settings), training, held_out)
                words = "with" if normalized else "without"
                variant = f"{name.upper().replace('RE', 'Re')} {words} normalization"
                curve = course(trainer)
                figures = {"early": curve["y"][(scale.epochs - 1) // 3], "dice": curve["y"][-1]}
                yield {"variant": variant, "seed": seed} | figures | curve


def depth(scale: Scale) -> Iterator[dict]:
    """Hypothesis: Dice rises with the receptive field until that is about as large as a lung, and then no more.

    A pixel in the lung and one in the room outside look alike: only what lies around tells them apart. Each level
    doubles how far an output pixel sees. (It also doubles the channels, so that deeper networks have more weights.)
    """
    training, held_out = training_slices(scale)
    for seed in range(scale.seeds):
        for levels in range(1, scale.depth + 2):
            config = config_of(scale, depth=levels, seed=seed)
            dice = scores(train(config, training, held_out), held_out)["dice"]
            layers = summarize(config.model, scale.side, scale.side)
            field, parameters = layers[-1].receptive_field, sum(layer.parameters for layer in layers)
            trial = {"variant": f"depth {levels}", "seed": seed, "line": "held-out slices"}
            yield trial | {"field": field, "parameters": parameters, "dice": dice, "x": [field], "y": [dice]}


def padding(scale: Scale) -> Iterator[dict]:
    """Hypothesis: near the border of an image, a valid network with a mirrored surrounding errs less than a same one.

    The slices are cut through the lungs, so that there is something at the border. A network with same padding sees
    zeros beyond it, one with valid padding the mirrored image. To know what is to be gained at most, a third network
    sees what really lies beyond, in training and after. That is shown to the first network, too.
    """
    groups = range(scale.patients), range(HELD_OUT, HELD_OUT + scale.held_out)
    training, held_out = (slices(group, 2 * scale.side, middle) for group in groups)
    # The same gray values in the middle, normalized alike, and outside of it no labels to learn.
    training_beyond, held_out_beyond = (
        [
            dataclasses.replace(large, normalization=small.normalization)
            for large, small in zip(slices(group, 2 * scale.side, middle_labelled), parts, strict=True)
        ]
        for group, parts in zip(groups, (training, held_out), strict=True)
    )
    for seed in range(scale.seeds):
        settings = {"depth": max(scale.depth - 1, 2), "seed": seed}
        same = train(config_of(scale, **settings), training, held_out)
        valid = train(config_of(scale, padding="valid", **settings), training, held_out)
        seeing = train(config_of(scale, ignore_value=[IGNORED], **settings), training_beyond, held_out_beyond)
        for variant, trainer, shown in (
            ("same, zeros beyond", same, held_out),
            ("valid, mirrored beyond", valid, held_out),
            ("real image beyond", seeing, held_out_beyond),
            ("real image beyond, zeros in training", same, held_out_beyond),
        ):
            yield {"variant": variant, "seed": seed} | errors_at_border(trainer, held_out, shown)


def middle(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator | None = None):
    """The middle half of both sides."""
    rows, columns = (slice(side // 4, side // 4 + side // 2) for side in image.shape)
    return image[rows, columns], mask[rows, columns]


def middle_labelled(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator | None = None):
    """The whole slice, with labels in its middle only."""
    label = np.full_like(mask, IGNORED)
    middle(label, label)[1][:] = middle(image, mask)[1]
    return image, label


def errors_at_border(trainer, cut: list[Sample], shown: list[Sample]) -> dict:
    """Errors of the slices `cut`, predicted from themselves or as the middle of larger ones, by distance to the border.

    Returns:
        x, y to draw, and wrong pixels in percent: `border`, the outermost four pixels, and `inside`.
    """
    distances, wrong = [], []
    for sample, larger in zip(cut, shown, strict=True):
        predicted = prediction(trainer, larger)
        if predicted.shape != sample.label.shape:
            predicted, _ = middle(predicted, predicted)
        wrong.append(predicted != sample.label)
        height, width = sample.label.shape
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in (height, width))
        distances.append(np.minimum(rows[:, np.newaxis], columns))
    border, inside = shares(distances, wrong, 4)
    return {"border": border, "inside": inside} | wrong_at(distances, wrong, NEAR_BORDER)
