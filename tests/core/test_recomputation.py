"""Recomputed activations: the same numbers from less memory."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal
from unet_lowlevel.core.ops.recomputation import recomputed

from unet_lowlevel.core.fast import folded
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet, smallest_valid_size
from unet_lowlevel.settings import resolve


@pytest.mark.parametrize("compiled", [False, True])
def test_value_and_gradients_are_those_of_the_function(compiled):
    weight = tf.Variable(normal(3, 4))
    x, y = tf.constant(normal(2, 3)), tf.constant(normal(2, 4))
    runs = []

    def function(x, y, again=False):
        runs.append(again)
        return tf.sin(x @ weight) * y

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            outputs = run(function, [x, y])
            loss = tf.reduce_sum(outputs**2)
        return [outputs, *tape.gradient(loss, [x, y, weight])]

    expected = gradients(lambda function, inputs: function(*inputs))
    runs.clear()
    found = tf.function(lambda: gradients(recomputed))() if compiled else gradients(recomputed)
    assert runs == [False, True]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"dropout_rate": 0.3},
        {"batch_normalization": False, "padding": "valid"},
        {"precision": "bfloat16"},
        {"depth": 1},
    ],
)
def test_trains_to_the_same_bits(flags):
    """Moving averages among them: computing again must not move them again."""
    found = []
    for recompute in (False, True):
        config = resolve(flags={"in_channels": 1, "depth": 3, "base_channels": 4, "recompute": recompute} | flags)
        side = smallest_valid_size(config.model, 8) if config.model.padding == "valid" else 16
        step = TrainStep(UNet(config.model), config, (side, side), total_steps=10)
        for seed in range(3):
            images = tf.constant(normal(2, side, side, 1, seed=seed), tf.float32)
            step(images, tf.cast(images[..., 0] > 0, tf.int32))
        assert step.compiled.experimental_get_tracing_count() == 1
        found.append({variable.name: variable.numpy() for variable in step.variables})
    kept, again = found
    assert kept.keys() == again.keys()
    for name in kept:
        np.testing.assert_array_equal(again[name], kept[name], err_msg=name)


def test_prediction_is_not_touched():
    config = resolve(flags={"in_channels": 1, "depth": 2, "base_channels": 4, "recompute": True})
    model = UNet(config.model)
    images = tf.constant(normal(1, 8, 8, 1), tf.float32)
    np.testing.assert_allclose(folded(model)(images, training=False), model(images, training=False), atol=1e-5)


MEMORY = """
import sys
import tensorflow as tf
from unet_lowlevel.settings import resolve
from unet_lowlevel.reference.peers import peak_bytes
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet

tf.config.threading.set_inter_op_parallelism_threads(2)
config = resolve(flags={"in_channels": 1, "depth": 4, "recompute": sys.argv[1] == "True"})
step = TrainStep(UNet(config.model), config, (384, 384), total_steps=10)
before = peak_bytes()
for _ in range(3):
    step(tf.zeros([4, 384, 384, 1]), tf.zeros([4, 384, 384], tf.int32))
print(peak_bytes() - before)
"""


def test_takes_less_memory():
    kept, again = (
        int(subprocess.run([sys.executable, "-c", MEMORY, str(recompute)], capture_output=True, check=True).stdout)
        for recompute in (False, True)
    )
    assert again < 0.75 * kept  # 0.6 were seen; 1.0 if TensorFlow kept what is computed again
