"""Loss scaling against NumPy, and a training in float16."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core import fast, loss_scale
from unet_lowlevel.core.loss_scale import LossScale
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.steps import train_step


def made(**flags):
    flags = {"in_channels": 1, "depth": 2, "base_channels": 4, "crop_size": 16} | flags
    config = resolve(flags=flags)
    model = fast.network(config.model, seed=0)
    return train_step(model, config, (16, 16), 20)


def batch(seed=0):
    images = normal(3, 16, 16, 1, seed=seed)
    return tf.constant(images, tf.float32), tf.constant(images[..., 0] > 0, tf.int32)


def test_the_factor_is_taken_out_again():
    scale = LossScale()
    gradients = [tf.constant([2.0**15, -(2.0**16)]), tf.constant([[0.0]])]
    ones, zeros = scale.undo(gradients)
    np.testing.assert_array_equal(ones, [1, -2])
    np.testing.assert_array_equal(zeros, [[0]])
    assert float(scale.scale) == 2.0**15 and int(scale.good_steps) == 1


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_halves_it_and_moves_nothing(bad):
    scale = LossScale()
    scale.good_steps.assign(7)
    found = scale.undo([tf.constant([1.0, bad]), tf.constant([3.0])])
    for gradient in found:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
    assert float(scale.scale) == 2.0**14 and int(scale.good_steps) == 0


def test_enough_good_steps_in_a_row_double_it(monkeypatch):
    monkeypatch.setattr(loss_scale, "GOOD_STEPS", 3)
    scale = LossScale()
    good, bad = [tf.ones([2])], [tf.constant([np.nan, 1.0])]
    seen = []
    for gradients in (good, good, bad, good, good, good, good, good, good):
        scale.undo(gradients)
        seen.append(np.log2(float(scale.scale)))
    assert seen == [15, 15, 14, 14, 14, 15, 15, 15, 16]


def test_float16_trains_as_float32_does():
    losses = {}
    for precision in ("float32", "float16"):
        step = made(precision=precision)
        losses[precision] = [float(step(*batch(seed % 4))["loss"]) for seed in range(20)]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=2e-2)
    assert losses["float16"][-1] < losses["float16"][0]


def test_scaled_gradients_survive_where_others_become_0():
    """Of a loss that is divided by a million, in the first convolution."""
    found = {}
    for factor in (1.0, 2.0**15):
        step = made(precision="float16")
        loss = step.loss
        step.loss = lambda labels, logits, loss=loss: loss(labels, logits) * 1e-6
        step.loss_scale.scale.assign(factor)
        found[factor] = step(*batch())["gradients"][0].numpy()
    step = made()
    loss = step.loss
    step.loss = lambda labels, logits: loss(labels, logits) * 1e-6
    exact = step(*batch())["gradients"][0].numpy()
    error = {factor: np.linalg.norm(gradient - exact) / np.linalg.norm(exact) for factor, gradient in found.items()}
    assert error[2.0**15] < 0.02 < 0.3 < error[1.0]


def test_a_step_that_overflows_leaves_the_weights_and_the_next_one_moves_them():
    step = made(precision="float16")
    step.loss_scale.scale.assign(2.0**40)
    before = [weight.numpy() for weight in step.weights]
    result = step(*batch())
    assert float(result["gradient_norm"]) == 0 and np.isfinite(float(result["loss"])) and int(step.step) == 1
    for weight, value in zip(step.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert float(step.loss_scale.scale) == 2.0**39
    step.loss_scale.scale.assign(2.0**10)
    step(*batch())
    assert any((weight.numpy() != value).any() for weight, value in zip(step.weights, before, strict=True))


def test_other_precisions_have_no_factor():
    assert made().loss_scale is None and made(precision="bfloat16").loss_scale is None
