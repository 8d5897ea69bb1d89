"""The training step: one trace, the same bits for the same seed, and every weight moved by what it returns."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.config import Config, ModelConfig, OptimizerConfig
from unet_lowlevel.core import fast, optimizers
from unet_lowlevel.core.losses import dice
from unet_lowlevel.core.ops.cropping import crop_like
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.geometry import smallest_valid_size, valid_margin
from unet_lowlevel.settings import apply, resolve
from unet_lowlevel.training.steps import EvaluationStep, train_step

CONFIG = Config(
    model=ModelConfig(in_channels=1, depth=2, base_channels=2, convolutions_per_block=1),
    optimizer=OptimizerConfig(schedule="constant"),
)


def batch(count, side=8, seed=0):
    images = normal(count, side, side, 1, seed=seed)
    return tf.constant(images, tf.float32), tf.constant(images[..., 0] > 0, tf.int32)


def made(config=CONFIG, side=8):
    return train_step(fast.network(config.model, seed=config.training.seed), config, (side, side), total_steps=10)


def trained(config, steps=5):
    """The values of all variables after some steps, the step's own included."""
    step = made(config)
    for i in range(steps):
        step(*batch(3, seed=i))
    return {variable.name: variable.numpy() for variable in step.variables}


def test_traces_once_for_full_and_trailing_batches():
    step = made()
    for count in (4, 4, 3, 1, 4):
        step(*batch(count))
    assert step.compiled.experimental_get_tracing_count() == 1
    assert int(step.step) == 5


@pytest.mark.parametrize("dropout_rate", [0.0, 0.5])
def test_the_same_seed_gives_the_same_bits(dropout_rate):
    config = apply(CONFIG, {"dropout_rate": dropout_rate})
    first = trained(config)
    tf.random.set_seed(11)
    np.random.seed(11)
    for name, value in trained(config).items():
        np.testing.assert_array_equal(value, first[name], err_msg=name)
    other = trained(apply(config, {"seed": 1}))
    assert not np.array_equal(other["output/weight:0"], first["output/weight:0"])


def test_dropout_changes_from_step_to_step_and_from_seed_to_seed():
    """The same batch, weights that do not move, no batch normalization: only the masks can differ."""
    flags = {"dropout_rate": 0.5, "batch_normalization": False, "learning_rate": 0.0}
    steps = [made(apply(CONFIG, flags | {"seed": seed})) for seed in (0, 1)]
    for one, other in zip(*(step.weights for step in steps), strict=True):
        other.assign(one)
    losses = [float(step(*batch(2))["loss"]) for step in steps for _ in range(3)]
    assert len(set(losses)) == 6


PLAIN = pytest.mark.parametrize("plain", [False, True], ids=["fast", "plain"])


@PLAIN
def test_every_weight_moves_and_only_in_the_train_step(plain):
    step = made(apply(CONFIG, {"plain": plain}))
    before = [variable.numpy() for variable in step.model.variables]
    EvaluationStep(step.model, CONFIG)(*batch(2))
    for variable, value in zip(step.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    step(*batch(2))
    for variable, value in zip(step.model.variables, before, strict=True):
        assert (variable.numpy() != value).any(), variable.name


@PLAIN
def test_plain_gradient_descent_moves_against_the_returned_gradient(plain):
    config = apply(CONFIG, {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "plain": plain})
    step = made(config)
    before = [weight.numpy() for weight in step.weights]
    results = step(*batch(2))
    for weight, value, gradient in zip(step.weights, before, results["gradients"], strict=True):
        np.testing.assert_allclose(weight, value - 0.1 * gradient, atol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in results["gradients"]))
    np.testing.assert_allclose(results["gradient_norm"], norm, rtol=1e-5)


@PLAIN
def test_clipped_gradients_move_the_weights_and_the_norm_before_is_told(plain):
    config = apply(
        CONFIG, {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "clip_norm": 0.01, "plain": plain}
    )
    step = made(config)
    before = [weight.numpy() for weight in step.weights]
    results = step(*batch(2))
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in results["gradients"]))
    assert norm > 0.1 and float(results["gradient_norm"]) == pytest.approx(norm, rel=1e-5)
    for weight, value, gradient in zip(step.weights, before, results["gradients"], strict=True):
        np.testing.assert_allclose(weight, value - 0.01 / norm * gradient, atol=1e-6)


@PLAIN
def test_every_step_has_its_own_rate_and_tells_it(plain):
    """A warm-up of 4 steps, then 6 constant ones; each moves the weights by rate times gradient."""
    flags = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.4, "warmup_steps": 4, "plain": plain}
    step = made(apply(CONFIG, flags))
    for rate in (0.1, 0.2, 0.3, 0.4, 0.4):
        before = step.model.output.weight.numpy()
        results = step(*batch(2))
        gradient = dict(zip(step.names, results["gradients"], strict=True))["output/weight"]
        assert float(results["learning_rate"]) == pytest.approx(rate)
        np.testing.assert_allclose(step.model.output.weight, before - rate * gradient, atol=1e-6)


@PLAIN
def test_the_first_step_of_adam_goes_as_far_as_the_learning_rate(plain):
    """Kingma & Ba 2015, section 2.1: both moments are corrected for one step."""
    step = made(apply(CONFIG, {"learning_rate": 0.01, "plain": plain}))
    before = step.model.output.weight.numpy()
    gradient = dict(zip(step.names, step(*batch(2))["gradients"], strict=True))["output/weight"]
    np.testing.assert_allclose(step.model.output.weight, before - 0.01 * np.sign(gradient), atol=1e-5)


@PLAIN
def test_learns_one_batch(plain):
    step = made(apply(CONFIG, {"learning_rate": 0.02, "plain": plain}))
    losses = [float(step(*batch(2))["loss"]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_the_average_follows_the_weights_of_the_same_step():
    """Statistics too: average' = d average + (1 - d) variable, with d = 1 / 10 in the first step."""
    step = made(apply(CONFIG, {"ema_decay": 0.9}))
    before = {name: variable.numpy() for name, variable in step.model.named_variables().items()}
    step(*batch(2))
    for (name, variable), average in zip(step.model.named_variables().items(), step.average.averages, strict=True):
        np.testing.assert_allclose(average, 0.1 * before[name] + 0.9 * variable.numpy(), atol=1e-6, err_msg=name)


WEIGHTED = apply(CONFIG, {"weight_map": True, "loss": "cross_entropy"})


def test_weights_say_how_much_a_pixel_counts():
    """Twice the weights are twice the loss; where the weight is 0, the label does not matter."""
    images, labels = batch(2)
    weights = tf.constant(np.random.default_rng(0).uniform(0, 3, labels.shape), tf.float32)
    once, twice = (made(WEIGHTED)(images, labels, weights * factor) for factor in (1.0, 2.0))
    assert float(twice["loss"]) == pytest.approx(2 * float(once["loss"]), rel=1e-5)
    for gradient, doubled in zip(once["gradients"], twice["gradients"], strict=True):
        np.testing.assert_allclose(doubled, 2 * gradient, rtol=1e-4, atol=1e-6)
    ones = made(WEIGHTED)(images, labels, tf.ones_like(weights))
    plain = made(apply(CONFIG, {"loss": "cross_entropy"}))(images, labels)
    assert float(ones["loss"]) == pytest.approx(float(plain["loss"]), rel=1e-6)
    none = tf.where(labels > 0, weights, 0.0)
    right, wrong = (made(WEIGHTED)(images, shown, none) for shown in (labels, tf.ones_like(labels)))
    assert float(right["loss"]) == float(wrong["loss"]) != float(once["loss"])


def test_learns_one_batch_with_weights_in_one_trace():
    step = made(apply(WEIGHTED, {"learning_rate": 0.02}))
    images, labels = batch(2)
    weights = tf.where(labels > 0, 1.0, 3.0)
    losses = [float(step(images, labels, weights)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    step(*batch(1), tf.ones([1, 8, 8]))
    assert step.compiled.experimental_get_tracing_count() == 1


def test_weights_of_a_valid_network_are_those_of_the_middle():
    config = apply(WEIGHTED, {"padding": "valid"})
    side = smallest_valid_size(config.model, 4)
    images, labels = batch(2, side)
    lost = valid_margin(config.model) // 2
    weights = np.ones(labels.shape, np.float32)
    weights[:, lost : side - lost, lost : side - lost] = 0
    assert float(made(config, side)(images, labels, tf.constant(weights))["loss"]) == 0
    weights[:, lost, lost] = 1
    assert float(made(config, side)(images, labels, tf.constant(weights))["loss"]) > 0


def test_labels_of_a_valid_network_are_those_of_the_middle():
    model = dataclasses.replace(CONFIG.model, padding="valid")
    config = dataclasses.replace(CONFIG, model=model)
    side = smallest_valid_size(model, 4)
    images, labels = batch(2, side)
    lost = valid_margin(model) // 2
    seen = crop_like(labels, tf.zeros([2, side - 2 * lost, side - 2 * lost, 1]))
    np.testing.assert_array_equal(seen, labels[:, lost : side - lost, lost : side - lost])
    results = made(config, side)(images, labels)
    assert int(tf.reduce_sum(results["confusion"])) == tf.size(seen)


@pytest.mark.parametrize(
    "flags", [{"learning_rate": 0.01}, {"optimizer": "sgd", "learning_rate": 0.1, "dropout_rate": 0.1}]
)
def test_plain_training_learns_and_has_the_losses_of_the_fast_one(flags):
    """The book's network and optimizer beside their fast forms; the two differ by rounding."""
    kinds = {False: (fast.FastUNet, fast.InPlaceAdam, fast.InPlaceSGD), True: (UNet, optimizers.Adam, optimizers.SGD)}
    losses = {}
    for plain, (network, *updates) in kinds.items():
        network_flags = {"in_channels": 1, "depth": 3, "base_channels": 4, "schedule": "constant", "plain": plain}
        config = resolve(flags=network_flags | flags)
        step = made(config, 16)
        assert type(step.model) is network and type(step.optimizer) in updates
        losses[plain] = [float(step(*batch(2, 16))["loss"]) for _ in range(40)]
    assert losses[True][:5] == pytest.approx(losses[False][:5], rel=1e-5)
    assert losses[True][-1] < 0.5 * losses[True][0]


def test_the_books_step_counts_nothing_unless_told_how():
    model, (images, labels) = UNet(CONFIG.model), batch(2)
    expected = float(dice(labels, model(images, training=True)))
    optimizer = optimizers.make_optimizer(CONFIG.optimizer, list(model.trained_variables().values()))
    results = TrainStep(model, dice, optimizer, CONFIG, (8, 8), total_steps=10)(images, labels)
    assert results.keys() == {"loss", "learning_rate", "gradient_norm", "gradients"}
    assert float(results["loss"]) == pytest.approx(expected, rel=1e-6)
    told = TrainStep(model, dice, optimizer, CONFIG, (8, 8), 10, lambda labels, logits: {"seen": tf.shape(logits)})
    assert told(images, labels)["seen"].numpy().tolist() == [2, 8, 8, 1]
