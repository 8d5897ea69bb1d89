"""Resizing against NumPy loops over pixels and areas, and against TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from image_files import write_pairs
from skimage.transform import resize_local_mean

from unet_lowlevel.config import IGNORED, DataConfig
from unet_lowlevel.data import resolution, storage
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.formats.writing import write_image
from unet_lowlevel.data.instances import read_instances
from unet_lowlevel.data.weight_maps import separation, separation_border
from unet_lowlevel.settings import resolve

RANDOM = np.random.default_rng(0)
# Sizes and resolutions: an exact half, fractions, one pixel left, nothing to do, and less than a pixel.
SHRUNK = [((8, 6), 0.5), ((9, 7), 0.5), ((13, 10), 0.37), ((4, 30), 0.1), ((7, 5), 0.99), ((3, 4), 0.01)]
# From one size to another: the above, and larger along one axis or both.
RESIZED = [
    *(((8, 6), (4, 3)), ((9, 7), (4, 4)), ((13, 10), (5, 4)), ((4, 30), (1, 3)), ((3, 4), (1, 1))),
    *(((3, 4), (5, 5)), ((7, 4), (5, 5)), ((4, 8), (8, 4))),
]


def area_by_loops(pixels, size):
    """The mean of pixels [H,W] over each of `size` equal rectangles, by the overlap of intervals in float64."""
    found = np.zeros(size)
    heights, widths = (np.arange(n + 1) * length / n for n, length in zip(size, pixels.shape, strict=True))
    for i in range(size[0]):
        for j in range(size[1]):
            for y in range(pixels.shape[0]):
                for x in range(pixels.shape[1]):
                    down = min(y + 1, heights[i + 1]) - max(y, heights[i])
                    right = min(x + 1, widths[j + 1]) - max(x, widths[j])
                    found[i, j] += pixels[y, x] * max(down, 0) * max(right, 0)
    return found * size[0] * size[1] / pixels.size


def test_working_size_is_rounded_and_at_least_one():
    expected = [(4, 3), (4, 4), (5, 4), (1, 3), (7, 5), (1, 1)]
    assert [resolution.working_size(size, DataConfig(resolution=share)) for size, share in SHRUNK] == expected
    assert resolution.working_size((7, 900), DataConfig(image_size=64)) == (64, 64)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("size", "working"), RESIZED)
def test_pixels_of_an_image_become_the_means_of_their_area(size, working, dtype):
    image = RANDOM.integers(0, 256, (*size, 2)).astype(dtype)
    found = resolution.resized_image(image, working)
    assert found.dtype == np.float32 and found.shape[:2] == working
    for channel in range(2):
        expected = area_by_loops(image[..., channel].astype(float), found.shape[:2])
        np.testing.assert_allclose(found[..., channel], expected, rtol=1e-6)


def test_images_shrink_as_by_scikit_image():
    image = RANDOM.integers(0, 65536, (61, 47, 3)).astype(np.uint16)
    found = resolution.resized_image(image, (18, 14))
    expected = resize_local_mean(image, (18, 14), grid_mode=True, preserve_range=True, channel_axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "working"), RESIZED)
def test_pixels_of_a_label_become_the_class_of_most_of_their_area(size, working):
    for _ in range(5):
        label = RANDOM.choice(np.array([0, 1, 2, IGNORED], np.uint8), size)
        found = resolution.resized_label(label, working)
        assert found.dtype == np.uint8 and found.shape == working
        areas = [area_by_loops(label == k, found.shape) for k in range(256) if k in label]
        kinds = np.unique(label)
        largest = np.max(areas, axis=0)
        for k, area in zip(kinds, areas, strict=True):
            np.testing.assert_array_equal(found[area > largest - 1e-9] <= k, True)  # among equals the lowest
            np.testing.assert_array_equal(np.abs(area - largest)[found == k] < 1e-9, True)


def test_among_equals_the_lowest_class_wins():
    label = np.array([[2, 1, IGNORED, 0, IGNORED, 2], [1, 2, 0, IGNORED, IGNORED, 2]], np.uint8)
    assert resolution.resized_label(label, (1, 3)).tolist() == [[1, 0, 2]]
    # Of four columns, one and a third each: thirds are counted as whole numbers, which no rounding parts.
    label = np.array([[3, 1, 3, 1], [1, 3, 1, 3]], np.uint8)
    assert resolution.resized_label(label, (1, 3)).tolist() == [[1, 1, 1]]


def test_numbers_of_objects_are_those_in_the_middle():
    """Of pixels as large as three by two and a half."""
    numbers = np.arange(45).reshape(9, 5)
    rows, columns = [1, 4, 7], [1, 3]  # 1.5, 4.5, 7.5 and 1.25, 3.75
    found = resolution.resized_numbers(numbers, (3, 2))
    np.testing.assert_array_equal(found, numbers[np.ix_(rows, columns)])


def test_what_has_the_size_is_not_copied():
    image, label = np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5), np.uint8)
    assert resolution.resized_image(image, (4, 5)) is image and resolution.resized_label(label, (4, 5)) is label
    assert np.shares_memory(resolution.resized_values(image, (4, 5)), image)


def between(values, size):
    """Bilinear interpolation at the middle of every pixel, one by one."""
    found = np.zeros((*size, values.shape[-1]))
    for y in range(size[0]):
        for x in range(size[1]):
            for place, share in corners((y, x), values.shape[:2], size):
                found[y, x] += share * values[place]
    return found


def corners(pixel, small, large):
    """The four pixels around a place, and the share of each; beyond the outermost middle that pixel alone."""
    sides = []
    for at, few, many in zip(pixel, small, large, strict=True):
        place = (at + 0.5) / many * few - 0.5
        low = int(np.floor(place))
        sides.append([(min(max(low + i, 0), few - 1), abs(place - low - 1 + i)) for i in (0, 1)])
    return [((row, column), down * right) for row, down in sides[0] for column, right in sides[1]]


@pytest.mark.parametrize(
    ("small", "large"),
    [((4, 3), (8, 6)), ((5, 4), (9, 7)), ((1, 3), (4, 30)), ((1, 1), (3, 4)), ((9, 7), (4, 3)), ((2, 9), (5, 4))],
)
def test_values_are_interpolated_linearly(small, large):
    values = RANDOM.random((*small, 3), np.float32)
    found = resolution.resized_values(values, large)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, between(values, large), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, tf.image.resize(values, large), rtol=0, atol=1e-6)


def test_strips_are_the_whole(monkeypatch):
    """Of enlarging, and inside of shrinking, where a strip begins within a pixel."""
    image, label = RANDOM.integers(0, 256, (50, 31, 2), np.uint8), RANDOM.integers(0, 3, (50, 31), np.uint8)
    size = (18, 11)
    whole = resolution.resized_image(image, size), resolution.resized_label(label, size)
    monkeypatch.setattr(resolution, "STRIP", 200)
    np.testing.assert_array_equal(resolution.resized_image(image, size), whole[0])
    np.testing.assert_array_equal(resolution.resized_label(label, size), whole[1])
    rows = list(resolution.strips((50, 31)))
    assert len(rows) == 9 and rows[-1] == slice(48, 50)
    parts = [resolution.resized_values(whole[0], (50, 31), part) for part in rows]
    np.testing.assert_array_equal(np.concatenate(parts), resolution.resized_values(whole[0], (50, 31)))


def test_weight_maps_are_those_of_the_shrunk_objects(tmp_path):
    """Two objects that touch: the border is one pixel of the network wide, and its weight spans as many of these."""
    mask = np.zeros((40, 44), np.uint8)
    mask[6:20, 4:22] = mask[10:30, 22:38] = 255
    instances = np.where(np.arange(44) < 22, 7, 3) * (mask > 0)
    write_pairs(tmp_path, (mask, mask))
    (tmp_path / "instances").mkdir()
    write_image(tmp_path / "instances" / "a.png", instances.astype(np.uint8))
    config = resolve(flags={"data": str(tmp_path), "weight_map": True, "resolution": 0.5})
    pairs = find_pairs(config.data)
    (sample,), _ = storage.gather(pairs, config, lambda sample: sample)
    assert sample.size == (20, 22) and sample.original_label.shape == (40, 44)
    numbers = read_instances(pairs[0], sample.original_label, config)[1::2, 1::2]
    border = separation_border(numbers, sample.label)
    assert border.sum() == 10
    np.testing.assert_array_equal(sample.target, np.where(border, 0, sample.label))
    numbers[border] = 0
    np.testing.assert_array_equal(sample.weights, separation(numbers, 10.0, 5.0))
