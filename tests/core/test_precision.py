"""bfloat16: the layers compute in it, everything that is remembered or decided stays float32."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core.fast import FastUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.steps import train_step

NETWORKS = (UNet, FastUNet, LayersUNet, KerasUNet)


def config_of(precision, **flags):
    defaults = {"in_channels": 1, "depth": 3, "base_channels": 8, "crop_size": 32, "schedule": "constant"}
    return resolve(flags=defaults | {"precision": precision} | flags)


IMAGES = tf.constant(normal(4, 32, 32, 1), tf.float32)
LABELS = tf.cast(IMAGES[..., 0] > 0.3, tf.int32)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_logits_are_float32_and_close(network, training):
    exact = network(config_of("float32").model, seed=1)(IMAGES, training=training)
    model = network(config_of("bfloat16").model, seed=1)
    rounded = model(IMAGES, training=training)
    assert rounded.dtype == tf.float32
    assert model.forward(tf.cast(IMAGES, tf.bfloat16), training=training, seed=None).dtype == tf.bfloat16
    assert all(variable.dtype == tf.float32 for variable in model.named_variables().values())
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    # Not exact, which would mean that nothing was computed in bfloat16.
    assert 1e-4 < error < 0.05


# Ten convolutions and the output; of the ten the fast form computes two in parts, and the ELU behind a normalization by
# one more.
@pytest.mark.parametrize(("network", "convolutions", "of_elu"), [(UNet, 11, 0), (FastUNet, 13, 10)])
@pytest.mark.parametrize("flags", [{}, {"padding": "valid", "crop_size": 44}, {"batch_normalization": False}])
def test_layers_see_bfloat16(flags, network, convolutions, of_elu, monkeypatch):
    """Every convolution, of every setting, on the way forward."""
    seen, original = [], tf.nn.conv2d
    monkeypatch.setattr(
        tf.nn, "conv2d", lambda x, w, **how: (seen.append((x.dtype, w.dtype)), original(x, w, **how))[1]
    )
    config = config_of("bfloat16", dropout_rate=0.5, **flags)
    side = config.training.crop_size
    network(config.model)(tf.zeros([1, side, side, 1]), training=True, seed=tf.constant([1, 2, 0]))
    assert len(seen) == convolutions + of_elu * config.model.batch_normalization
    assert set(seen) == {(tf.bfloat16, tf.bfloat16)}


@pytest.mark.parametrize(
    "network", [UNet, FastUNet, *(pytest.param(other, marks=pytest.mark.slow) for other in (LayersUNet, KerasUNet))]
)
def test_gradients_slots_and_losses_are_float32(network):
    results = {}
    for precision in ("float32", "bfloat16"):
        config = config_of(precision)
        step = train_step(network(config.model, seed=1), config, (32, 32), total_steps=30)
        first = step(IMAGES, LABELS)
        assert all(gradient.dtype == tf.float32 for gradient in first["gradients"])
        assert all(variable.dtype in (tf.float32, tf.int64) for variable in step.variables)
        losses = [float(first["loss"]), *(float(step(IMAGES, LABELS)["loss"]) for _ in range(29))]
        results[precision] = losses, tf.concat([tf.reshape(g, [-1]) for g in first["gradients"]], 0).numpy()
    (exact, exact_gradient), (rounded, gradient) = results.values()
    assert rounded[0] == pytest.approx(exact[0], rel=0.01) and rounded[-1] == pytest.approx(exact[-1], abs=0.02)
    assert rounded[-1] < 0.5 * rounded[0]
    cosine = gradient @ exact_gradient / np.linalg.norm(gradient) / np.linalg.norm(exact_gradient)
    assert cosine > 0.99


@pytest.mark.parametrize("network", [UNet, FastUNet])
def test_statistics_do_not_drown(network):
    """A thousandth of 256 is lost in bfloat16; the moving averages have to feel it."""
    config = dataclasses.replace(config_of("bfloat16").model, depth=1)
    model = network(config, seed=1)
    before = model.named_variables()["bottleneck/batch_normalization_1/moving_mean"].numpy()
    model(IMAGES * 1e-3, training=True)
    assert np.all(model.named_variables()["bottleneck/batch_normalization_1/moving_mean"].numpy() != before)
