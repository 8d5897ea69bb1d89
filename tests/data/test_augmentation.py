"""Augmentation: image and label change alike, labels stay labels, and the seed decides everything."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.config import AugmentationConfig
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.data.augmentation import augment, change_gray_values, flip_and_turn, random_start

OFF = AugmentationConfig(flips=False, quarter_turns=False, brightness=0.0, contrast=0.0, gamma=0.0, noise=0.0)


def numbered(height, width):
    """An image whose pixels are their own numbers, and the same as label."""
    label = np.arange(height * width, dtype=np.int32).reshape(height, width)
    return tf.constant(label[..., np.newaxis], tf.float32), tf.constant(label)


def random_crop(image, label, crop, margin, seed):
    """The pixels of a random window."""
    start = random_start(tf.shape(label), crop, margin, seed)
    rows, columns = (mirror_indices(start[i], crop[i], label.shape[i]) for i in range(2))
    return [tf.gather(tf.gather(pixels, rows, axis=0), columns, axis=1) for pixels in (image, label)]


def dihedral_group(label):
    """The eight pictures that flips and quarter turns make of a square."""
    turned = [np.rot90(label, k) for k in range(4)]
    return turned + [picture[:, ::-1] for picture in turned]


@pytest.mark.parametrize(
    ("flips", "turns", "expected"),
    [(True, True, range(8)), (False, True, range(4)), (True, False, (0, 2, 4, 6)), (False, False, (0,))],
)
def test_flips_and_turns_are_those_of_the_square(flips, turns, expected):
    image, label = numbered(5, 5)
    config = dataclasses.replace(OFF, flips=flips, quarter_turns=turns)
    group = dihedral_group(label.numpy())
    seen = []
    for seed in range(200):
        new_image, new_label = flip_and_turn(image, label, config, [0, seed])
        np.testing.assert_array_equal(new_image[..., 0], new_label)
        seen.append(next(i for i, picture in enumerate(group) if np.array_equal(picture, new_label)))
    counts = np.bincount(seen, minlength=8)
    assert set(np.flatnonzero(counts)) == set(expected)
    assert counts[list(expected)].min() > 0.5 * 200 / len(expected)


def test_weights_stay_with_their_labels():
    image, label = numbered(5, 5)
    for seed in range(20):
        changed = augment(image, label, AugmentationConfig(), [2, seed], tf.cast(label, tf.float32))
        np.testing.assert_array_equal(changed[1], changed[2])
    assert len(augment(image, label, OFF, [0, 0])) == 2
    assert len(augment(image, label, AugmentationConfig(augment=False), [0, 0], label)) == 3


def test_oblong_crops_are_not_turned_by_quarters():
    image, label = numbered(4, 6)
    for seed in range(20):
        assert flip_and_turn(image, label, AugmentationConfig(), [1, seed])[1].shape == (4, 6)


def test_crops_lie_inside_and_reach_every_border():
    image, label = numbered(10, 12)
    corners = []
    for seed in range(300):
        new_image, new_label = random_crop(image, label, (8, 8), 0, [seed, 0])
        np.testing.assert_array_equal(new_image[..., 0], new_label)
        top, left = divmod(int(new_label[0, 0]), 12)
        np.testing.assert_array_equal(new_label, label[top : top + 8, left : left + 8])
        corners.append((top, left))
    assert set(corners) == {(top, left) for top in range(3) for left in range(5)}


def test_small_images_are_mirrored_around_their_middle():
    image, label = numbered(4, 20)
    crop = random_crop(image, label, (8, 8), 0, [3, 0])[1].numpy()
    left = int(crop[2, 0])
    expected = np.pad(label.numpy(), ((2, 2), (0, 0)), mode="reflect")[:, left : left + 8]
    np.testing.assert_array_equal(crop, expected)


def test_valid_crops_let_the_output_reach_the_border():
    """With a margin of 4, the middle 4 x 4 of an 8 x 8 crop visits every pixel of a 6 x 6 image."""
    image, label = numbered(6, 6)
    visited = set()
    for seed in range(200):
        crop = random_crop(image, label, (8, 8), 4, [seed, 0])[1].numpy()
        visited |= set(crop[2:6, 2:6].ravel())
    assert visited == set(range(36))


def test_gray_values_change_by_the_equations():
    image = tf.constant(np.random.default_rng(0).normal(size=(6, 6, 1)), tf.float32)
    x = image.numpy().astype(np.float64)
    brightness = dataclasses.replace(OFF, brightness=0.5)
    shifts = [float(tf.reduce_mean(change_gray_values(image, brightness, [0, s]) - image)) for s in range(50)]
    assert -0.5 <= min(shifts) < -0.3 and 0.3 < max(shifts) <= 0.5
    contrast = change_gray_values(image, dataclasses.replace(OFF, contrast=0.5), [0, 1]).numpy()
    factors = (contrast - x.mean()) / (x - x.mean())
    assert factors.std() < 1e-5 and 0.5 <= factors.mean() <= 1.5
    gamma = change_gray_values(image, dataclasses.replace(OFF, gamma=0.5), [0, 1]).numpy()
    assert np.isclose(gamma.min(), x.min(), atol=1e-6) and np.isclose(gamma.max(), x.max(), atol=1e-6)
    order = np.argsort(x.ravel())
    assert (np.diff(gamma.ravel()[order]) >= 0).all() and not np.allclose(gamma, x, atol=1e-3)
    noisy = dataclasses.replace(OFF, noise=0.5)
    noises = [change_gray_values(tf.zeros([64, 64, 1]), noisy, [0, s]).numpy() for s in range(50)]
    deviations = [noise.std() for noise in noises]  # uniform from 0 to the setting
    assert (
        min(deviations) < 0.05
        and 0.45 < max(deviations) < 0.52
        and np.mean(deviations) == pytest.approx(0.25, abs=0.05)
    )
    assert max(abs(noise.mean()) for noise in noises) < 0.05
    np.testing.assert_array_equal(change_gray_values(image, OFF, [0, 1]), image)


def test_constant_images_stay_finite():
    changed = change_gray_values(tf.zeros([4, 4, 1]), AugmentationConfig(gamma=0.9), [0, 0])
    assert np.isfinite(changed).all()


def test_the_seed_decides_and_labels_stay_labels():
    image = tf.random.stateless_normal([16, 16, 3], [0, 0])
    label = tf.cast(image[..., 0] > 0, tf.int32) * 2
    first = augment(image, label, AugmentationConfig(), [5, 6])
    again = augment(image, label, AugmentationConfig(), [5, 6])
    other = augment(image, label, AugmentationConfig(), [5, 7])
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])
    assert set(np.unique(first[1])) == {0, 2}
    untouched = augment(image, label, AugmentationConfig(augment=False), [5, 6])
    np.testing.assert_array_equal(untouched[0], image)
