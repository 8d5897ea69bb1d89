"""Pictures of a network that learns."""

import numpy as np
import tensorflow as tf
from op_checks import normal
from PIL import Image
from tiny_training import tiny_config

from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.pictures import CLASS_COLOURS, overlay, to_rgb
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.settings import apply
from unet_lowlevel.training import drawings
from unet_lowlevel.training.drawings import MAPS, SIDE


def test_feature_maps_are_the_most_varied_of_each_level():
    config = apply(tiny_config(), {"base_channels": 8, "depth": 2}).model
    model = UNet(config)
    image = normal(16, 24, 1).astype(np.float32)
    page = drawings.feature_maps(model, image)
    height, width = round(SIDE * 16 / 24), SIDE
    assert page.shape == (3 * (height + 18), MAPS * (width + 4), 3) and page.dtype == np.uint8
    features = model.encoder[0](tf.constant(image[np.newaxis]), training=False)[0].numpy()
    best = features.var((0, 1)).argmax()
    shown = Image.fromarray(to_rgb(features[..., best : best + 1])).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(page[18 : 18 + height, :width], np.asarray(shown))


def test_there_are_no_feature_maps_of_other_networks():
    assert drawings.feature_maps(LayersUNet(tiny_config().model), np.zeros([16, 16, 1], np.float32)) is None


def test_receptive_fields_of_the_encoder():
    """By hand: two convolutions see 5, a pooling and two more 14, and so on; measured by a gradient as well."""
    config = apply(tiny_config(), {"depth": 3, "batch_normalization": False}).model
    assert drawings.fields_of_encoder(config) == [5, 14, 32]
    model = UNet(config)
    images = tf.Variable(normal(1, 64, 64, 1), dtype=tf.float32)
    for weight in model.trained_variables().values():
        weight.assign(tf.abs(weight) + 0.01)
    with tf.GradientTape() as tape:
        features = images
        for block in model.encoder:
            features = tf.nn.avg_pool2d(block(features, training=False), 2, 2, "VALID")
        value = model.bottleneck(features, training=False)[0, 8, 8, 0]
    seen = np.abs(tape.gradient(value, images)[0, ..., 0]) > 0
    assert np.ptp(np.nonzero(seen.any(0))) + 1 == 32


def test_the_squares_are_drawn_to_scale():
    config = apply(tiny_config(), {"depth": 2}).model
    picture = drawings.receptive_fields(config, np.zeros([64, 64, 1]))
    assert picture.shape == (4 * SIDE + 2 * 18, 4 * SIDE, 3)
    row = picture[2 * SIDE, :]
    for colour, side in zip(CLASS_COLOURS, (5, 14), strict=False):
        columns = np.flatnonzero((row == colour).all(-1))
        assert abs(np.ptp(columns) - side * 4 * SIDE / 64) <= 2


def test_objects_are_outlined_where_there_are_instance_labels():
    """In the truth those that were parted, in the prediction what is connected."""
    label = np.zeros((9, 12), np.uint8)
    label[1:8, 1:11] = 1
    target = label.copy()
    target[:, 5:7] = 0
    sample = Sample("a", np.zeros((9, 12, 1), np.uint8), label, target=target)
    config = apply(tiny_config(), {"instances": "somewhere"})
    picture = drawings.picture(sample, label[..., np.newaxis].astype(np.float32), config)
    parts = np.where(target, 1 + (np.arange(12) > 6), 0)
    expected = Image.fromarray(overlay(np.zeros((9, 12, 1)), label, parts)).resize((384, 288), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(picture[20:308, 392:], np.asarray(expected))
    whole = Image.fromarray(overlay(np.zeros((9, 12, 1)), label, label)).resize((384, 288), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(picture[328:, :384], np.asarray(whole))
