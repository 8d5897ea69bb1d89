"""Experiments on learning: nodules, and a learning rate that grows."""

import numpy as np
import pytest
from small_experiments import SMALL

from unet_lowlevel.laboratory.learning import CUT, HIGHEST, LOWEST, range_test, with_nodule
from unet_lowlevel.laboratory.trials import config_of, training_slices


def test_a_nodule_is_a_bright_disc_in_a_lung():
    image, mask = np.full((40, 40), 200, np.uint8), np.zeros((40, 40), np.uint8)
    mask[20, 20] = 1
    image[20, 20] = 10
    changed, label = with_nodule(image, mask, np.random.default_rng(0))
    assert label[20, 20] == 1 and 12 < label.sum() < 30 and label.dtype == changed.dtype == np.uint8
    assert changed[20, 20] == 90 and changed[20, 21] == 255  # not beyond white
    assert np.array_equal(changed[label == 0], image[label == 0])
    same, none = with_nodule(image, np.zeros_like(mask), np.random.default_rng(0))
    assert same is image and not none.any()


def test_the_learning_rate_of_a_range_test_grows_by_a_factor_each_step():
    curve = range_test(config_of(SMALL), *training_slices(SMALL))
    steps = SMALL.epochs * SMALL.steps_per_epoch
    assert curve["x"] == pytest.approx(np.geomspace(LOWEST, HIGHEST, steps), rel=1e-4)
    assert len(curve["y"]) == steps and 0 < min(curve["y"]) <= max(curve["y"]) <= CUT
