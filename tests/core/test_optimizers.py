"""Optimizers against Keras, NumPy and schedule values counted by hand."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.config import OptimizerConfig
from unet_lowlevel.core import fast, optimizers

SHAPES = [(3, 3, 2, 4), (4,), (2, 5), ()]
STEPS = 10


def example() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Start values, and gradients of very different sizes for ten steps."""
    random = np.random.default_rng(0)
    start = [random.normal(0, 1, shape).astype(np.float32) for shape in SHAPES]
    gradients = [
        [np.asarray(random.normal(0, 10.0 ** random.integers(-4, 2), shape), np.float32) for shape in SHAPES]
        for _ in range(STEPS)
    ]
    return start, gradients


BOTH = pytest.mark.parametrize("make", [optimizers.make_optimizer, fast.make_optimizer], ids=["book", "in place"])


def run(make, config: OptimizerConfig, rates=None) -> tuple[list[tf.Variable], optimizers.Adam | optimizers.SGD]:
    """The weights after ten steps of ours."""
    start, gradients = example()
    weights = [tf.Variable(value) for value in start]
    optimizer = make(config, weights)
    for step, gradient in enumerate(gradients):
        rate = tf.constant(config.learning_rate if rates is None else rates[step], tf.float32)
        optimizer.apply(weights, [tf.constant(g) for g in gradient], tf.constant(step, tf.int64), rate)
    return weights, optimizer


@BOTH
@pytest.mark.parametrize(
    ("config", "keras_optimizer"),
    [
        (OptimizerConfig(learning_rate=0.01), lambda: keras.optimizers.Adam(0.01)),
        (OptimizerConfig(learning_rate=1.0), lambda: keras.optimizers.Adam(1.0)),
        (OptimizerConfig(optimizer="sgd", learning_rate=0.01, momentum=0.0), lambda: keras.optimizers.SGD(0.01)),
        (
            OptimizerConfig(optimizer="sgd", learning_rate=0.01, momentum=0.99),
            lambda: keras.optimizers.SGD(0.01, momentum=0.99),
        ),
        (
            OptimizerConfig(optimizer="sgd", learning_rate=0.01, momentum=0.9, nesterov=True),
            lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_ten_steps_of_keras(config, keras_optimizer, make):
    start, gradients = example()
    theirs, optimizer = [keras.Variable(value) for value in start], keras_optimizer()
    for gradient in gradients:
        optimizer.apply([tf.constant(g) for g in gradient], theirs)
    for weight, other in zip(run(make, config)[0], theirs, strict=True):
        # Keras' float32 1 - 0.999 is wrong by 1e-5; in our operation the same error cancels between slot and rate.
        allowed = 1e-4 * config.learning_rate if config.optimizer == "adam" else 1e-6
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-6, atol=allowed)


@BOTH
@pytest.mark.parametrize("nesterov", [False, True])
def test_operations_do_what_the_equations_say(nesterov, make):
    """The optimizers beside `adam_update` and `sgd_update`, ten steps each."""
    start, gradients = example()
    adam, _ = run(make, OptimizerConfig(learning_rate=0.1))
    sgd, _ = run(make, OptimizerConfig(optimizer="sgd", learning_rate=0.1, momentum=0.7, nesterov=nesterov))
    for i, value in enumerate(start):
        one = two = tf.constant(value)
        first = second = velocity = tf.zeros_like(one)
        for step, gradient in enumerate(gradients, start=1):
            one, first, second = optimizers.adam_update(one, gradient[i], first, second, tf.cast(step, tf.float32), 0.1)
            two, velocity = optimizers.sgd_update(two, gradient[i], velocity, 0.1, 0.7, nesterov)
        np.testing.assert_allclose(adam[i], one, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(sgd[i], two, rtol=1e-6, atol=1e-6)


def numpy_adamw(rates, decay: float) -> list[np.ndarray]:
    """AdamW in float64 with the corrected moments of Kingma & Ba's algorithm 1; decay of filters only."""
    start, gradients = example()
    results = []
    for i, value in enumerate(start):
        weight, first, second = value.astype(np.float64), 0.0, 0.0
        for step, rate in enumerate(rates, start=1):
            gradient = gradients[step - 1][i].astype(np.float64)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            if weight.ndim > 1:
                weight = weight - rate * decay * weight
            # Keras' place for epsilon: before the correction of the second moment.
            correction = math.sqrt(1 - 0.999**step)
            weight = weight - rate * correction / (1 - 0.9**step) * first / (np.sqrt(second) + 1e-7)
        results.append(weight)
    return results


@BOTH
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_with_changing_rate_and_decay(decay, make):
    rates = [0.01 * (step + 1) for step in range(STEPS)]
    weights, _ = run(make, OptimizerConfig(weight_decay=decay), rates)
    for weight, expected in zip(weights, numpy_adamw(rates, decay), strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, rtol=2e-6, atol=2e-6)


@BOTH
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_weight_decay_moves_filters_only(name, make):
    weights = [tf.Variable(tf.fill(shape, 2.0)) for shape in SHAPES]
    optimizer = make(OptimizerConfig(optimizer=name, weight_decay=0.1), weights)
    optimizer.apply(weights, [tf.zeros(shape) for shape in SHAPES], tf.constant(0), tf.constant(0.5))
    assert [float(np.mean(weight)) for weight in weights] == pytest.approx([1.9, 2.0, 1.9, 2.0])


@BOTH
def test_optimizers_refuse_a_missing_gradient(make):
    weights = [tf.Variable(1.0), tf.Variable(2.0)]
    for name in ("adam", "sgd"):
        optimizer = make(OptimizerConfig(optimizer=name), weights)
        with pytest.raises(ValueError, match="shorter"):
            optimizer.apply(weights, [tf.constant(1.0)], tf.constant(0), tf.constant(0.1))


def rate(step, total, **settings) -> float:
    return float(optimizers.learning_rate_at(tf.constant(step, tf.int64), OptimizerConfig(**settings), total))


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        ({"schedule": "constant"}, {0: 1, 5: 1, 10: 1, 99: 1}),
        ({"schedule": "exponential", "final_fraction": 0.01}, {0: 1, 5: 0.1, 10: 0.01, 99: 0.01}),
        ({"schedule": "exponential", "final_fraction": 1.0}, {0: 1, 5: 1, 10: 1}),
        (
            {"schedule": "polynomial", "final_fraction": 0.1, "polynomial_power": 2.0},
            {0: 1, 5: 0.1 + 0.9 / 4, 10: 0.1, 99: 0.1},
        ),
        ({"schedule": "polynomial", "final_fraction": 0.0, "polynomial_power": 0.9}, {0: 1, 5: 0.5**0.9, 10: 0, 99: 0}),
        ({"schedule": "cosine", "final_fraction": 0.2}, {0: 1, 5: 0.6, 10: 0.2, 99: 0.2}),
        (
            {"schedule": "cosine", "final_fraction": 0.0},
            {0: 1, 2: (1 + math.cos(math.pi / 5)) / 2, 5: 0.5, 10: 0, 99: 0},
        ),
        # Of the 11 steps 4 warm up; step 4 is the first and step 10 the last of the descent.
        (
            {"schedule": "cosine", "final_fraction": 0.0, "warmup_steps": 4},
            {0: 0.25, 1: 0.5, 3: 1, 4: 1, 7: 0.5, 10: 0, 11: 0},
        ),
        ({"schedule": "constant", "warmup_steps": 2}, {0: 0.5, 1: 1, 2: 1, 10: 1}),
        # A warm-up longer than the training never ends.
        ({"schedule": "cosine", "warmup_steps": 100}, {0: 0.01, 10: 0.11}),
    ],
)
def test_schedules_by_hand(settings, points):
    for step, factor in points.items():
        assert rate(step, 11, learning_rate=0.3, **settings) == pytest.approx(0.3 * factor, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "exponential", "polynomial", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_short_trainings_have_a_rate(schedule, warmup, fraction):
    for total in (1, 2, 6):
        for step in (0, 1, 5, 6, 1000):
            value = rate(
                step, total, schedule=schedule, warmup_steps=warmup, final_fraction=fraction, polynomial_power=0.0
            )
            assert math.isfinite(value) and 0 <= value <= 1.0001e-3
    assert rate(0, 1, schedule=schedule) == pytest.approx(1e-3)


@pytest.mark.parametrize("schedule", ["exponential", "polynomial", "cosine"])
def test_schedules_never_rise_after_the_warm_up(schedule):
    rates = [rate(step, 30, schedule=schedule, warmup_steps=5) for step in range(35)]
    assert rates[:5] == sorted(rates[:5]) and rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[29] == rates[34] == pytest.approx(1e-5, rel=1e-4)


def test_learning_rate_follows_the_step_variable_in_a_graph():
    """Trap: a Python number would freeze in the first trace."""
    step = tf.Variable(0, dtype=tf.int64)
    config = OptimizerConfig(schedule="cosine", warmup_steps=2)
    traces = []

    @tf.function
    def compiled():
        traces.append(1)
        value = optimizers.learning_rate_at(step.value(), config, 8)
        step.assign_add(1)
        return value

    values = [float(compiled()) for _ in range(8)]
    assert values == pytest.approx([rate(i, 8, schedule="cosine", warmup_steps=2) for i in range(8)], rel=1e-6)
    assert len(set(values)) > 5 and len(traces) == 1


@BOTH
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_graph_equals_eager(name, make):
    config = OptimizerConfig(optimizer=name, weight_decay=0.1, nesterov=True)
    start, gradients = example()
    weights = [tf.Variable(value) for value in start]
    optimizer = make(config, weights)
    step = tf.Variable(0, dtype=tf.int64)

    @tf.function
    def compiled(gradients):
        optimizer.apply(weights, gradients, step.value(), tf.constant(config.learning_rate))
        step.assign_add(1)

    for gradient in gradients:
        compiled([tf.constant(g) for g in gradient])
    for weight, other in zip(weights, run(make, config)[0], strict=True):
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_global_norm_and_clipping():
    gradients = [tf.constant([[3.0, 0.0], [0.0, 0.0]]), tf.constant([0.0, 4.0]), tf.constant(12.0)]
    norm = optimizers.global_norm(gradients)
    assert float(norm) == 13.0
    clipped = optimizers.clip_by_global_norm(gradients, norm, 6.5)
    assert float(optimizers.global_norm(clipped)) == pytest.approx(6.5)
    for before, after in zip(gradients, clipped, strict=True):
        np.testing.assert_allclose(after, before / 2)
    for before, after in zip(gradients, optimizers.clip_by_global_norm(gradients, norm, 13.5), strict=True):
        np.testing.assert_array_equal(before, after)
    expected, _ = tf.clip_by_global_norm(gradients, 2.0)
    for a, b in zip(optimizers.clip_by_global_norm(gradients, norm, 2.0), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_clipping_leaves_zero_gradients_alone():
    gradients = [tf.zeros([3])]
    clipped = optimizers.clip_by_global_norm(gradients, optimizers.global_norm(gradients), 1.0)
    np.testing.assert_array_equal(clipped[0], np.zeros(3))


@BOTH
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_checkpoint_holds_the_slots(name, tmp_path, make):
    config = OptimizerConfig(optimizer=name)
    weights, optimizer = run(make, config)
    assert len(optimizer.variables) == len(SHAPES) * (2 if name == "adam" else 1)
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "state"))
    fresh = make(config, weights)
    assert all(not np.any(slot) for slot in fresh.variables)
    tf.train.Checkpoint(optimizer=fresh).read(path).assert_consumed()
    for ours, theirs in zip(optimizer.variables, fresh.variables, strict=True):
        assert np.any(ours) and ours.numpy().tobytes() == theirs.numpy().tobytes()


@BOTH
def test_slots_are_named_after_their_weights(make):
    weights = [tf.Variable(tf.ones([2, 3]), name="encoder/weight")]
    optimizer = make(dataclasses.replace(OptimizerConfig()), weights)
    assert [slot.name for slot in optimizer.variables] == ["encoder/weight:0"] * 2
    assert not any(slot.trainable for slot in optimizer.variables)
