"""Deformation against SciPy, against float64 loops over Keys' kernel, and against cases that can be seen by eye."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from unet_lowlevel.config import AugmentationConfig
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.data.deformation import (
    affine_matrix,
    cubic_basis,
    deforms,
    flat_index,
    random_field,
    resampled,
    window_of_field,
)

PLAIN = AugmentationConfig()
EVERYTHING = AugmentationConfig(elastic=4.0, elastic_grid=4, rotation=40.0, scaling=0.3, shear=15.0)
RANDOM = np.random.default_rng(0)


def kernel(s):
    """Keys 1981, a = -1/2, by the distance s of a value."""
    s = abs(s)
    if s < 1:
        return 1.5 * s**3 - 2.5 * s**2 + 1
    return -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0.0


def interpolated_by_loops(values, size):
    """`size` values evenly over the range of `values`, one value beyond each end from the parabola through three."""
    beyond = [np.polyval(np.polyfit([0, 1, 2], part, 2), -1) for part in (values[:3], values[::-1][:3])]
    longer = [beyond[0], *values, beyond[1]]
    places = [y * (len(values) - 1) / (size - 1) + 1 for y in range(size)]
    return np.array([sum(value * kernel(place - i) for i, value in enumerate(longer)) for place in places])


def deformed(image, label, field, start=(0, 0), interpolation="bilinear"):
    """What the pipeline makes of an image [H,W,C] and a label [H,W], reading no more than the window."""
    start, extent, field = window_of_field(tf.constant(start), tf.constant(field, tf.float32), interpolation)
    rows, columns = (mirror_indices(start[i], extent[i], label.shape[i]).numpy() for i in range(2))
    window = rows[:, None], columns
    image, label = resampled(tf.constant(image[window]), [tf.constant(label[window])], field, interpolation)
    return image.numpy(), label.numpy()


def grid_of(height, width):
    return np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij")).astype(np.float64)


def assert_field(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("size", "points"), [(9, 3), (10, 3), (3, 3), (2, 3), (13, 5), (30, 4), (5, 8)])
def test_basis_is_keys_cubic_convolution(size, points):
    values = RANDOM.normal(size=points)
    np.testing.assert_allclose(cubic_basis(size, points) @ values, interpolated_by_loops(values, size), atol=1e-12)


@pytest.mark.parametrize(("step", "points"), [(4, 3), (3, 5), (1, 4)])
def test_basis_passes_through_the_points(step, points):
    values = RANDOM.normal(size=points)
    np.testing.assert_allclose((cubic_basis(step * (points - 1) + 1, points) @ values)[::step], values, atol=1e-12)


def test_basis_is_exact_for_parabolas_and_smooth():
    x = np.linspace(0, 4, 41)
    np.testing.assert_allclose(cubic_basis(41, 5) @ (3 + np.arange(5) - 0.5 * np.arange(5) ** 2), 3 + x - 0.5 * x**2)
    slopes = np.diff(cubic_basis(4001, 5) @ RANDOM.normal(size=5)) * 1000
    assert np.abs(np.diff(slopes)).max() < 0.05  # no kink at a point


def test_nothing_asked_for_moves_nothing():
    assert not deforms(PLAIN) and not deforms(dataclasses.replace(EVERYTHING, augment=False))
    assert all(
        deforms(dataclasses.replace(PLAIN, **{name: 0.1})) for name in ("elastic", "rotation", "scaling", "shear")
    )
    assert_field(random_field((20, 31), PLAIN, [0, 1]), grid_of(20, 31))


def test_displacements_are_normal_at_the_points_and_cubic_between():
    config = AugmentationConfig(elastic=10.0)
    displacements = [random_field((9, 13), config, [0, seed]).numpy() - grid_of(9, 13) for seed in range(300)]
    at_points = np.array(displacements)[:, :, ::4, ::6].reshape(300, -1)  # 2 x 3 x 3 numbers each
    assert at_points.std() == pytest.approx(10, abs=0.35) and abs(at_points.mean()) < 0.5
    assert (np.abs(at_points) < 10).mean() == pytest.approx(0.683, abs=0.03)
    assert np.abs(np.corrcoef(at_points.T) - np.eye(18)).max() < 0.25
    for displacement in displacements[:3]:
        for component in displacement:
            columns = np.stack([interpolated_by_loops(row, 13) for row in component[::4, ::6]])
            expected = np.stack([interpolated_by_loops(column, 9) for column in columns.T], axis=1)
            assert_field(component, expected)


@pytest.mark.parametrize(
    ("setting", "matrix"),
    [
        ("rotation", lambda t: [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]),
        ("shear", lambda t: [[1, 0], [math.tan(t), 1]]),
    ],
)
def test_angles_are_uniform_within_the_setting(setting, matrix):
    config = dataclasses.replace(PLAIN, **{setting: 40.0})
    angles = []
    for seed in range(200):
        found = affine_matrix(config, [0, seed]).numpy()
        angles.append(math.atan2(found[1, 0], found[0, 0]))
        np.testing.assert_allclose(found, matrix(angles[-1]), atol=1e-6)
    angles = np.degrees(angles)
    assert -40 <= angles.min() < -36 and 36 < angles.max() <= 40
    assert angles.std() == pytest.approx(40 / math.sqrt(3), rel=0.15)


def test_scales_are_uniform_within_the_setting():
    """A scale of 2 takes the neighbour from half a pixel away: what is seen becomes larger."""
    config = AugmentationConfig(scaling=0.3)
    found = [affine_matrix(config, [0, seed]).numpy() for seed in range(200)]
    scales = np.array([1 / matrix[0, 0] for matrix in found])
    for matrix in found:
        np.testing.assert_allclose(matrix, np.eye(2) * matrix[0, 0], atol=1e-7)
    assert 0.7 <= scales.min() < 0.72 and 1.28 < scales.max() <= 1.3


def test_the_share_of_deformed_crops_is_the_probability():
    """For each of the four by itself; those that are left as they are stay exactly so."""
    config = dataclasses.replace(EVERYTHING, deformation_probability=0.3)
    always = tf.function(lambda seed: affine_matrix(EVERYTHING, seed))
    some = tf.function(lambda seed: affine_matrix(config, seed))
    chosen = []
    for seed in range(400):
        (a, b), (c, d) = some(tf.constant([0, seed])).numpy()
        scale = (a * d - b * c) ** -0.5
        angle = math.atan2(-b, d)
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shear = (rotation.T @ [[a, b], [c, d]])[1, 0] * scale
        chosen.append([abs(value) > 1e-6 for value in (angle, shear, scale - 1)])
        if all(chosen[-1]):
            np.testing.assert_array_equal([[a, b], [c, d]], always(tf.constant([0, seed])))
        if not any(chosen[-1]):
            np.testing.assert_array_equal([[a, b], [c, d]], np.eye(2))
    assert np.mean(chosen, 0) == pytest.approx(0.3, abs=0.07)
    assert np.abs(np.corrcoef(np.transpose(chosen)) - np.eye(3)).max() < 0.15
    elastic = dataclasses.replace(PLAIN, elastic=10.0, deformation_probability=0.3)
    field = tf.function(lambda seed: random_field((5, 5), elastic, seed))
    moved = [abs(field(tf.constant([0, seed])).numpy() - grid_of(5, 5)).max() > 1e-4 for seed in range(400)]
    assert np.mean(moved) == pytest.approx(0.3, abs=0.07)


def test_by_default_every_crop_is_deformed_by_the_draws_of_before():
    seed = tf.constant([3, 4])
    angle, shear, scale = tf.unstack(
        tf.constant([math.radians(40.0), math.radians(15.0), 0.3]) * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    )
    cos, sin, tan = tf.cos(angle), tf.sin(angle), tf.tan(shear)
    expected = tf.reshape(tf.stack([cos - sin * tan, -sin, sin + cos * tan, cos]), [2, 2]) / (1.0 + scale)
    np.testing.assert_array_equal(affine_matrix(EVERYTHING, seed), expected)
    points = np.stack(np.meshgrid([0.0, 4.0, 8.0], [0.0, 4.0, 8.0], indexing="ij")).reshape(2, -1)
    draws = tf.random.stateless_normal([2, 9], tf.random.experimental.stateless_fold_in(seed, 1))
    found = random_field((9, 9), dataclasses.replace(PLAIN, elastic=10.0), seed).numpy()[:, ::4, ::4]
    assert_field(found, (points + 10.0 * draws.numpy()).reshape(2, 3, 3))


def test_all_three_are_one_matrix():
    """Scale first, then shear, then rotation, as the docstring has it; the draws are those of each alone."""
    turn, shear, scale = (
        affine_matrix(dataclasses.replace(PLAIN, **{name: getattr(EVERYTHING, name)}), [3, 4]).numpy()
        for name in ("rotation", "shear", "scaling")
    )
    np.testing.assert_allclose(affine_matrix(EVERYTHING, [3, 4]), turn @ shear @ scale, atol=1e-6)


@pytest.mark.parametrize("name", ["rotation", "scaling", "shear"])
@pytest.mark.parametrize("seed", [0, 1])
def test_affine_transforms_are_those_of_scipy(name, seed):
    config = dataclasses.replace(PLAIN, **{name: getattr(EVERYTHING, name)})
    image, label = RANDOM.normal(size=(24, 31, 1)).astype(np.float32), RANDOM.integers(0, 9, (24, 31))
    field = random_field((24, 31), config, [seed, 5])
    matrix = affine_matrix(config, tf.random.experimental.stateless_fold_in([seed, 5], 0)).numpy()
    middle = np.array([23, 30]) / 2
    options = {"matrix": matrix, "offset": middle - matrix @ middle, "mode": "mirror"}
    new_image, new_label = deformed(image, label, field)
    expected = ndimage.affine_transform(image[..., 0].astype(np.float64), order=1, **options)
    np.testing.assert_allclose(new_image[..., 0], expected, atol=1e-3)
    assert (new_label == ndimage.affine_transform(label, order=0, **options)).mean() > 0.995  # but for ties


@pytest.mark.parametrize("start", [(0, 0), (-7, 12), (25, -9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_field_is_resampled_as_by_scipy(start, channels):
    """With fields that leave the image on all sides, where it is mirrored."""
    image = RANDOM.normal(size=(33, 21, channels)).astype(np.float32)
    label = RANDOM.integers(0, 200, (33, 21)).astype(np.uint8)
    for seed in range(5):
        field = random_field((16, 28), EVERYTHING, [9, seed]).numpy()
        new_image, new_label = deformed(image, label, field, start)
        places = field.astype(np.float64) + np.reshape(start, (2, 1, 1))
        for channel in range(channels):
            expected = ndimage.map_coordinates(image[..., channel].astype(np.float64), places, order=1, mode="mirror")
            np.testing.assert_allclose(new_image[..., channel], expected, atol=1e-4)
        assert (new_label == ndimage.map_coordinates(label, places, order=0, mode="mirror")).mean() > 0.995
        assert new_label.dtype == np.uint8


def test_bicubic_by_loops():
    image, label = RANDOM.normal(size=(12, 14, 2)).astype(np.float32), np.zeros((12, 14), np.uint8)
    field = random_field((9, 8), EVERYTHING, [1, 1]).numpy()
    found, _ = deformed(image, label, field, (2, 3), "bicubic")
    padded = np.pad(image.astype(np.float64), ((40, 40), (40, 40), (0, 0)), mode="reflect")
    for y, x in np.ndindex(9, 8):
        row, column = field[:, y, x].astype(np.float64) + np.array([42, 43])
        expected = sum(
            kernel(row - i) * kernel(column - j) * padded[i, j]
            for i in range(int(row) - 2, int(row) + 4)
            for j in range(int(column) - 2, int(column) + 4)
        )
        np.testing.assert_allclose(found[y, x], expected, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_whole_shifts_copy_pixels(interpolation):
    image, label = RANDOM.normal(size=(10, 10, 1)).astype(np.float32), RANDOM.integers(0, 9, (10, 10))
    for shift in ((0, 0), (3, -2), (-12, 5)):
        new_image, new_label = deformed(
            image, label, grid_of(10, 10) + np.reshape(shift, (2, 1, 1)), (0, 0), interpolation
        )
        top, left = 18 + shift[0], 18 + shift[1]
        for found, pixels in ((new_image[..., 0], image[..., 0]), (new_label, label)):
            np.testing.assert_array_equal(found, np.pad(pixels, 18, mode="reflect")[top : top + 10, left : left + 10])


def test_half_a_pixel_by_hand():
    image = np.array([[[0.0], [4.0]], [[8.0], [12.0]]], np.float32)
    field = np.array([[[0.5, 0.25]], [[0.0, 0.75]]])
    new_image, new_label = deformed(image, np.array([[1, 2], [3, 4]]), field)
    np.testing.assert_array_equal(new_image[..., 0], [[4.0, 5.0]])
    np.testing.assert_array_equal(new_label, [[3, 2]])


def test_image_and_label_move_together():
    """Both hold their row (or column): the deformed ones differ by the rounding of the nearest pixel only."""
    for axis in (0, 1):
        numbers = grid_of(200, 210)[axis]
        for seed in range(5):
            field = random_field((64, 64), EVERYTHING, [2, seed])
            image, label = deformed(numbers[..., None].astype(np.float32), numbers.astype(np.int32), field, (70, 70))
            assert np.abs(image[..., 0] - label).max() < 0.501
            np.testing.assert_allclose(image[..., 0], field[axis] + 70, atol=1e-3)


def test_labels_out_are_labels_in():
    label = RANDOM.choice(np.array([0, 7, 255], np.uint8), (40, 40))
    for seed in range(10):
        _, new = deformed(label[..., None].astype(np.float32), label, random_field((32, 32), EVERYTHING, [4, seed]))
        assert set(np.unique(new)) <= {0, 7, 255} and new.shape == (32, 32)


def test_the_seed_decides():
    first, again, other = (random_field((16, 16), EVERYTHING, [5, seed]).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_the_window_is_as_small_as_it_can_be_and_large_enough():
    field = np.array([[[2.0, 7.5]], [[-3.25, 1.0]]], np.float32)
    for interpolation, start, extent in (("bilinear", [12, 16], [7, 7]), ("bicubic", [11, 15], [9, 9])):
        found, size, shifted = window_of_field(tf.constant([10, 20]), tf.constant(field), interpolation)
        assert found.numpy().tolist() == start and size.numpy().tolist() == extent
        places = shifted.numpy() + found.numpy().reshape(2, 1, 1)
        np.testing.assert_array_equal(places, field + np.reshape([10, 20], (2, 1, 1)))


def test_places_that_are_rounded_up_stay_in_the_window():
    """-1000.3 + 1001 and the like round; the last one here becomes a whole number beyond its own floor."""
    below_five = np.nextafter(np.float32(5), np.float32(0))
    field = np.stack([np.array([[-1e-9, below_five, -1000.0]], np.float32)] * 2)
    image = np.ones((4, 4, 1), np.float32)
    for interpolation in ("bilinear", "bicubic"):
        found, _ = deformed(image, np.ones((4, 4), np.uint8), field, (0, 0), interpolation)
        np.testing.assert_allclose(found, 1, atol=1e-6)


def test_places_in_large_windows_are_exact():
    assert flat_index(tf.constant([[[5000.0]], [[1.0]]]), 5001).numpy().item() == 5000 * 5001 + 1
