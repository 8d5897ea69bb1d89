"""Weights between the implementations and .keras files: bit for bit, complete or refused."""

import dataclasses
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import sentence
from op_checks import normal

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.reference.keras_unet import KerasUNet, functional_unet
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.reference.weights import load_keras, model_variables, read_keras, transfer, write_keras

layers = tf.keras.layers
CONFIG = ModelConfig(in_channels=2, depth=3, base_channels=2, dropout_rate=0.2)
NETWORKS = (UNet, LayersUNet, KerasUNet)


def varied(network, config=CONFIG):
    """A network whose every variable holds numbers of its own."""
    model = network(config, seed=1)
    for i, variable in enumerate(model.named_variables().values()):
        variable.assign(tf.cast(np.abs(normal(*variable.shape, seed=i)), tf.float32))
    return model


def values(model):
    return {name: variable.numpy() for name, variable in model.named_variables().items()}


def assert_equal(one, two):
    assert one.keys() == two.keys() and len(one) == 56
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("there", NETWORKS)
@pytest.mark.parametrize("here", NETWORKS)
def test_there_and_back_again_is_bit_exact(here, there):
    start, other, back = varied(here), there(CONFIG, seed=2), here(CONFIG, seed=3)
    transfer(start.named_variables(), other.named_variables(), "the start")
    assert_equal(values(start), values(other))
    transfer(other.named_variables(), back.named_variables(), "the other")
    assert_equal(values(start), values(back))


def test_through_a_keras_file_and_back_is_bit_exact(tmp_path):
    start, other, back = varied(UNet), KerasUNet(CONFIG, seed=2), UNet(CONFIG, seed=3)
    transfer(start.named_variables(), other.named_variables(), "the start")
    write_keras(other.network, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    load_keras(tmp_path / "model.keras", back)
    assert_equal(values(start), values(back))


PLAIN_KERAS = """
import sys
import numpy as np
import keras

model = keras.models.load_model("ours.keras")
model.compile(keras.optimizers.SGD(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
rng = np.random.default_rng(0)
images = rng.normal(size=(2, 16, 8, 2)).astype("float32")
before = model.predict(images, verbose=0)
model.fit(images, (images[..., :1] > 0).astype("float32"), epochs=3, verbose=0)
model.save("theirs.keras")
np.savez("predicted.npz", images=images, before=before, after=model.predict(images, verbose=0))
assert not [name for name in sys.modules if name.startswith("unet_lowlevel")]
"""


def test_a_file_opens_and_trains_in_plain_keras_and_comes_home(tmp_path):
    ours = varied(KerasUNet)
    write_keras(ours.network, tmp_path / "ours.keras")
    subprocess.run([sys.executable, "-c", PLAIN_KERAS], cwd=tmp_path, check=True)
    there = np.load(tmp_path / "predicted.npz")
    images = tf.constant(there["images"])
    np.testing.assert_allclose(ours(images, training=False), there["before"], rtol=1e-5, atol=1e-4)
    for network in NETWORKS:
        model = network(CONFIG, seed=3)
        load_keras(tmp_path / "theirs.keras", model)
        assert_equal(
            values(model), {n: v.numpy() for n, v in model_variables(read_keras(tmp_path / "theirs.keras")).items()}
        )
        scale = np.abs(there["after"]).max()
        np.testing.assert_allclose(model(images, training=False), there["after"], rtol=0, atol=1e-5 * scale)
        assert np.abs(there["after"] - there["before"]).max() > 1e-3 * scale


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 4}, ["has", "decoder/level_3/batch_normalization_1/beta", "which the network lacks"]),
        ({"depth": 2}, ["lacks", "decoder/level_2/batch_normalization_1/beta"]),
        ({"batch_normalization": False}, ["lacks", "bottleneck/batch_normalization_1/gamma"]),
        ({"base_channels": 4}, ["bottleneck/conv_1/weight", "3x3x8x16 float32", "needs 3x3x4x8 float32"]),
        ({"classes": 3}, ["output/bias", "of 3 float32", "needs 1 float32"]),
    ],
)
def test_other_networks_are_refused_and_nothing_changes(changes, words, tmp_path):
    other, path = KerasUNet(dataclasses.replace(CONFIG, **changes)), tmp_path / "other.keras"
    write_keras(other.network, path)
    for network in NETWORKS:
        ours = varied(network)
        before = values(ours)
        with pytest.raises(UserError) as caught:
            transfer(other.named_variables(), ours.named_variables(), "the other")
        sentence(caught, "the other", *words)
        with pytest.raises(UserError) as caught:
            load_keras(path, ours)
        sentence(caught, path, *words)
        assert_equal(before, values(ours))


def test_single_variables_missing_extra_or_misshapen_are_named():
    source, target = varied(UNet).named_variables(), UNet(CONFIG).named_variables()
    before = {name: variable.numpy() for name, variable in target.items()}
    name = "decoder/level_2/batch_normalization_1/moving_mean"
    for broken, words in (
        ({n: v for n, v in source.items() if n != name}, f"lacks {name}"),
        (source | {"more/weight": source[name]}, "has more/weight, which the network lacks"),
        (source | {name: source["output/bias"]}, f"has {name} of 1 float32, but the network needs 4 float32"),
        (source | {name: tf.Variable(tf.zeros([4], tf.float64))}, "of 4 float64, but the network needs 4 float32"),
    ):
        with pytest.raises(UserError, match=words):
            transfer(broken, target, "the source")
    for n, variable in target.items():
        np.testing.assert_array_equal(variable, before[n])


@pytest.mark.parametrize(
    "changes", [{"activation": "relu"}, {"padding": "valid"}, {"activation": "relu", "padding": "valid"}]
)
def test_the_same_weights_in_another_network_are_refused(changes, tmp_path):
    path, ours = tmp_path / "other.keras", varied(UNet)
    before = values(ours)
    write_keras(KerasUNet(dataclasses.replace(CONFIG, **changes)).network, path)
    with pytest.raises(UserError) as caught:
        load_keras(path, ours)
    sentence(caught, path, "computes something else", "activation and padding")
    assert_equal(before, values(ours))


def test_a_model_of_a_fixed_size_is_taken(tmp_path):
    """What a user builds in Keras often has its image size written in."""
    ours, network = varied(UNet), functional_unet(CONFIG)
    fixed = tf.keras.Model(images := layers.Input([16, 24, 2]), network(images))
    assert len(fixed.layers) == 2
    plain = tf.keras.models.clone_model(network, layers.Input([16, 24, 2]))
    write_keras(plain, tmp_path / "fixed.keras")
    load_keras(tmp_path / "fixed.keras", ours)
    assert_equal(values(ours), {name: variable.numpy() for name, variable in model_variables(plain).items()})


def test_files_that_are_no_keras_models(tmp_path):
    good = tmp_path / "good.keras"
    write_keras(functional_unet(CONFIG), good)
    cases = {"text.txt": b"", "missing.keras": None, "empty.keras": b"", "garbage.keras": b"no zip" * 99}
    cases["torn.keras"] = good.read_bytes()[:2000]
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_keras(path, UNet(CONFIG))
        sentence(caught, path)
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as file:
        file.writestr("config.json", "{")
    with pytest.raises(UserError, match="cannot be read as a Keras model"):
        load_keras(tmp_path / "zip.keras", UNet(CONFIG))


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    """A Lambda layer holds Python code; Keras refuses it unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    images = layers.Input([8, 8, 2])
    model = tf.keras.Model(images, layers.Lambda(lambda x: [__import__("os").mkdir("ran"), x][1])(images))
    (tmp_path / "ran").rmdir()
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match=r"lambda\.keras cannot be read as a Keras model"):
        load_keras(tmp_path / "lambda.keras", UNet(CONFIG))
    assert not (tmp_path / "ran").exists()
