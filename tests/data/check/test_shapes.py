"""Sizes of objects against shapes whose sizes are known, and loops over all pixels."""

import numpy as np
import pytest

from unet_lowlevel.config import IGNORED
from unet_lowlevel.data.check import shapes
from unet_lowlevel.data.check.shapes import PLACES, shapes_of, touching


def canvas(*boxes, size=(40, 60)):
    """Class indices with boxes (class, top, left, height, width)."""
    label = np.zeros(size, np.uint8)
    for index, top, left, height, width in boxes:
        label[top : top + height, left : left + width] = index
    return label


def flat(label):
    return np.zeros(label.shape, np.float32)


def mean_distance(own):
    """From each pixel to the nearest other one, by loops; beyond the border the image goes on as at its edge."""
    outside = np.argwhere(~np.pad(own, 1, mode="edge")) - 1
    inside = np.argwhere(own)
    return np.mean([np.sqrt(((outside - pixel) ** 2).sum(1).min()) for pixel in inside])


def test_boxes_have_their_sizes():
    label = canvas((1, 2, 3, 5, 9), (1, 20, 30, 7, 7), (2, 30, 5, 4, 20))
    found = shapes_of(flat(label), label)
    assert found.keys() == {0, 1, 2}
    np.testing.assert_array_equal(found[1].areas, [45, 49])
    np.testing.assert_array_equal(found[1].extents, [9, 7])
    np.testing.assert_array_equal(found[1].widths, [6, 8])  # the distance of the middle to the outside, twice
    np.testing.assert_array_equal(found[2].extents, [20])
    assert found[1].thickness == pytest.approx(4 * mean_distance(label == 1))
    assert found[0].thickness == pytest.approx(4 * mean_distance(label == 0))


def test_thickness_is_the_width_of_a_stripe_and_two_thirds_of_a_disc():
    label = canvas((1, 0, 100, 300, 40), size=(300, 300))
    assert shapes_of(flat(label), label)[1].thickness == pytest.approx(40, rel=0.06)
    rows, columns = np.indices((200, 200)) - 100
    disc = (rows**2 + columns**2 < 90**2).astype(np.uint8)
    assert shapes_of(flat(disc), disc)[1].thickness == pytest.approx(2 / 3 * 180, rel=0.03)


def test_an_image_of_one_class_is_as_thick_as_its_side():
    label = np.ones((30, 50), np.uint8)
    found = shapes_of(flat(label), label)
    assert found.keys() == {1} and found[1].thickness == 50 and found[1].contrast == 0


def test_pixels_without_a_label_belong_to_no_class():
    label = canvas((1, 5, 5, 10, 10), (IGNORED, 20, 0, 20, 60))
    found = shapes_of(flat(label), label)
    assert found.keys() == {0, 1} and found[1].areas == [100]
    assert found[0].areas.sum() == 20 * 60 - 100


def test_instance_labels_part_what_touches():
    label = canvas((1, 10, 10, 8, 20), (1, 30, 40, 5, 5))
    numbers = np.where(label, 1, 0)
    numbers[10:18, 22:30] = 2
    numbers[30:35, 40:45] = 7
    np.testing.assert_array_equal(shapes_of(flat(label), label)[1].areas, [160, 25])
    np.testing.assert_array_equal(shapes_of(flat(label), label, numbers)[1].areas, [96, 64, 25])
    np.testing.assert_array_equal(touching(numbers), [1, 2])


def test_objects_that_meet_at_a_corner_do_not_touch():
    numbers = np.zeros((6, 6), int)
    numbers[:3, :3], numbers[3:, 3:] = 1, 2
    assert not touching(numbers).size


def test_contrast():
    """Brighter or darker by any amount is 1, half of the pixels brighter 0."""
    label = canvas((1, 10, 10, 15, 15))
    assert shapes_of(np.where(label, 5.0, 3.0), label)[1].contrast == 1
    assert shapes_of(np.where(label, 1.0, 3.0), label)[1].contrast == 1
    checkered = np.indices(label.shape).sum(0) % 2
    assert shapes_of(np.where(label, checkered, 0.5), label)[1].contrast == pytest.approx(0, abs=0.02)


def test_contrast_is_the_least_to_any_neighbour():
    """A ring between two classes; a third one, which it hardly meets, is no matter."""
    label = canvas((1, 5, 5, 30, 30), (2, 12, 12, 16, 16), (3, 34, 20, 1, 2))
    image = np.array([0.0, 5.0, 9.0, 5.0])[label]
    assert shapes_of(image, label)[1].contrast == 1
    assert shapes_of(np.array([5.0, 5.0, 9.0, 5.0])[label], label)[1].contrast == pytest.approx(0, abs=0.02)
    assert shapes_of(np.array([0.0, 9.0, 9.0, 5.0])[label], label)[1].contrast == pytest.approx(0, abs=0.02)


def test_places_are_those_of_a_grid_over_the_whole_image():
    label = np.zeros((64, 320), np.uint8)
    label[2:4, 10:20] = label[62:, 310:] = 1
    places = np.unpackbits(shapes_of(label.astype(np.float32), label)[1].places).reshape(PLACES, PLACES)
    assert np.argwhere(places).tolist() == [[1, 1], [31, 31]]


def test_large_labels_are_subsampled(monkeypatch):
    label = canvas((1, 10, 10, 20, 30))
    whole = shapes_of(flat(label), label)[1]
    monkeypatch.setattr(shapes, "LARGEST_SIDE", 30)
    half = shapes_of(flat(label), label)[1]
    np.testing.assert_array_equal(half.areas, whole.areas)
    np.testing.assert_array_equal(half.extents, whole.extents)
    assert half.thickness == pytest.approx(whole.thickness, rel=0.15)
