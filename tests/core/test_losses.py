"""Losses against float64 loops, finite differences, Keras, and masks small enough for pen and paper."""

import dataclasses
import math

import keras
import numpy as np
import numpy_losses as oracle
import pytest
import tensorflow as tf

from unet_lowlevel.config import LossConfig
from unet_lowlevel.core import losses, more_losses
from unet_lowlevel.settings import settings

SHAPE = (2, 3, 4)  # unequal sides: a swapped axis shows


def example(channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random labels int32 [2, 3, 4] with every class in every image, and logits float32."""
    random = np.random.default_rng(seed)
    classes = max(channels, 2)
    labels = np.stack([random.permutation(np.arange(12) % classes).reshape(3, 4) for _ in range(2)])
    return labels.astype(np.int32), random.normal(0, 2, (*SHAPE, channels)).astype(np.float32)


def value_and_gradient(loss, labels, logits) -> tuple[float, np.ndarray]:
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(tf.constant(labels), logits)
    assert value.dtype == tf.float32 and value.shape == ()
    return float(value), tape.gradient(value, logits).numpy()


def certain(labels, channels: int, size: float) -> np.ndarray:
    """Logits that give the labels' classes the value `size` and all others `-size`."""
    if channels == 1:
        return np.where(labels[..., np.newaxis] == 1, size, -size).astype(np.float32)
    return np.where(labels[..., np.newaxis] == np.arange(channels), size, -size).astype(np.float32)


WEIGHT_MAP = np.random.default_rng(5).uniform(0.5, 4, SHAPE).astype(np.float32)
CLASS_WEIGHTS = (0.5, 3.0, 1.5)

FORMULAS = (losses.dice, losses.cross_entropy, losses.dice_cross_entropy)
FORMULAS += (more_losses.batch_dice, more_losses.generalized_dice, more_losses.focal, more_losses.tversky)
LOSSES = {function.__name__: function for function in FORMULAS}
# name, options, which of class weights and weight map the loss takes
CASES = [
    ("dice", {}, False),
    ("dice", {"smooth": 0.0}, False),
    ("batch_dice", {"smooth": 2.5}, False),
    ("generalized_dice", {}, False),
    ("cross_entropy", {}, False),
    ("cross_entropy", {}, True),
    ("dice_cross_entropy", {"smooth": 0.5}, False),
    ("dice_cross_entropy", {"smooth": 0.5}, True),
    ("focal", {"gamma": 0.0}, True),
    ("focal", {"gamma": 0.5}, False),
    ("focal", {}, True),
    ("focal", {"gamma": 5.0}, False),
    ("tversky", {}, False),
    ("tversky", {"alpha": 0.9, "beta": 0.1, "smooth": 0.0}, False),
]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("name", "options", "weighted"), CASES)
def test_value_and_gradient_follow_the_equation(name, options, weighted, channels):
    labels, logits = example(channels)
    if weighted:
        options = {**options, "class_weights": CLASS_WEIGHTS[: max(channels, 2)], "weight_map": WEIGHT_MAP}
    value, gradient = value_and_gradient(lambda labels, logits: LOSSES[name](labels, logits, **options), labels, logits)
    exact = logits.astype(np.float64)
    expected = oracle.gradient(lambda z: getattr(oracle, name)(labels, z, **options), exact)
    assert value == pytest.approx(getattr(oracle, name)(labels, exact, **options), rel=1e-5, abs=1e-6)
    # Trap: a loss on thresholded values would have the right value here and no gradient.
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("option", [{"class_weights": CLASS_WEIGHTS[:2]}, {"weight_map": WEIGHT_MAP}])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_cross_entropy"])
def test_class_weights_and_weight_map_work_alone(name, option):
    labels, logits = example(1)
    expected = getattr(oracle, name)(labels, logits.astype(np.float64), **option)
    assert float(LOSSES[name](labels, tf.constant(logits), **option)) == pytest.approx(expected, rel=1e-5)


def test_weights_twice_as_large_double_the_loss():
    labels, logits = example(3)
    once = losses.cross_entropy(labels, tf.constant(logits), class_weights=(1.0, 2.0, 3.0))
    twice = losses.cross_entropy(labels, tf.constant(logits), class_weights=(2.0, 4.0, 6.0))
    assert float(twice) == pytest.approx(2 * float(once))


ALL = settings()["loss"][1].metadata["choices"]
# Of the first image some pixels are labelled, of the second none.
LABELLED = np.stack([np.random.default_rng(8).permutation(np.arange(12) % 2).reshape(3, 4), np.zeros((3, 4), int)])


@pytest.mark.parametrize("labelled", [LABELLED, LABELLED[::-1], LABELLED + LABELLED[::-1], np.ones(SHAPE, int)])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("name", "options", "weighted"), CASES)
def test_only_labelled_pixels_count(name, options, weighted, channels, labelled):
    """The labels of the others are those of no class."""
    labels, logits = example(channels)
    if weighted:
        options = {**options, "class_weights": CLASS_WEIGHTS[: max(channels, 2)], "weight_map": WEIGHT_MAP}
    maps = {key: tf.constant(options[key]) for key in options if key == "weight_map"}
    numbers = {key: options[key] for key in options if key != "weight_map"}
    loss = more_losses.over_labelled(lambda a, z, *m, **w: LOSSES[name](a, z, *m, **numbers, **w), ignored=255)
    value, gradient = value_and_gradient(
        lambda a, z: loss(a, z, *maps.values()), np.where(labelled, labels, 255).astype(np.int32), logits
    )
    options, exact = {**options, "labelled": labelled}, logits.astype(np.float64)
    expected = oracle.gradient(lambda z: getattr(oracle, name)(labels, z, **options), exact)
    assert value == pytest.approx(getattr(oracle, name)(labels, exact, **options), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert not gradient[labelled == 0].any() and gradient[labelled == 1].any()


@pytest.mark.parametrize("logit", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_a_batch_without_labels_costs_nothing(name, channels, logit, smooth):
    """Trap: 0 / 0, and Dice without smooth, which calls an image without areas wrong."""
    loss = more_losses.make_loss(LossConfig(loss=name, dice_smooth=smooth, focal_gamma=0.5), ignored=255)
    value, gradient = value_and_gradient(loss, np.full(SHAPE, 255, np.int32), np.full((*SHAPE, channels), logit))
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("name", ALL)
def test_where_all_pixels_count_no_operation_speaks_of_labels(name):
    signature = [tf.TensorSpec([None, 4, 4], tf.int32), tf.TensorSpec([None, 4, 4, 3], tf.float32)]
    kinds = [
        {
            operation.type
            for operation in tf.function(loss, signature, autograph=False)
            .get_concrete_function()
            .graph.get_operations()
        }
        for loss in (more_losses.make_loss(LossConfig(loss=name), ignored) for ignored in (None, 255))
    ]
    assert kinds[0].isdisjoint({"NotEqual", "BroadcastTo"}) and {"NotEqual", "BroadcastTo"} <= kinds[1]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_right_logits_of_20_cost_nothing(name, channels):
    """Trap: softmax or sigmoid twice would leave a large loss here."""
    labels, _ = example(channels)
    loss = more_losses.make_loss(LossConfig(loss=name))
    assert float(loss(labels, tf.constant(certain(labels, channels, 20.0)))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("config", [{}, {"dice_smooth": 0.0, "focal_gamma": 0.5}])
def test_logits_of_1000_stay_finite(name, channels, sign, config):
    labels, _ = example(channels)
    loss = more_losses.make_loss(LossConfig(loss=name, **config))
    value, gradient = value_and_gradient(loss, labels, sign * certain(labels, channels, 1000.0))
    assert math.isfinite(value) and np.isfinite(gradient).all()
    assert value < 1e-6 if sign > 0 else value > 0.5


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("config", [{}, {"dice_smooth": 0.0, "focal_gamma": 0.5}])
def test_a_single_nan_is_never_hidden(name, channels, config):
    """The training looks at the loss alone to find out that it has diverged."""
    labels, logits = example(channels)
    logits[1, 2, 3, -1] = np.nan
    loss = more_losses.make_loss(dataclasses.replace(LossConfig(loss=name), **config))
    assert math.isnan(loss(labels, tf.constant(logits)))


@pytest.mark.parametrize("logit", [-1000.0, -20.0, 0.0, 20.0, 1000.0])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_empty_masks_stay_finite(name, channels, logit, smooth):
    """Trap: 0 / 0 where a mask is empty. The logit is that of the last class."""
    labels = np.zeros(SHAPE, np.int32)
    logits = np.zeros((*SHAPE, channels), np.float32)
    logits[..., -1] = logit
    value, gradient = value_and_gradient(
        more_losses.make_loss(LossConfig(loss=name, dice_smooth=smooth)), labels, logits
    )
    assert math.isfinite(value) and value >= -1e-6 and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["dice", "batch_dice", "generalized_dice", "tversky"])
def test_empty_mask_predicted_as_empty_costs_nothing(name):
    labels, loss = np.zeros(SHAPE, np.int32), more_losses.make_loss(LossConfig(loss=name))
    assert float(loss(labels, tf.fill([*SHAPE, 1], -30.0))) == pytest.approx(0, abs=1e-5)
    assert float(loss(labels, tf.fill([*SHAPE, 1], 30.0))) > 0.7


@pytest.mark.parametrize("name", ALL)
def test_gradient_at_logit_zero(name):
    """A flat image meets a network without biases: every logit is exactly 0, and it has to learn from there."""
    labels, _ = example(1)
    logits = np.zeros((*SHAPE, 1), np.float32)
    loss = more_losses.make_loss(LossConfig(loss=name))
    _, gradient = value_and_gradient(loss, labels, logits)
    expected = oracle.gradient(lambda z: getattr(oracle, name)(labels, z), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
    # Foreground is pulled up, background pushed down, everywhere.
    assert (np.sign(gradient[..., 0]) == np.where(labels == 1, -1, 1)).all()


@pytest.mark.parametrize("name", ALL)
def test_two_channels_equal_one_with_their_difference(name):
    labels, logits = example(2, seed=3)
    loss = more_losses.make_loss(LossConfig(loss=name, class_weights=(1.0, 4.0)))
    two, gradient_two = value_and_gradient(loss, labels, logits)
    one, gradient_one = value_and_gradient(loss, labels, logits[..., 1:] - logits[..., :1])
    assert two == pytest.approx(one, rel=1e-5)
    np.testing.assert_allclose(gradient_two[..., 1:], gradient_one, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(gradient_two[..., :1], -gradient_one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("smooth", [0.0, 0.5, 3.0])
def test_tversky_of_halves_is_dice_with_twice_the_smooth(smooth, channels):
    labels, logits = example(channels)
    tversky = more_losses.tversky(labels, tf.constant(logits), alpha=0.5, beta=0.5, smooth=smooth)
    dice = losses.dice(labels, tf.constant(logits), smooth=2 * smooth)
    assert float(tversky) == pytest.approx(float(dice), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_focal_without_gamma_is_cross_entropy(channels):
    labels, logits = example(channels)
    weights = {"class_weights": CLASS_WEIGHTS[: max(channels, 2)], "weight_map": WEIGHT_MAP}
    focal, gradient = value_and_gradient(lambda a, b: more_losses.focal(a, b, gamma=0.0, **weights), labels, logits)
    plain, expected = value_and_gradient(lambda a, b: losses.cross_entropy(a, b, **weights), labels, logits)
    assert focal == pytest.approx(plain, rel=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


def test_keras_agrees():
    labels, logits = example(1)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(keras_loss(labels[..., np.newaxis].astype(np.float32), logits))
    assert float(losses.cross_entropy(labels, tf.constant(logits))) == pytest.approx(expected, rel=1e-5)
    keras_loss = keras.losses.BinaryFocalCrossentropy(from_logits=True, gamma=2.0)
    expected = float(keras_loss(labels[..., np.newaxis].astype(np.float32), logits))
    assert float(more_losses.focal(labels, tf.constant(logits))) == pytest.approx(expected, rel=1e-4)
    labels, logits = example(3)
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    expected = float(keras_loss(np.eye(3, dtype=np.float32)[labels], logits))
    assert float(losses.cross_entropy(labels, tf.constant(logits))) == pytest.approx(expected, rel=1e-5)


# Truth: 4 pixels in the middle. Prediction: 4 pixels, 2 of them right.
TRUTH = np.array([[[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]], np.int32)
GUESS = np.array([[[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]], np.int32)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda g, z: losses.dice(g, z, smooth=0.0), 1 - 4 / 8),
        (lambda g, z: losses.dice(g, z, smooth=2.0), 1 - 6 / 10),
        (lambda g, z: more_losses.tversky(g, z, alpha=0.25, beta=1.0, smooth=0.0), 1 - 2 / (2 + 0.5 + 2)),
        # w = 1/16 for the foreground (overlap 2 of 8), 1/144 for the background (overlap 10 of 24).
        (more_losses.generalized_dice, 1 - 2 * (2 / 16 + 10 / 144) / (8 / 16 + 24 / 144)),
        # 4 of 16 pixels are wrong by 30.
        (losses.cross_entropy, 4 * 30 / 16),
        (lambda g, z: losses.cross_entropy(g, z, class_weights=(1.0, 5.0)), (2 * 30 + 2 * 5 * 30) / 16),
        (more_losses.focal, 4 * 30 / 16),
    ],
)
def test_masks_by_hand(loss, expected):
    logits = tf.constant(certain(GUESS, 1, 30.0))
    assert float(loss(TRUTH, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["generalized_dice", "tversky", "focal", "cross_entropy", "dice_cross_entropy"])
def test_an_absent_class_does_not_keep_the_others_from_being_learned(name):
    """Free logits, three classes, one of which the image lacks: all pixels become right."""
    labels = np.zeros([1, 32, 32], np.int32)
    labels[:, 4:20, 8:24] = 1
    logits = tf.Variable(np.random.default_rng(0).normal(0, 1, [1, 32, 32, 3]).astype(np.float32))
    loss = more_losses.make_loss(LossConfig(loss=name))
    optimizer = tf.keras.optimizers.Adam(1.0)
    for _ in range(20):
        with tf.GradientTape() as tape:
            value = loss(labels, logits)
        optimizer.apply_gradients([(tape.gradient(value, logits), logits)])
    assert np.mean(np.argmax(logits, -1) == labels) > 0.95


def test_half_probability_by_hand():
    """Everywhere p = 1/2: overlap 2, areas 8 + 4; cross-entropy log 2; focal a quarter of that."""
    logits = tf.zeros([1, 4, 4, 1])
    assert float(losses.dice(TRUTH, logits, smooth=0.0)) == pytest.approx(1 - 4 / 12)
    assert float(losses.cross_entropy(TRUTH, logits)) == pytest.approx(math.log(2))
    assert float(more_losses.focal(TRUTH, logits, gamma=2.0)) == pytest.approx(math.log(2) / 4)


def test_generalized_dice_counts_what_is_invented_of_an_absent_class():
    """Everywhere p = 1/2 on four pixels of background: overlap 2, areas 2 + 4 and 2 + 0, all with the weight 1/16."""
    loss = more_losses.generalized_dice(np.zeros([1, 2, 2], np.int32), tf.zeros([1, 2, 2, 1]))
    assert float(loss) == pytest.approx(1 - 2 * 2 / 8)


def test_dice_of_images_and_of_the_batch():
    """Image 1 is half right (4 of 8), image 2 is empty and a pixel is invented."""
    labels = np.concatenate([TRUTH, np.zeros_like(TRUTH)])
    guess = np.concatenate([GUESS, np.zeros_like(GUESS)])
    guess[1, 0, 0] = 1
    logits = tf.constant(certain(guess, 1, 30.0))
    each = losses.dice(labels, logits, smooth=1.0)
    batch = more_losses.batch_dice(labels, logits, smooth=1.0)
    assert float(each) == pytest.approx(((1 - 5 / 9) + (1 - 1 / 2)) / 2)
    assert float(batch) == pytest.approx(1 - (4 + 1) / (8 + 1 + 1))
    # Only the first is the mean over its images.
    apart = [float(losses.dice(labels[i : i + 1], logits[i : i + 1])) for i in range(2)]
    assert float(each) == pytest.approx(sum(apart) / 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities(channels):
    _, logits = example(channels)
    exact = oracle.probabilities(logits.astype(np.float64))
    expected = exact[..., 1:] if channels == 1 else exact
    np.testing.assert_allclose(losses.probabilities(tf.constant(logits)), expected, rtol=1e-5)


FUNCTIONS = {
    "dice": (losses.dice, {"smooth": 3.0}),
    "batch_dice": (more_losses.batch_dice, {"smooth": 3.0}),
    "generalized_dice": (more_losses.generalized_dice, {}),
    "cross_entropy": (losses.cross_entropy, {"class_weights": (1.0, 5.0)}),
    "dice_cross_entropy": (losses.dice_cross_entropy, {"smooth": 3.0, "class_weights": (1.0, 5.0)}),
    "focal": (more_losses.focal, {"gamma": 1.5, "class_weights": (1.0, 5.0)}),
    "tversky": (more_losses.tversky, {"alpha": 0.2, "beta": 0.9, "smooth": 3.0}),
}


@pytest.mark.parametrize("name", ALL)
def test_make_loss_hands_over_every_setting(name):
    config = LossConfig(class_weights=(1.0, 5.0), dice_smooth=3.0, focal_gamma=1.5, tversky_alpha=0.2, tversky_beta=0.9)
    labels, logits = example(1)
    function, options = FUNCTIONS[name]
    loss = more_losses.make_loss(dataclasses.replace(config, loss=name))
    assert float(loss(labels, tf.constant(logits))) == float(function(labels, tf.constant(logits), **options))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_cross_entropy"])
def test_made_losses_take_a_weight_map(name):
    labels, logits = example(1)
    loss = more_losses.make_loss(LossConfig(loss=name, class_weights=(1.0, 5.0)))
    weighted = float(loss(labels, tf.constant(logits), tf.constant(WEIGHT_MAP)))
    options = {"class_weights": (1.0, 5.0), "weight_map": WEIGHT_MAP}
    assert weighted == pytest.approx(getattr(oracle, name)(labels, logits.astype(np.float64), **options), rel=1e-5)
    assert abs(weighted - float(loss(labels, tf.constant(logits)))) > 0.1


def test_losses_work_in_a_graph_with_an_open_batch_size():
    labels, logits = example(3)
    for name in ALL:
        loss = more_losses.make_loss(LossConfig(loss=name))
        signature = [tf.TensorSpec([None, None, None], tf.int32), tf.TensorSpec([None, None, None, 3], tf.float32)]
        compiled = tf.function(loss, input_signature=signature, autograph=False)
        assert float(compiled(labels, logits)) == pytest.approx(float(loss(labels, tf.constant(logits))), rel=1e-6)
