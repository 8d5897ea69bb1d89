"""What TensorBoard is told of each level of the network."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal
from tiny_training import samples, tiny_config

from unet_lowlevel.core.unet import UNet
from unet_lowlevel.settings import apply
from unet_lowlevel.training import levels
from unet_lowlevel.training.trainer import Trainer


def test_tags_sort_by_level_and_a_filter_before_what_follows_it():
    names = UNet(tiny_config().model).named_variables()
    tags = [levels.tag_of(name, "weights") for name in names]
    assert len(set(tags)) == len(names)
    of_level = sorted(tag for tag in tags if tag.startswith("encoder_1/weights/conv_1"))
    assert of_level[:3] == [
        f"encoder_1/weights/conv_1/{name}" for name in ("filter", "normalization/beta", "normalization/gamma")
    ]
    assert levels.tag_of("output/weight", "gradients") == "output/gradients/filter"


def test_norms_and_update_ratios():
    names = ["encoder/level_1/conv_1/weight", "output/weight", "encoder/level_1/conv_1/bias"]
    before, after = [normal(3, 4), normal(5), normal(2)], [normal(3, 4, seed=1), normal(5), normal(2, seed=1)]

    def length(*tensors):
        return np.sqrt(sum(np.square(np.asarray(tensor, np.float64)).sum() for tensor in tensors))

    found = levels.norms(names, before)
    assert found == pytest.approx({"encoder_1": length(before[0], before[2]), "output": length(before[1])})
    ratios = levels.update_ratios(names, before, after)
    moved = length(after[0] - before[0], after[2] - before[2])
    assert ratios == pytest.approx({"encoder_1": moved / found["encoder_1"], "output": 0.0})
    assert levels.update_ratios(["output/weight"], [tf.zeros(3)], [tf.zeros(3)]) == {"output": 0.0}


@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_activations_are_those_of_the_blocks(activation):
    """Against the blocks called one by one; two channels of the first are dead, and the model is as before."""
    model = UNet(apply(tiny_config(), {"activation": activation, "base_channels": 4}).model)
    first = model.encoder[0].normalizations[1]
    first.beta.assign(tf.tensor_scatter_nd_update(first.beta, [[0], [2]], [-99.0, -99.0]))
    images = tf.constant(normal(2, 16, 16, 1), tf.float32)
    before = model(images, training=False)
    found = levels.activation_statistics(model, images)
    assert list(found) == ["encoder_1", "bottleneck", "decoder_1"]
    np.testing.assert_array_equal(model(images, training=False), before)
    assert all(block.activation.__name__ == activation for block in (*model.encoder, model.bottleneck, *model.decoder))
    features, activations = images, []
    block = model.encoder[0]
    for convolution, normalization in zip(block.convolutions, block.normalizations, strict=True):
        features = block.activation(normalization(convolution(features), training=False))
        activations.append(np.asarray(features)[:, :: levels.EVERY, :: levels.EVERY].astype(np.float64))
    channels = activations[0].shape[-1]
    assert found["encoder_1"]["dead_units"] == pytest.approx(2 / channels / 2)
    mean = np.mean(activations)
    assert found["encoder_1"]["activation_mean"] == pytest.approx(mean, rel=1e-5)
    assert found["encoder_1"]["activation_deviation"] == pytest.approx(np.std(activations), rel=1e-4)


def test_a_network_is_as_before_after_an_error_within():
    model = UNet(tiny_config().model)
    activation = model.bottleneck.activation

    def look(level, features):
        raise ValueError(level)

    with pytest.raises(ValueError, match="encoder_1"), levels.watched(model, look):
        model(tf.zeros([1, 16, 16, 1]), training=False)
    assert model.bottleneck.activation is activation


def test_the_update_is_that_of_the_last_step(tmp_path, monkeypatch):
    """Of the weights before and after it, although the step changes them in place."""
    told = []
    monkeypatch.setattr("unet_lowlevel.training.trainer.level_curves", lambda *arguments: told.append(arguments) or {})
    trainer = Trainer(tiny_config(epochs=1), tmp_path, samples(), samples())
    seen = []

    def note(step, loss):
        seen.append([weight.numpy() for weight in trainer.train_step.weights])

    trainer.fit(on_step=note)
    ((_, names, before, after, gradients, images),) = told
    assert len(names) == len(before) == len(after) == len(gradients) and len(images) == 1
    for one, two, old, new in zip(seen[-2], seen[-1], before, after, strict=True):
        np.testing.assert_array_equal(old, one)
        np.testing.assert_array_equal(new, two)
    assert any((one != two).any() for one, two in zip(seen[-2], seen[-1], strict=True))
