"""The same network three ways: equal weights give equal outputs, gradients, statistics and trainings.

The Keras model also is the second opinion on ours: its layers, losses, gradients and Adam share no line
with the low-level ones.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.config import Config, ModelConfig, OptimizerConfig
from unet_lowlevel.core.fast import FastUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.reference.keras_trainer import FittedUNet, make_optimizer
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.reference.weights import transfer
from unet_lowlevel.settings import apply, resolve
from unet_lowlevel.training.steps import train_step, whole_logits

OTHERS = {"highlevel": LayersUNet, "keras": KerasUNet}
# The presets at their full depth, on images as small as it allows; the paper's with a quarter of its channels.
SIDES = {"default": 64, "original": 64, "paper": 188}
STEPS = 20


def preset(name, **more) -> Config:
    flags = {"in_channels": 1, "dropout_rate": 0.0, "loss": "cross_entropy", "crop_size": SIDES[name]}
    flags |= {"weight_map": False, "base_channels": 16}
    # The wide network without normalization would leap from loss to loss at a thousandth.
    flags |= {"optimizer": "adam", "learning_rate": 1e-5 if name == "paper" else 1e-3, "schedule": "constant"}
    return resolve(name, flags=flags | more)


@pytest.fixture(scope="module", params=SIDES)
def case(request):
    """A preset with a batch and with weights; see `prepared`."""
    return prepared(preset(request.param))


def prepared(config: Config):
    """The configuration, a batch, and weights whose vectors are away from 0 and 1, lest mistaken places go unseen."""
    side = config.training.crop_size
    images = normal(1 if config.model.padding == "valid" else 2, side, side, 1)
    labels = np.random.default_rng(4).integers(0, 2, images.shape[:3])
    start = UNet(config.model, seed=1).named_variables()
    for i, variable in enumerate(start.values()):
        if variable.shape.rank == 1:
            variable.assign_add(np.abs(0.2 * normal(*variable.shape, seed=i)))
    return config, tf.constant(images, tf.float32), tf.constant(labels, tf.int32), start


def made(network, config, start):
    """A network with the weights `start`."""
    model = network(config.model, seed=5)
    transfer(start, model.named_variables(), "the test")
    return model


def step_of(network, config, start):
    """The training step of a network with the weights `start`; the book's network by the book's optimizer."""
    config = apply(config, {"plain": network is UNet})
    return train_step(made(network, config, start), config, (config.training.crop_size,) * 2, total_steps=STEPS)


def keras_loss(labels, logits):
    """Mean cross-entropy as Keras computes it, over the middle that a valid network sees."""
    rest = labels.shape[1] - logits.shape[1]
    labels = labels[:, rest // 2 : rest // 2 + logits.shape[1], rest // 2 : rest // 2 + logits.shape[2]]
    if logits.shape[-1] == 1:
        return tf.keras.losses.BinaryCrossentropy(from_logits=True)(labels[..., None], logits)
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("other", OTHERS.values())
def test_outputs(case, other):
    config, images, _, start = case
    ours, theirs = made(UNet, config, start), made(other, config, start)
    logits = ours(images, training=False)
    assert logits.shape == theirs(images, training=False).shape
    np.testing.assert_allclose(theirs(images, training=False), logits, rtol=0, atol=1e-5)
    # While training, batch statistics and sums in another order round: each network alone lies 2e-5 (default) to 7e-5
    # (original) from its like in float64, at logits of up to 8 and 34. So they are held to 1e-5 of the largest.
    logits, others = ours(images, training=True), theirs(images, training=True)
    np.testing.assert_allclose(others, logits, rtol=0, atol=1e-5 * np.max(np.abs(logits)))


def test_every_gradient_and_the_statistics_of_one_step(case):
    """Keras by its own loss and a tape around the functional model, the others by the training step."""
    config, images, labels, start = case
    keras = made(KerasUNet, config, start)
    variables = keras.named_variables()
    with tf.GradientTape() as tape:
        loss = keras_loss(labels, keras.network(images, training=True))
    expected = dict(zip(variables, tape.gradient(loss, list(variables.values())), strict=True))
    for network in (UNet, FastUNet, LayersUNet):
        step = step_of(network, config, start)
        results = step(images, labels)
        assert step.names == [name for name, variable in variables.items() if variable.trainable]
        np.testing.assert_allclose(results["loss"], loss, rtol=1e-5)
        for name, gradient in zip(step.names, results["gradients"], strict=True):
            assert np.linalg.norm(expected[name]) > 0, name
            assert relative(gradient.numpy(), expected[name].numpy()) < 1e-4, name
        for name, variable in step.model.named_variables().items():
            if not variable.trainable:
                np.testing.assert_allclose(variable, variables[name], rtol=0, atol=1e-6, err_msg=name)
                assert not np.allclose(variable, start[name], atol=1e-4), name


@pytest.mark.parametrize(
    "name", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in ("original", "paper"))]
)
def test_losses_of_twenty_steps_of_adam(name):
    """With a depth of 3; one step of the whole networks is above."""
    config, images, labels, start = prepared(preset(name, depth=3, crop_size={"paper": 60}.get(name, 16)))
    losses = {}
    for network in (FastUNet, LayersUNet):
        step = step_of(network, config, start)
        losses[network] = [float(step(images, labels)["loss"]) for _ in range(STEPS)]
    model = FittedUNet(made(KerasUNet, config, start))
    model.compile(
        make_optimizer(config.optimizer, STEPS, model), lambda truth, logits: keras_loss(truth[..., 0], logits)
    )
    data = tf.data.Dataset.from_tensors((images, labels[..., tf.newaxis]))
    losses[KerasUNet] = model.fit(data, epochs=STEPS, verbose=0, shuffle=False).history["loss"]
    for found in losses.values():
        np.testing.assert_allclose(found, losses[FastUNet], rtol=0, atol=1e-4)
    assert losses[FastUNet][-1] < 0.9 * losses[FastUNet][0]


SMALL = ModelConfig(in_channels=1, depth=3, base_channels=4)
CONFIGS = {
    "colour": {"in_channels": 3},
    "three classes": {"classes": 3},
    "one level": {"depth": 1},
    "two levels": {"depth": 2, "base_channels": 3},
    "kernel 5": {"kernel_size": 5},
    "kernel 1": {"kernel_size": 1},
    "three convolutions": {"convolutions_per_block": 3},
    "one convolution": {"convolutions_per_block": 1, "activation": "relu"},
    "valid": {"padding": "valid"},
    "valid, kernel 5": {"padding": "valid", "kernel_size": 5, "depth": 2, "batch_normalization": False},
    "valid, three convolutions": {"padding": "valid", "convolutions_per_block": 3, "depth": 4, "base_channels": 2},
    "valid, one level": {"padding": "valid", "depth": 1},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_on_every_size(name):
    config = dataclasses.replace(SMALL, **CONFIGS[name])
    ours, others = UNet(config, seed=3), [network(config, seed=3) for network in OTHERS.values()]
    for size in ((1, 1), (7, 30), (33, 32)):
        images = tf.constant(normal(2, *size, config.in_channels), tf.float32)
        expected = whole_logits(ours, images)
        assert expected.shape == (2, *size, config.classes)
        for other in others:
            np.testing.assert_allclose(whole_logits(other, images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("position", ["block", "contracting_end"])
@pytest.mark.parametrize("network", OTHERS.values())
def test_dropout_acts_in_the_same_places(network, position):
    """Of an average over many drops only the mean is left, which differs where dropout stands elsewhere."""
    config = dataclasses.replace(SMALL, dropout_rate=0.4, dropout_position=position, batch_normalization=False)
    images = tf.repeat(tf.constant(normal(1, 8, 8, 1), tf.float32), 3000, 0)
    ours, other = UNet(config, seed=3), network(config, seed=3)
    one, two = ours(images, training=True, seed=tf.constant([1, 2, 0])), other(images, training=True)
    still = ours(images[:1], training=False)
    np.testing.assert_allclose(other(images[:1], training=False), still, atol=1e-5)
    spread = tf.math.reduce_std(one, 0)
    assert np.all(spread > 0)
    # Means of 3000 draws: their standard error is spread / sqrt(3000).
    np.testing.assert_array_less(np.abs(tf.reduce_mean(one, 0) - tf.reduce_mean(two, 0)), 8 * spread / 3000**0.5)
    np.testing.assert_allclose(tf.math.reduce_std(two, 0), spread, rtol=0.2)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_keras_optimizers_do_the_same(optimizer):
    """Schedule, warm-up, weight decay, clipping and momentum, over ten steps on a stiff little problem."""
    settings = OptimizerConfig(
        optimizer=optimizer, learning_rate=0.01, warmup_steps=3, weight_decay=0.1, clip_norm=0.5, nesterov=True
    )
    config = resolve(flags={"in_channels": 1, "depth": 2, "base_channels": 2, "crop_size": 8, "loss": "cross_entropy"})
    config = dataclasses.replace(config, optimizer=settings)
    images, labels = tf.constant(normal(2, 8, 8, 1), tf.float32), tf.ones([2, 8, 8], tf.int32)
    steps = [
        train_step(network(config.model, seed=2), apply(config, {"plain": network is UNet}), (8, 8), total_steps=10)
        for network in (UNet, FastUNet)
    ]
    keras = FittedUNet(KerasUNet(config.model, seed=2))
    keras.compile(make_optimizer(settings, 10, keras), lambda truth, logits: keras_loss(truth[..., 0], logits))
    for _ in range(10):
        keras.train_on_batch(images, labels[..., tf.newaxis])
        kept = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in keras.optimizer.gradients))
        norms = [float(step(images, labels)["gradient_norm"]) for step in steps]
        assert [kept, kept] == pytest.approx(norms, rel=1e-3)
    assert min(norms) > 0
    for name, variable in keras.unet.named_variables().items():
        for step in steps:
            ours = step.model.named_variables()[name]
            np.testing.assert_allclose(variable, ours, rtol=0, atol=1e-5, err_msg=name)
