"""Augmentation: image and label change alike, labels stay labels, and the seed decides everything."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from unet_lowlevel.config import AugmentationConfig, Config
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.data.augmentation import (
    augment,
    blurred,
    change_gray_values,
    flip_and_turn,
    fold_in,
    lower_resolution,
    random_start,
)
from unet_lowlevel.data.deformation import random_field

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


@pytest.mark.parametrize(("axes", "expected"), [("left_right", np.fliplr), ("up_down", np.flipud)])
def test_flips_of_one_axis(axes, expected):
    image, label = numbered(5, 5)
    config = dataclasses.replace(OFF, flips=True, flip_axes=axes)
    labels = [flip_and_turn(image, label, config, [0, seed])[1].numpy() for seed in range(100)]
    flipped = [np.array_equal(found, expected(label)) for found in labels]
    assert all(np.array_equal(found, label) or is_flipped for found, is_flipped in zip(labels, flipped, strict=True))
    assert 35 < sum(flipped) < 65


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


def drawn(config, count=100, shape=(12, 13, 1), first=0):
    """An image and what `count` seeds make of it."""
    image = tf.random.stateless_normal(shape, [1, 2])
    change = tf.function(lambda seed: change_gray_values(image, config, seed))
    return image.numpy(), np.stack([change(tf.constant([first, seed])).numpy() for seed in range(count)])


def before_probabilities(image, config, seed):
    """The first four changes as they were when these were all, each made of every image."""
    gamma, contrast, brightness, noise = tf.unstack(tf.random.stateless_uniform([4], fold_in(seed, 0), -1.0, 1.0))
    low, high = tf.reduce_min(image), tf.reduce_max(image)
    span = tf.maximum(high - low, 1e-6)
    image = low + span * tf.pow((image - low) / span, 1.0 + config.gamma * gamma)
    mean = tf.reduce_mean(image)
    image = mean + (1.0 + config.contrast * contrast) * (image - mean)
    image = image + config.brightness * brightness
    return image + config.noise * tf.abs(noise) * tf.random.stateless_normal(tf.shape(image), fold_in(seed, 1))


def test_by_default_not_a_bit_depends_on_what_is_off():
    config = AugmentationConfig()
    image, changed = drawn(config, 20)
    expected = tf.function(lambda seed: before_probabilities(image, config, seed))
    for seed, found in enumerate(changed):
        np.testing.assert_array_equal(found, expected(tf.constant([0, seed])))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("shape", [(9, 14, 1), (5, 3, 3), (1, 6, 2)])
def test_blur_is_that_of_scipy_borders_included(sigma, shape):
    """Also where the kernel is wider than the image, which is mirrored as often as it takes."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = blurred(tf.constant(image), tf.constant(sigma), 7)
    options = {"mode": "mirror", "radius": 7, "axes": (0, 1)}
    np.testing.assert_allclose(found, ndimage.gaussian_filter(image.astype(np.float64), sigma, **options), atol=2e-6)


def test_blur_by_nothing_changes_nothing():
    image = tf.random.stateless_normal([6, 7, 2], [0, 0])
    np.testing.assert_array_equal(blurred(image, tf.constant(0.0), 4), image)


def test_blur_is_uniform_up_to_the_setting():
    """The standard deviation is seen from a white pixel; pixels sample the Gaussian, so small ones look smaller."""
    image = np.zeros((25, 25, 1), np.float32)
    image[12, 12] = 1.0
    change = tf.function(lambda seed: change_gray_values(image, dataclasses.replace(OFF, blur=2.0), seed))
    spots = [change(tf.constant([0, seed])).numpy()[..., 0] for seed in range(100)]
    deviations = [np.sqrt((spot.sum(0) * (np.arange(25) - 12) ** 2).sum()) for spot in spots]
    assert all(spot.sum() == pytest.approx(1, abs=1e-5) for spot in spots)
    assert min(deviations) < 0.3 and 1.8 < max(deviations) <= 2.0 and np.mean(deviations) == pytest.approx(1, abs=0.15)


def overlaps(size, small):
    """How much of each pixel lies in each of the `small` equal parts of an axis, as shares of a part; [small, size]."""
    step = size / small
    edges = np.arange(size)
    return np.array(
        [np.clip(np.minimum(edges + 1, (k + 1) * step) - np.maximum(edges, k * step), 0, None) for k in range(small)]
    ) / step  # fmt: skip


def enlarged_linearly(values, size):
    """`size` values from those at the middles of equal parts; beyond the outer middles the outer value."""
    places = np.clip((np.arange(size) + 0.5) * len(values) / size - 0.5, 0, len(values) - 1)
    return np.array([np.interp(place, np.arange(len(values)), values) for place in places])


@pytest.mark.parametrize(
    ("factor", "small"), [(1.0, (9, 14)), (1.3, (7, 11)), (2.0, (4, 7)), (3.7, (2, 4)), (99.0, (1, 1))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_low_resolution_is_area_and_linear_by_loops(factor, small, channels):
    image = np.random.default_rng(0).normal(size=(9, 14, channels)).astype(np.float32)
    found = lower_resolution(tf.constant(image), tf.constant(factor)).numpy()
    assert found.shape == image.shape
    for channel in range(channels):
        means = overlaps(9, small[0]) @ image[..., channel].astype(np.float64) @ overlaps(14, small[1]).T
        columns = np.stack([enlarged_linearly(column, 9) for column in means.T], axis=1)
        expected = np.stack([enlarged_linearly(row, 14) for row in columns])
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-5)


def test_low_resolution_is_uniform_from_one_to_the_setting():
    """A line of 1000 pixels 0, 1, 2, ... ends in the mean of its last part: half a factor from its end."""
    line = tf.range(1000.0)[tf.newaxis, :, tf.newaxis]
    config = dataclasses.replace(OFF, low_resolution=5.0)
    ends = [float(change_gray_values(line, config, [0, seed])[0, -1, 0]) for seed in range(200)]
    factors = 2 * (999.5 - np.array(ends))
    assert 0.99 < factors.min() < 1.2 and 4.8 < factors.max() < 5.01
    assert factors.mean() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("name", ["gamma", "contrast", "brightness", "blur", "low_resolution", "noise"])
def test_the_share_of_changed_images_is_the_probability(name):
    strength = {"blur": 5.0, "low_resolution": 5.0}.get(name, 0.5)  # hardly any draw is too weak to change a bit
    image, changed = drawn(dataclasses.replace(OFF, **{name: strength, f"{name}_probability": 0.3}), 400)
    untouched = (changed == image).all((1, 2, 3))
    assert (~untouched).mean() == pytest.approx(0.3, abs=0.07)
    assert len({one.tobytes() for one in changed[~untouched]}) > 10  # low resolution has few sizes
    always = drawn(dataclasses.replace(OFF, **{name: strength}), 400)[1]
    np.testing.assert_allclose(changed[~untouched], always[~untouched], atol=1e-6)
    never = drawn(dataclasses.replace(OFF, **{name: strength, f"{name}_probability": 0.0}), 20)[1]
    assert (never == image).all()


def test_changes_are_drawn_independently():
    """Of two with probability one half each, all four combinations are a quarter."""
    config = dataclasses.replace(
        OFF, brightness=0.5, contrast=0.5, brightness_probability=0.5, contrast_probability=0.5
    )
    image, changed = drawn(config, 400)
    shifted = abs(changed.mean((1, 2, 3)) - image.mean()) > 1e-5
    stretched = abs(changed.std((1, 2, 3)) - image.std()) > 1e-5
    for one in (shifted, ~shifted):
        for other in (stretched, ~stretched):
            assert (one & other).mean() == pytest.approx(0.25, abs=0.07)


def test_no_two_draws_of_a_crop_have_the_same_seed(monkeypatch):
    """Whether something is changed must not say how far: equal seeds would draw equal numbers."""
    seeds = []

    def spied(draw):
        def spy(shape, seed, *limits):
            seeds.append(tuple(np.asarray(seed).tolist()))
            return draw(shape, seed, *limits)

        return spy

    for name in ("stateless_uniform", "stateless_normal"):
        monkeypatch.setattr(tf.random, name, spied(getattr(tf.random, name)))
    config = Config.of("strong_augmentation", elastic=5.0, noise_probability=1.0).augmentation
    image, label = numbered(8, 8)
    augment(image, label, config, [3, 4])
    random_field((8, 8), config, fold_in([3, 4], 3))  # as in the pipeline
    assert len(seeds) == len(set(seeds)) == 1 + 4 + 4


def test_gamma_of_the_inverse_is_that_of_the_negative():
    """It keeps both ends; an exponent of 1.5 of the inverse brightens, where one of the image darkens."""
    config = dataclasses.replace(OFF, gamma=0.5, gamma_probability=0.0, gamma_inverse_probability=0.4)
    image, changed = drawn(config, 400)
    low, high = image.min(), image.max()
    inverse = (high - image.astype(np.float64)) / (high - low)
    middle = np.argsort(image.ravel())[image.size // 2]
    exponents = np.log((high - changed.reshape(400, -1)[:, middle]) / (high - low)) / np.log(inverse.ravel()[middle])
    for found, exponent in zip(changed, exponents, strict=True):
        np.testing.assert_allclose(found, high - (high - low) * inverse**exponent, atol=1e-4)
    touched = (changed != image).any((1, 2, 3))
    assert touched.mean() == pytest.approx(0.4, abs=0.07)
    assert 0.5 <= exponents.min() < 0.55 and 1.45 < exponents.max() <= 1.5
    both = dataclasses.replace(config, gamma_probability=1.0)
    apart = drawn(dataclasses.replace(OFF, gamma=0.5), 400)[1]
    np.testing.assert_array_equal((drawn(both, 400)[1] != apart).any((1, 2, 3)), touched)
