"""Single objects, and the class of each, from instance labels and from masks."""

import numpy as np
import pytest
from conftest import sentence

from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.formats.writing import write_image
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve


def read(folder, label, instances=None, masks=1, classes=3, **flags):
    """`read_objects` of files in the folder: a mask of class numbers, or one for each object, and instance labels."""
    paths = [folder / f"mask-{i}.png" for i in range(masks)]
    folder.mkdir(exist_ok=True)
    for path, pixels in zip(paths, [label] if masks == 1 else label, strict=True):
        write_image(path, np.asarray(pixels, np.uint8))
    if instances is not None:
        write_image(folder / "instances.png", np.asarray(instances, np.uint16))
    pair = Pair("a", folder / "a.png", tuple(paths), "a", folder / "instances.png" if instances is not None else None)
    config = resolve(flags={"classes": classes, **flags})
    return read_objects(pair, read_label(pair.masks, classes, config.data), config)


def test_numbers_lose_their_gaps_and_keep_their_order(tmp_path):
    numbers, classes = read(tmp_path, [[2, 2, 0, 1, 1, 2]], [[9, 9, 0, 3, 3, 65535]])
    np.testing.assert_array_equal(numbers, [[2, 2, 0, 1, 1, 3]])
    assert classes.tolist() == [1, 2, 2]


def test_the_class_is_that_of_most_pixels_but_not_the_background(tmp_path):
    label = [[2, 2, 1, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0], [0, 0, 2, 1, 1, 2, 0]]
    instances = [[7, 7, 7, 0, 0, 0, 0], [4, 4, 4, 4, 4, 4, 4], [0, 0, 5, 5, 0, 5, 5]]
    numbers, classes = read(tmp_path, label, instances)
    np.testing.assert_array_equal(numbers, [[3, 3, 3, 0, 0, 0, 0], [1] * 7, [0, 0, 2, 2, 0, 2, 2]])
    assert classes.tolist() == [1, 2, 2]  # of object 4 as many are 1 as 2


def test_components_of_one_class_connected_by_edges(tmp_path):
    numbers, classes = read(tmp_path, [[1, 1, 2, 0, 1], [0, 0, 2, 1, 0]])
    np.testing.assert_array_equal(numbers, [[1, 1, 2, 0, 3], [0, 0, 2, 4, 0]])
    assert classes.tolist() == [1, 2, 1, 1]


def test_a_mask_for_each_object(tmp_path):
    """An object of two components is one; an object that others cover is none."""
    masks = [[[2, 0, 2, 0, 0]], [[0, 0, 0, 1, 0]], [[0, 0, 0, 1, 1]]]
    numbers, classes = read(tmp_path, masks, masks=3)
    np.testing.assert_array_equal(numbers, [[1, 0, 1, 2, 2]])
    assert classes.tolist() == [2, 1]


@pytest.mark.parametrize("kinds", [1, 3])
def test_no_objects(kinds, tmp_path):
    numbers, classes = read(tmp_path, [[0, 0, 0]], [[0, 0, 0]], classes=kinds)
    assert not numbers.any() and classes.shape == (0,)


def test_an_object_in_the_background(tmp_path):
    """Of one foreground class it is of this class, as ever; of several it is of none."""
    label, instances = [[1, 1, 0, 0]], [[5, 5, 0, 8]]
    numbers, classes = read(tmp_path, label, instances, classes=1)
    assert numbers.tolist() == [[1, 1, 0, 2]] and classes.tolist() == [1, 1]
    (tmp_path / "mask-0.png").unlink()
    (tmp_path / "instances.png").unlink()
    with pytest.raises(UserError) as caught:
        read(tmp_path, label, instances, classes=3)
    sentence(caught, tmp_path / "instances.png", "object 8", tmp_path / "mask-0.png")


IGNORE = {"ignore_value": (9.0,)}


def test_objects_end_where_labels_do(tmp_path):
    """In components, in instance labels, and in masks of their own."""
    numbers, classes = read(tmp_path / "mask", [[1, 1, 9, 1, 2, 9]], **IGNORE)
    np.testing.assert_array_equal(numbers, [[1, 1, 0, 2, 3, 0]])
    assert classes.tolist() == [1, 1, 2]
    numbers, classes = read(tmp_path / "instances", [[9, 9, 9, 1, 2, 2]], [[4, 4, 7, 7, 8, 8]], **IGNORE)
    np.testing.assert_array_equal(numbers, [[0, 0, 0, 1, 2, 2]])
    assert classes.tolist() == [1, 2]
    numbers, classes = read(tmp_path / "masks", [[[2, 9, 0, 0]], [[0, 0, 1, 1]]], masks=2, **IGNORE)
    np.testing.assert_array_equal(numbers, [[1, 0, 2, 2]])
    assert classes.tolist() == [2, 1]
