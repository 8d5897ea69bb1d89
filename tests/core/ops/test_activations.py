"""Activations: values, slopes, and the far negative end."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from op_checks import assert_computes, assert_gradients, normal

from unet_lowlevel.core.ops.activations import ACTIVATIONS, elu, relu
from unet_lowlevel.settings import settings


def test_by_hand():
    values = tf.constant([-1e4, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(elu(values), [-1.0, np.exp(-1.0) - 1.0, 0.0, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(relu(values), [0, 0, 0, 2])


@pytest.mark.parametrize(("op", "oracle"), [(elu, numpy_reference.elu), (relu, numpy_reference.relu)])
def test_equals_reference(op, oracle):
    images = 3 * normal(2, 3, 4, 2)
    assert_computes(op, [images], oracle(images))
    assert_gradients(op, [images])


def test_every_choice_of_the_settings_exists():
    assert set(ACTIVATIONS) == set(settings()["activation"][1].metadata["choices"])
