"""What every op must pass: the oracle's values, eager and in a graph, and the slopes of finite differences."""

import numpy as np
import numpy_reference
import tensorflow as tf


def normal(*shape, seed=0):
    """Reproducible normal values, float64."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def assert_computes(op, arrays, expected, tolerance=1e-5):
    """`op(*arrays)` gives `expected`: in float32, in float64, and in a graph that knows ranks and channels only."""
    for dtype, limit in [(np.float32, tolerance), (np.float64, 1e-10)]:
        tensors = [tf.constant(array, dtype) for array in arrays]
        outputs = op(*tensors)
        assert outputs.dtype == dtype
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=limit)
        specs = [
            tf.TensorSpec([None, None, None, t.shape[3]] if i == 0 and t.shape.rank == 4 else t.shape, t.dtype)
            for i, t in enumerate(tensors)
        ]
        in_graph = tf.function(op, input_signature=specs, autograph=False)(*tensors)
        np.testing.assert_allclose(in_graph, outputs, rtol=0, atol=1e-6)


def assert_gradients(op, arrays, tolerance=1e-7):
    """The tape's gradient of a weighted sum of the outputs is that of central differences, for every argument."""
    tensors = [tf.constant(array, tf.float64) for array in arrays]
    # Weights of their own for the outputs: a plain sum would hide errors that cancel.
    shares = tf.constant(normal(*op(*tensors).shape, seed=99))
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(op(*tensors) * shares)
    for i, gradient in enumerate(tape.gradient(total, tensors)):

        def along(array, i=i):
            return tf.reduce_sum(op(*tensors[:i], tf.constant(array), *tensors[i + 1 :]) * shares)

        expected = numpy_reference.numerical_gradient(along, np.asarray(arrays[i], np.float64))
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))
