"""The moving average of the weights: its equation, its swap with them, what a checkpoint holds of it."""

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.core.moving_average import MovingAverage


def test_moving_average_follows_its_equation():
    random = np.random.default_rng(0)
    shapes = [(3, 3, 2, 4), (4,), (2, 5), ()]
    variables = [tf.Variable(random.normal(size=shape).astype(np.float32)) for shape in shapes]
    average = MovingAverage(variables, 0.3)
    expected = [variable.numpy().astype(np.float64) for variable in variables]
    for step in range(6):
        for variable in variables:
            variable.assign_add(tf.ones_like(variable))
        average.update(tf.constant(step, tf.int64))
        decay = min(0.3, (1 + step) / (10 + step))  # the limit is reached at step 3
        expected = [decay * a + (1 - decay) * v.numpy() for a, v in zip(expected, variables, strict=True)]
    for a, b in zip(average.averages, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    assert not any(a.trainable for a in average.averages)


def test_moving_average_starts_at_the_variables_and_apart_from_them():
    variable = tf.Variable([1.0, 2.0])
    average = MovingAverage([variable], 0.9)
    variable.assign([5.0, 6.0])
    np.testing.assert_array_equal(average.averages[0], [1.0, 2.0])


def test_in_place_swaps_and_restores_bit_for_bit():
    values = np.array([0.1, 1e-40, -0.0, 3e38], np.float32)
    variable = tf.Variable(values)
    average = MovingAverage([variable], 0.9)
    average.averages[0].assign([1.0, 2.0, 3.0, 4.0])
    with average.in_place():
        np.testing.assert_array_equal(variable, [1.0, 2.0, 3.0, 4.0])
    assert variable.numpy().tobytes() == values.tobytes()
    with pytest.raises(RuntimeError, match="full disk"), average.in_place():
        raise RuntimeError("full disk")
    assert variable.numpy().tobytes() == values.tobytes()
    np.testing.assert_array_equal(average.averages[0], [1.0, 2.0, 3.0, 4.0])


def test_moving_average_does_not_own_the_variables():
    average = MovingAverage([tf.Variable(1.0, name="kernel")], 0.9)
    assert len(average.variables) == 1 and average.variables[0] is average.averages[0]


def test_checkpoint_holds_the_averages(tmp_path):
    variable = tf.Variable([1.0, 2.0])
    average = MovingAverage([variable], 0.9)
    average.averages[0].assign([7.0, 8.0])
    path = tf.train.Checkpoint(average=average).write(str(tmp_path / "state"))
    fresh = MovingAverage([variable], 0.9)
    tf.train.Checkpoint(average=fresh).read(path).assert_consumed()
    np.testing.assert_array_equal(fresh.averages[0], [7.0, 8.0])
