"""A second opinion: the same network of Keras layers, Keras' Adam, and a loop that shares no line with ours."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.config import Config, LossConfig, ModelConfig, OptimizerConfig, TrainingConfig
from unet_lowlevel.training.step import TrainStep
from unet_lowlevel.unet import UNet

layers = tf.keras.layers

DEFAULT = ModelConfig(in_channels=1, depth=3, base_channels=4)
ORIGINAL = dataclasses.replace(DEFAULT, batch_normalization=False)
PAPER = dataclasses.replace(ORIGINAL, padding="valid", activation="relu", classes=2)
SETTINGS = {"default": (DEFAULT, 16), "original": (ORIGINAL, 16), "paper": (PAPER, 44)}


def keras_unet(config, side):
    """The functional model. Layers that own weights are named after our scopes, "/" as "."."""
    images = layers.Input([side, side, config.in_channels])

    def block(features, channels, scope):
        for i in (1, 2):
            name = f"{scope}.conv_{i}"
            use_bias = not config.batch_normalization
            features = layers.Conv2D(channels, 3, padding=config.padding, use_bias=use_bias, name=name)(features)
            if config.batch_normalization:
                name = f"{scope}.batch_normalization_{i}"
                features = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)(features)
            features = layers.Activation(config.activation)(features)
        return features

    features, skips = images, []
    for level in range(1, config.depth):
        skips.append(block(features, config.base_channels * 2 ** (level - 1), f"encoder.level_{level}"))
        features = layers.MaxPooling2D(2)(skips[-1])
    features = block(features, config.base_channels * 2 ** (config.depth - 1), "bottleneck")
    for level in range(config.depth - 1, 0, -1):
        channels, skip = config.base_channels * 2 ** (level - 1), skips[level - 1]
        features = layers.Conv2DTranspose(channels, 2, strides=2, name=f"decoder.level_{level}.up")(features)
        rest = skip.shape[1] - features.shape[1]
        cropped = layers.Cropping2D(((rest // 2, rest - rest // 2), (rest // 2, rest - rest // 2)))(skip)
        features = block(layers.Concatenate()([cropped, features]), channels, f"decoder.level_{level}")
    return tf.keras.Model(images, layers.Conv2D(config.classes, 1, name="output")(features))


def twins(name, seed=0):
    """Our model, Keras' with the same weights, and {our variable's name: Keras' variable}."""
    config, side = SETTINGS[name]
    model, other = UNet(config, seed=seed), keras_unet(config, side)
    spelled = {"weight": "kernel"}
    pairs = {}
    for i, variable in enumerate(model.variables):
        scope, _, kind = variable.name.removesuffix(":0").rpartition("/")
        twin = getattr(other.get_layer(scope.replace("/", ".")), spelled.get(kind, kind))
        if variable.shape.rank == 1:  # Away from 0 and 1, where mistaken places would not show.
            variable.assign_add(np.abs(0.2 * normal(*variable.shape, seed=i)))
        twin.assign(variable)
        pairs[variable.name] = twin.value
    assert len(pairs) == len(model.variables) == len(other.variables)
    return model, other, pairs


def batch(name, images=3):
    config, side = SETTINGS[name]
    rng = np.random.default_rng(4)
    labels = rng.integers(0, max(config.classes, 2), [images, side, side])
    return tf.constant(normal(images, side, side, 1), tf.float32), tf.constant(labels, tf.int32)


def keras_loss(labels, logits):
    """Mean cross-entropy as Keras computes it, over the middle that a valid network sees."""
    rest = labels.shape[1] - logits.shape[1]
    labels = labels[:, rest // 2 : rest // 2 + logits.shape[1], rest // 2 : rest // 2 + logits.shape[2]]
    if logits.shape[-1] == 1:
        return tf.keras.losses.BinaryCrossentropy(from_logits=True)(labels[..., None], logits)
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def settings(model_config, **training):
    return Config(
        model=model_config,
        loss=LossConfig(loss="cross_entropy"),
        optimizer=OptimizerConfig(optimizer="adam", learning_rate=1e-3, schedule="constant"),
        training=TrainingConfig(**training),
    )


def train_step(model, config, side):
    return TrainStep(model, config, (side, side), total_steps=10)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_outputs(name, training):
    model, other, _ = twins(name)
    images, _ = batch(name)
    ours, theirs = model(images, training=training), other(images, training=training)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_gradient_and_the_moving_statistics_of_one_step(name):
    model, other, pairs = twins(name)
    images, labels = batch(name)
    with tf.GradientTape() as tape:
        loss = keras_loss(labels, other(images, training=True))
    trained = model.trainable_variables
    expected = tape.gradient(loss, [pairs[variable.name] for variable in trained])
    assert len(trained) == len(other.trainable_variables)
    results = train_step(model, settings(model.config), images.shape[1])(images, labels)
    np.testing.assert_allclose(results["loss"], loss, rtol=1e-5)
    for variable, gradient, twin in zip(trained, results["gradients"], expected, strict=True):
        assert np.linalg.norm(twin) > 0
        assert relative(gradient.numpy(), twin.numpy()) < 1e-4, variable.name
    for variable in model.variables:
        if not variable.trainable:
            np.testing.assert_allclose(variable, pairs[variable.name], rtol=0, atol=1e-6, err_msg=variable.name)


@pytest.mark.parametrize("name", SETTINGS)
def test_ten_steps_of_adam(name):
    model, other, pairs = twins(name)
    images, labels = batch(name)
    step = train_step(model, settings(model.config), images.shape[1])
    ours = [float(step(images, labels)["loss"]) for _ in range(10)]
    adam = tf.keras.optimizers.Adam(learning_rate=1e-3)

    def keras_step():
        with tf.GradientTape() as tape:
            loss = keras_loss(labels, other(images, training=True))
        adam.apply_gradients(zip(tape.gradient(loss, other.trainable_weights), other.trainable_weights, strict=True))
        return loss

    theirs = [float(keras_step()) for _ in range(10)]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert ours[-1] < ours[0]
    for variable in model.variables:
        assert relative(variable.numpy(), pairs[variable.name].numpy()) < 1e-3, variable.name
