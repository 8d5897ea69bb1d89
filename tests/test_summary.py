"""The printed summary says what the network really is."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.settings import resolve
from unet_lowlevel.summary import summarize, table, training_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padding": "valid", "batch_normalization": False, "classes": 2},
        {"kernel_size": 5, "convolutions_per_block": 1, "in_channels": 3},
        {"depth": 1, "convolutions_per_block": 3},
    ],
)
def test_parameters_and_shapes_are_those_of_the_network(changes):
    config = dataclasses.replace(ModelConfig(in_channels=1, base_channels=2, depth=3), **changes)
    layers = summarize(config, 44, 52)
    model = UNet(config)
    assert sum(layer.parameters for layer in layers) == sum(int(tf.size(v)) for v in model.trainable_variables)
    by_scope = {}
    for variable in model.trainable_variables:
        scope = variable.name.rsplit("/", 1)[0]
        by_scope[scope] = by_scope.get(scope, 0) + int(tf.size(variable))
    assert by_scope == {layer.name: layer.parameters for layer in layers if layer.parameters}
    # In same mode 44 and 52 are padded to multiples of 4, which they are.
    logits = model(tf.zeros([1, 44, 52, config.in_channels]), training=False)
    assert layers[-1].shape == tuple(logits.shape[1:])


def test_multiply_adds_by_hand():
    config = ModelConfig(in_channels=1, base_channels=2, depth=2, batch_normalization=False)
    counts = {layer.name: layer.multiply_adds for layer in summarize(config, 8, 8)}
    assert counts["encoder/level_1/conv_1"] == 8 * 8 * 9 * 1 * 2
    assert counts["bottleneck/conv_2"] == 4 * 4 * 9 * 4 * 4
    # Every output pixel of a 2x2 up-convolution sums over its one input pixel: 4 channels to 2.
    assert counts["decoder/level_1/up"] == 8 * 8 * 4 * 2
    assert counts["output"] == 8 * 8 * 2


@pytest.mark.parametrize(("depth", "convolutions"), [(1, 2), (2, 2), (3, 1), (3, 2)])
def test_receptive_field_is_where_the_gradient_reaches(depth, convolutions):
    """The widest span of input pixels with a gradient, over output pixels at every alignment."""
    config = ModelConfig(
        in_channels=1, base_channels=2, depth=depth, convolutions_per_block=convolutions, batch_normalization=False
    )
    model = UNet(config)
    images = tf.random.stateless_normal([1, 96, 4, 1], [0, 0])
    spans = []
    for row in range(44, 44 + 2 ** (depth - 1)):
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = model(images, training=False)[0, row, 2, 0]
        rows = np.flatnonzero(np.abs(tape.gradient(value, images)[0, :, :, 0]).sum(1))
        spans.append(rows[-1] - rows[0] + 1)
    assert summarize(config, 96, 4)[-1].receptive_field == max(spans)


def test_table_of_the_paper():
    config = dataclasses.replace(resolve("paper").model, in_channels=1)
    text = table(summarize(config, 572, 572), 572, 572, 1)
    assert "31,030,658" in text and "388x388x2" in text and "28x28x1024" in text


def test_the_memory_of_a_step_is_that_of_its_largest_part():
    def needed(**flags):
        return training_bytes(resolve(flags={"in_channels": 1, "crop_size": 64} | flags))

    assert needed(batch_size=9, accumulate=2) == needed(batch_size=5) > needed(batch_size=9, accumulate=3)
    assert needed(precision="float16") == needed(precision="bfloat16") == needed() // 2
