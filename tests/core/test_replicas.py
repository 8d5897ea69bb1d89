"""What replicas sum, as far as a single process can show it; see also training/test_distributed.py."""

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.core import replicas


def of_several(number, monkeypatch, count=3):
    """As if this were a replica of several that all hold the same values."""

    class Context:
        num_replicas_in_sync = count
        replica_id_in_sync_group = number

        def all_reduce(self, operation, values):
            assert operation == tf.distribute.ReduceOp.SUM
            return tf.nest.map_structure(lambda value: count * value, values)

    monkeypatch.setattr(tf.distribute, "get_replica_context", Context)


def test_alone_every_sum_is_itself():
    values = [tf.constant(2.0), tf.constant([3.0])]
    assert replicas.alone()
    assert replicas.summed(values) is values
    np.testing.assert_array_equal(replicas.images_before(tf.zeros([5, 1])), [0])
    np.testing.assert_array_equal(replicas.mean_of_batch(tf.constant([[1.0, 2.0], [5.0, 4.0]]), [0]), [3, 3])


def test_sums_and_means_of_three_that_are_alike(monkeypatch):
    of_several(1, monkeypatch)
    values = tf.constant([[1.0, 2.0], [5.0, 4.0]])
    np.testing.assert_array_equal(replicas.summed(values), 3 * values)
    np.testing.assert_array_equal(replicas.mean_of_batch(values, [0]), [3, 3])
    variable = tf.Variable(values)
    replicas.average_variables([variable], tf.zeros([5, 1]))
    np.testing.assert_array_equal(variable, values)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (3, 3, 3, 1), (1, 5, 7, 2)])
def test_each_replica_gets_its_part_of_the_random_numbers(before, shape, monkeypatch):
    whole = tf.random.stateless_uniform([before + shape[0], *shape[1:]], [5, 7])
    of_several(0, monkeypatch)
    part = replicas.uniform_of_batch(tf.constant(shape), tf.constant([5, 7, before]))
    np.testing.assert_array_equal(part, whole[before:])
