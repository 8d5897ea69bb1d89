"""The network, in the book's form and in its fast one: the paper's figures, every image size, the float64 oracle."""

import dataclasses

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import normal
from test_geometry import PAPER, VALID, named, output_side

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core import fast, unet
from unet_lowlevel.core.fast import FastUNet
from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.geometry import smallest_valid_size, valid_margin
from unet_lowlevel.training.steps import whole_logits

BOTH = pytest.mark.parametrize("network", [UNet, FastUNet])
TINY = ModelConfig(in_channels=1, depth=3, base_channels=2)
SEED = tf.constant([0, 0, 0])


def images_of(*shape, seed=0):
    return tf.constant(normal(*shape, seed=seed), tf.float32)


def shaken(model, seed=5):
    """The model with biases, gammas and moving averages away from their first 0 and 1, where errors would hide."""
    for i, variable in enumerate(model.variables):
        if variable.shape.rank == 1:
            change = 0.3 * normal(*variable.shape, seed=seed + i)
            variable.assign_add(np.abs(change) if "variance" in variable.name else change)
    return model


def values_of(model):
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}


def compiled(function, channels=1):
    """`function(images)` in one graph for every size, and outside of the checks that need a known one."""
    signature = [tf.TensorSpec([None, None, None, channels])]
    return tf.function(function, input_signature=signature, autograph=False)


# The paper's figures.


def test_paper_has_31_030_658_parameters_and_makes_388_of_572():
    model = UNet(PAPER)
    assert sum(int(tf.size(variable)) for variable in model.variables) == 31_030_658
    trace = tf.function(lambda images: model(images, training=False), autograph=False)
    assert trace.get_concrete_function(tf.TensorSpec([1, 572, 572, 1])).output_shapes == [1, 388, 388, 2]


def test_paper_geometry_computed():
    """The same with 64 times fewer channels, so that it can be run and not only traced."""
    model = UNet(dataclasses.replace(PAPER, base_channels=1))
    assert model(tf.zeros([1, 572, 572, 1]), training=False).shape == [1, 388, 388, 2]


# Variables.


def test_names_are_readable_and_complete():
    model = UNet(ModelConfig(in_channels=1, depth=2, base_channels=4))
    norm = ["batch_normalization_1", "batch_normalization_2"]
    expected = {"output/weight:0", "output/bias:0", "decoder/level_1/up/weight:0", "decoder/level_1/up/bias:0"}
    for block in ["encoder/level_1", "bottleneck", "decoder/level_1"]:
        expected |= {f"{block}/conv_1/weight:0", f"{block}/conv_2/weight:0"}
        expected |= {f"{block}/{n}/{v}:0" for n in norm for v in ["gamma", "beta", "moving_mean", "moving_variance"]}
    assert sorted(v.name for v in model.variables) == sorted(expected)  # Lists: no name stands twice.
    assert {v.name for v in model.variables} - {v.name for v in model.trainable_variables} == {
        name for name in expected if "moving" in name
    }


def test_biases_stand_where_no_batch_normalization_follows():
    names = [v.name for v in UNet(dataclasses.replace(TINY, batch_normalization=False)).variables]
    assert "encoder/level_1/conv_1/bias:0" in names and not any("batch_normalization" in name for name in names)


def test_channels_double_at_every_level():
    shapes = {v.name: tuple(v.shape) for v in UNet(ModelConfig(in_channels=3, depth=3, base_channels=4)).variables}
    assert shapes["encoder/level_1/conv_1/weight:0"] == (3, 3, 3, 4)
    assert shapes["encoder/level_2/conv_1/weight:0"] == (3, 3, 4, 8)
    assert shapes["bottleneck/conv_2/weight:0"] == (3, 3, 16, 16)
    assert shapes["decoder/level_2/up/weight:0"] == (2, 2, 8, 16)
    assert shapes["decoder/level_2/conv_1/weight:0"] == (3, 3, 16, 8)
    assert shapes["output/weight:0"] == (1, 1, 4, 1)


def test_first_weights_are_a_function_of_the_seed():
    first, same, other = (values_of(UNet(TINY, seed=seed)) for seed in (3, 3, 4))
    for name, value in first.items():
        np.testing.assert_array_equal(same[name], value)
        assert not name.endswith("weight") or not np.isclose(other[name], value).any()
    # Two filters of one shape are not the same numbers.
    assert not np.isclose(first["encoder/level_2/conv_2/weight"], first["decoder/level_2/conv_2/weight"]).any()


def test_no_channels_raise():
    with pytest.raises(ValueError, match="in_channels"):
        UNet(ModelConfig())


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_images_with_other_channels_raise(channels):
    """TensorFlow alone would take 2 or 4 channels into a network for 1 and convolve them in groups."""
    with pytest.raises(ValueError, match="fit"):
        UNet(dataclasses.replace(TINY, base_channels=4))(tf.zeros([1, 8, 8, channels]), training=False)


# Sizes in same mode.


def test_every_size_from_1_to_70_keeps_its_size():
    model = UNet(ModelConfig(in_channels=1, depth=5, base_channels=1))
    function = compiled(lambda images: model(images, training=False))
    for side in range(1, 71):
        logits = function(images_of(1, side, 71 - side, 1))
        assert logits.shape == [1, side, 71 - side, 1]
        assert np.isfinite(logits).all()
    assert function.experimental_get_tracing_count() == 1


def test_odd_sizes_are_mirrored_up_and_cropped_back():
    model = shaken(UNet(TINY, seed=1))
    images = images_of(2, 5, 6, 1)
    mirrored = np.pad(images, [(0, 0), (1, 2), (1, 1), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(
        model(images, training=False), model(tf.constant(mirrored), training=False)[:, 1:6, 1:7]
    )


# Sizes in valid mode.


@pytest.mark.parametrize("config", VALID, ids=named)
def test_valid_sizes_are_those_that_the_network_takes(config):
    """Along each axis: a legal size gives as many pixels as were counted, any other is refused."""
    model, smallest = UNet(config), smallest_valid_size(config)
    narrow = output_side(config, smallest)
    for side in range(1, smallest + 2 ** (config.depth - 1) + 1):
        expected = output_side(config, side)
        for height, width in ((side, smallest), (smallest, side)):
            images = tf.zeros([1, height, width, 1])
            if expected is None:
                with pytest.raises(ValueError, match=r"no multiple|smaller"):
                    model(images, training=False)
            else:
                shape = [1, expected, narrow, 1] if height == side else [1, narrow, expected, 1]
                assert model(images, training=False).shape == shape


@pytest.mark.parametrize("config", VALID, ids=named)
def test_a_graph_of_unknown_sizes_takes_the_valid_ones(config):
    """Two legal sizes at once, where nothing can check them beforehand."""
    smallest = smallest_valid_size(config)
    model = UNet(config)
    function = compiled(lambda images: model(images, training=False))
    height, width = [side for side in range(1, smallest + 40) if output_side(config, side)][:2]
    expected = [1, height - valid_margin(config), width - valid_margin(config), 1]
    assert function(images_of(1, height, width, 1)).shape == expected
    assert model(images_of(1, height, width, 1), training=False).shape == expected


def test_an_illegal_size_of_the_paper_is_refused():
    model = UNet(dataclasses.replace(PAPER, base_channels=1))
    with pytest.raises(ValueError, match=r"283|279"):
        model(tf.zeros([1, 572, 570, 1]), training=False)


@pytest.mark.parametrize("config", [VALID[9], VALID[15], VALID[0], VALID[-2]], ids=named)
def test_whole_gives_every_pixel_of_a_valid_network(config):
    """In the middle it is the plain output; towards the border that of the mirrored image."""
    model = shaken(UNet(dataclasses.replace(config, base_channels=2), seed=2))
    whole = compiled(lambda images: whole_logits(model, images))
    margin = valid_margin(config) // 2
    for height, width in [(1, 2), (smallest_valid_size(config), smallest_valid_size(config, 4)), (9, 30)]:
        images = images_of(2, height, width, 1)
        logits = whole(images)
        assert logits.shape == [2, height, width, 1]
        np.testing.assert_allclose(whole_logits(model, images), logits, rtol=1e-5, atol=1e-5)
        window = [smallest_valid_size(config, side) for side in (height, width)]
        mirrored = numpy_reference.mirror_window(images.numpy(), -margin, -margin, *window)
        plain = model(tf.constant(mirrored, tf.float32), training=False)
        np.testing.assert_allclose(logits, plain[:, :height, :width], rtol=1e-5, atol=1e-5)


def test_whole_equals_the_plain_valid_output_inside():
    config = dataclasses.replace(TINY, padding="valid")
    model = shaken(UNet(config, seed=2))
    side, lost = smallest_valid_size(config, 60), valid_margin(config) // 2
    # Pooling has a phase: the two agree where the mirrored border is a multiple of 2^(depth - 1) wide.
    assert lost % 4 == 0
    images = images_of(1, side, side, 1)
    plain, whole = model(images, training=False), whole_logits(model, images)
    inner = slice(lost + 4, side - lost - 4)
    in_plain = slice(inner.start - lost, inner.stop - lost)
    assert inner.stop - inner.start > 40
    np.testing.assert_allclose(whole[:, inner, inner], plain[:, in_plain, in_plain], rtol=1e-5, atol=1e-5)


def test_whole_in_same_mode_is_the_network():
    model, images = UNet(TINY), images_of(1, 7, 10, 1)
    np.testing.assert_array_equal(whole_logits(model, images), model(images, training=False))


# Training and inference.


def test_it_runs_on_a_gpu_where_there_is_one():
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    model = UNet(ModelConfig(in_channels=1, depth=2, base_channels=2))
    assert model(tf.zeros([1, 8, 8, 1]), training=False).device.endswith(f"{kind}:0")
    assert all(variable.device.endswith(f"{kind}:0") for variable in model.variables)


def test_training_is_keyword_only_and_required():
    model = UNet(TINY)
    for arguments in [(True,), ()]:
        with pytest.raises(TypeError):
            model(tf.zeros([1, 8, 8, 1]), *arguments)


def test_inference_does_not_depend_on_the_batch_and_moves_nothing():
    model = shaken(UNet(dataclasses.replace(TINY, dropout_rate=0.5)))
    images = images_of(4, 11, 8, 1)
    before = values_of(model)
    together = model(images, training=False)
    for i in range(4):
        np.testing.assert_allclose(model(images[i : i + 1], training=False), together[i : i + 1], atol=1e-5)
    np.testing.assert_array_equal(model(images, training=False), together)
    for name, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[name])


@BOTH
def test_training_moves_the_moving_averages_alone(network):
    model = network(TINY)
    before = values_of(model)
    model(images_of(2, 8, 8, 1), training=True)
    moved = {name for name, value in values_of(model).items() if (value != before[name]).any()}
    assert moved == {name for name in before if "moving" in name}


@BOTH
@pytest.mark.parametrize("position", ["block", "contracting_end"])
def test_dropout_acts_in_training_only_and_is_a_function_of_the_seed(position, network):
    config = dataclasses.replace(TINY, dropout_rate=0.5, dropout_position=position, batch_normalization=False)
    model, plain = network(config), network(dataclasses.replace(config, dropout_rate=0.0))
    images = images_of(1, 16, 16, 1)
    np.testing.assert_array_equal(model(images, training=False), plain(images, training=False))
    # Up to rounding: the fast form sums the convolution of the joined features by parts.
    np.testing.assert_allclose(plain(images, training=True), plain(images, training=False), rtol=0, atol=1e-6)
    first = model(images, training=True, seed=tf.constant([1, 2, 0]))
    np.testing.assert_array_equal(model(images, training=True, seed=tf.constant([1, 2, 0])), first)
    for other in ([1, 3], [2, 2]):
        assert not np.allclose(model(images, training=True, seed=tf.constant([*other, 0])), first)
    assert not np.allclose(first, plain(images, training=True))


# The network, and the module in which it finds `dropout`.
WITH_DROPOUT = pytest.mark.parametrize(("network", "module"), [(UNet, unet), (FastUNet, fast)])


@WITH_DROPOUT
@pytest.mark.parametrize(
    ("depth", "position", "channels"),
    [
        (1, "block", [2]),
        (1, "contracting_end", [2]),
        (2, "contracting_end", [2, 4]),
        (4, "contracting_end", [8, 16]),
        (3, "block", [2, 4, 8, 4, 2]),
    ],
)
def test_dropout_stands_where_the_settings_say(monkeypatch, depth, position, channels, network, module):
    """One dropout a block, each with a seed of its own; its place is told by the channels it sees."""
    calls = []
    monkeypatch.setattr(
        module, "dropout", lambda features, rate, seed: calls.append((features, rate, tuple(seed.numpy()))) or features
    )
    config = dataclasses.replace(TINY, depth=depth, dropout_rate=0.25, dropout_position=position)
    network(config)(images_of(1, 8, 8, 1), training=True, seed=SEED)
    assert [features.shape[-1] for features, _, _ in calls] == channels
    assert {rate for _, rate, _ in calls} == {0.25}
    assert len({seed for _, _, seed in calls}) == len(calls)


@WITH_DROPOUT
@pytest.mark.parametrize(("position", "convolutions"), [("block", 1), ("contracting_end", 3)])
def test_dropout_follows_the_first_or_the_last_convolution(monkeypatch, position, convolutions, network, module):
    config = dataclasses.replace(
        TINY, depth=1, convolutions_per_block=3, dropout_rate=0.5, dropout_position=position, batch_normalization=False
    )
    model = network(config)
    monkeypatch.setattr(module, "dropout", lambda features, rate, seed: tf.zeros_like(features))
    logits = model(images_of(1, 8, 8, 1), training=True, seed=SEED)
    # Zeros after convolution c leave only the biases of the convolutions that follow: all 0 at first.
    np.testing.assert_array_equal(logits, tf.zeros_like(logits))
    model.bottleneck.convolutions[convolutions - 1].bias.assign([1.0, 2.0])
    np.testing.assert_array_equal(model(images_of(1, 8, 8, 1), training=True, seed=SEED), tf.zeros_like(logits))
    if convolutions < 3:
        model.bottleneck.convolutions[convolutions].bias.assign([1.0, 2.0])
        assert np.any(model(images_of(1, 8, 8, 1), training=True, seed=SEED))


# The output.


@pytest.mark.parametrize(("classes", "frequencies"), [(1, [0.8, 0.2]), (2, [0.9, 0.1]), (3, [0.5, 0.3, 0.2])])
def test_output_bias_gives_the_prior(classes, frequencies):
    model = UNet(dataclasses.replace(TINY, classes=classes))
    model.set_output_bias(frequencies)
    model.output.weight.assign(tf.zeros_like(model.output.weight))
    mean = tf.reduce_mean(probabilities(model(images_of(2, 8, 8, 1), training=False)), [0, 1, 2])
    np.testing.assert_allclose(mean, frequencies[-classes:], rtol=1e-5)


@pytest.mark.parametrize(("classes", "frequencies"), [(1, [1.0, 0.0]), (3, [1.0, 0.0, 0.0])])
def test_output_bias_of_an_absent_class_is_finite(classes, frequencies):
    model = UNet(dataclasses.replace(TINY, classes=classes))
    model.set_output_bias(frequencies)
    assert np.abs(model.output.bias.numpy()).max() < 7


# The whole network against the float64 oracle.

NETWORKS = {
    "default": TINY,
    "depth_1": dataclasses.replace(TINY, depth=1),
    "rgba_to_3_classes": dataclasses.replace(TINY, in_channels=4, classes=3, depth=2),
    "no_batch_normalization": dataclasses.replace(TINY, batch_normalization=False),
    "kernel_5_one_convolution": dataclasses.replace(TINY, kernel_size=5, convolutions_per_block=1),
    "valid": dataclasses.replace(TINY, padding="valid", convolutions_per_block=1),
    "paper_like": dataclasses.replace(PAPER, depth=2, base_channels=2, dropout_rate=0.0),
}


@pytest.mark.parametrize(("network", "training"), [(UNet, False), (UNet, True), (FastUNet, True)])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_reference(name, network, training):
    config = NETWORKS[name]
    model = shaken(network(config, seed=3))
    if config.padding == "same":
        height, width = 7, 10
    else:
        height, width = smallest_valid_size(config), smallest_valid_size(config, 6)
    images = images_of(2, height, width, config.in_channels)
    before, moments = values_of(model), {}
    expected = numpy_reference.unet(config, before, images.numpy(), training=training, moments=moments)
    function = compiled(lambda x: model(x, training=training), config.in_channels)
    logits = function(images)
    assert logits.dtype == tf.float32 and logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))
    after = values_of(model)
    for scope, (mean, variance) in moments.items():
        for kind, batch in (("mean", mean), ("variance", variance)):
            moving = before[f"{scope}/moving_{kind}"]
            expected = 0.9 * moving + 0.1 * batch if training else moving
            np.testing.assert_allclose(after[f"{scope}/moving_{kind}"], expected, rtol=1e-5, atol=1e-6)
