"""Experiments on the network: what is cut is cut, and distances are right."""

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import IGNORED, ModelConfig
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.laboratory.networks import UNetWithoutSkips, from_edge, middle, middle_labelled


def test_a_network_without_skips_is_one_whose_weights_for_them_are_zero():
    config = ModelConfig(in_channels=1, depth=3, base_channels=2)
    whole, cut = UNet(config, seed=1), UNetWithoutSkips(config, seed=1)
    assert whole.named_variables().keys() == cut.named_variables().keys()
    images = tf.random.stateless_normal([2, 12, 16, 1], [1, 2])
    expected = cut(images, training=True)
    assert not np.allclose(whole(images, training=True), expected, atol=1e-3)
    for level, channels in ((1, 2), (2, 4)):
        weight = whole.named_variables()[f"decoder/level_{level}/conv_1/weight"]
        assert weight.shape[2] == 2 * channels
        weight.assign(tf.concat([tf.zeros_like(weight[:, :, :channels]), weight[:, :, channels:]], 2))
    np.testing.assert_allclose(whole(images, training=True), expected, atol=1e-5)


def test_distance_from_the_edge():
    label = np.zeros((1, 7), np.uint8)
    label[0, 3:] = 1
    assert from_edge(label).tolist() == [[3, 2, 1, 1, 2, 3, 4]]


def test_the_middle_half():
    image = np.arange(64).reshape(8, 8)
    cut, label = middle(image, -image)
    assert cut.shape == (4, 4) and cut[0, 0] == 18 and np.array_equal(label, -cut)
    whole, label = middle_labelled(image, (image % 2).astype(np.uint8))
    assert whole is image and (label == IGNORED).sum() == 48
    assert np.array_equal(middle(whole, label)[1], cut % 2)
