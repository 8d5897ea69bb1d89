"""Crops that are drawn where the foreground is."""

import numpy as np
import pytest

from unet_lowlevel.config import IGNORED
from unet_lowlevel.data.foreground import SQUARE, foreground_squares, start_on_foreground
from unet_lowlevel.data.pipeline import TrainingBatches
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.settings import resolve


def test_squares_are_those_that_show_a_class():
    label = np.zeros((100, 75), np.uint8)
    label[15:17, 40] = label[99, 74] = 3
    label[5, 0] = 1
    label[50, 50] = IGNORED
    one, three = foreground_squares(label)
    assert one.tolist() == [[0, 0]]
    assert three.tolist() == [[0, 32], [16, 32], [96, 64]]
    assert foreground_squares(np.full((20, 20), IGNORED, np.uint8)) == []


@pytest.mark.parametrize("margin", [0, 40])
@pytest.mark.parametrize("size", [(300, 500), (100, 500), (17, 300)])
def test_a_crop_shows_the_square_in_its_output_and_stays_in_the_image(size, margin):
    rng, crop, half = np.random.default_rng(0), 100, margin // 2
    label = np.zeros(size, np.uint8)
    label[tuple(rng.integers(0, size, (40, 2)).T)] = 1
    squares = foreground_squares(label)
    starts = []
    for _ in range(300):
        random = np.array([-7, -9], np.int32)
        start = start_on_foreground(random, squares, size, crop, margin, rng.random(4).astype(np.float32))
        starts.append(start)
        shown = []
        for axis in range(2):
            last = size[axis] + margin - half - crop
            if last < -half:  # the crop is larger than the image: no choice
                assert start[axis] == random[axis]
                shown.append(slice(0, size[axis]))
            else:
                assert -half <= start[axis] <= last
                shown.append(slice(start[axis] + half, start[axis] + crop - half))
        assert label[tuple(shown)].any()
    assert len(np.unique(starts, axis=0)) > 50  # the square is not always in the middle


def test_classes_are_drawn_equally_often_and_then_their_squares():
    label = np.zeros((400, 400), np.uint8)
    label[:200] = 1
    label[380, 380] = 2
    squares, rng = foreground_squares(label), np.random.default_rng(0)
    starts = [start_on_foreground(np.zeros(2), squares, (400, 400), 64, 0, rng.random(4)) for _ in range(400)]
    assert np.mean([(start > 300).all() for start in starts]) == pytest.approx(0.5, abs=0.06)
    assert {int(start[0]) // SQUARE for start in starts} >= set(range(9))


def samples():
    rng, found = np.random.default_rng(0), []
    for i in range(4):
        label = np.zeros((250, 350), np.uint8)
        if i:  # the first has no foreground
            row, column = rng.integers(0, (240, 340))
            label[row : row + 4, column : column + 4] = 1
        found.append(Sample(f"s{i}", rng.integers(0, 255, (250, 350, 1)).astype(np.uint8), label))
    return found


@pytest.mark.parametrize("flags", [{}, {"padding": "valid", "crop_size": 60}])
def test_the_share_of_crops_that_show_foreground_is_the_one_that_is_wished(flags):
    shares = {}
    for wished in (0.0, 0.5, 1.0):
        given = {"in_channels": 1, "depth": 2, "crop_size": 48, "batch_size": 8, "steps_per_epoch": 25}
        config = resolve(flags=given | {"foreground_crops": wished, "augment": False} | flags)
        margin = 8 if flags else 0
        shown = []
        for _, labels, index in TrainingBatches(samples(), config).of_epoch(1):
            inner = labels.numpy()[:, margin : labels.shape[1] - margin, margin : labels.shape[2] - margin]
            shown += inner[index.numpy() > 0].any((1, 2)).tolist()
        shares[wished] = np.mean(shown)
    assert shares[0.0] < 0.1 and shares[1.0] == 1
    assert shares[0.5] == pytest.approx((1 + shares[0.0]) / 2, abs=0.1)


def test_the_others_are_the_crops_that_they_were():
    """And the same seed gives the same crops again."""
    flags = {"in_channels": 1, "depth": 2, "crop_size": 48, "batch_size": 8, "steps_per_epoch": 5}
    epochs = []
    for share in (0.0, 0.5, 0.5):
        config = resolve(flags=flags | {"foreground_crops": share})
        epochs.append(np.concatenate([images.numpy() for images, *_ in TrainingBatches(samples(), config).of_epoch(2)]))
    np.testing.assert_array_equal(epochs[1], epochs[2])
    same = (epochs[0] == epochs[1]).all((1, 2, 3))
    assert 0.3 < same.mean() < 0.9
