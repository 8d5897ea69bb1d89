"""The fingerprint of data sets whose numbers are known."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unet_lowlevel.data.check.inspection import measurement
from unet_lowlevel.data.files import Pair
from unet_lowlevel.planning.fingerprint import fingerprint, layout_of, place_of, weighted_percentiles


def measured(images, labels, objects=None):
    """Measurements of images [H, W] and labels."""
    found = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        pair = Pair(str(index), Path(f"{index}.png"), (Path(f"{index}_mask.png"),), str(index // 2))
        found.append(measurement(pair, image[..., np.newaxis], label, None if objects is None else objects[index]))
    return found


def square(side, size=(32, 48)):
    label = np.zeros(size, np.uint8)
    label[4 : 4 + side, 6 : 6 + side] = 1
    return label


def test_numbers_of_a_small_set():
    labels = [square(4), square(8), square(20), square(0)]
    images = [np.where(label, 200, 50).astype(np.uint8) for label in labels]
    found = fingerprint(measured(images, labels), 2, 1)
    assert (found.images, found.groups, found.channels, found.dtype) == (4, 2, 1, "uint8")
    assert (found.gray, found.height, found.width) == ((50, 200), (32, 32, 32), (48, 48, 48))
    assert found.labelled == 1 and found.touching is None
    _, kind = found.classes
    assert (kind.images, kind.objects) == (3, 3)
    assert kind.share == pytest.approx((16 + 64 + 400) / (4 * 32 * 48))
    assert kind.area == (64, 400, 400)  # of 480 pixels 16 lie in the smallest, less than 5 %
    assert kind.extent == (8, 20, 20)
    assert kind.contrast == 1 and 0 < kind.place < 1
    assert found.foreground == [kind]


def test_objects_that_touch_are_counted():
    label = square(16)
    numbers = label.astype(int)
    numbers[4:20, 12:] *= 2
    numbers[:, 18:] = np.where(numbers[:, 18:], 3, 0)
    label[28:30, 40:44], numbers[28:30, 40:44] = 1, 4
    found = fingerprint(measured([label], [label], [numbers]), 1, 1)
    assert found.classes[1].objects == 4 and found.touching == pytest.approx(3 / 4)


def test_a_class_that_does_not_occur_is_in_no_foreground():
    label = square(8)
    found = fingerprint(measured([label], [label]), 1, 3)
    assert len(found.classes) == 3 and found.classes[2].objects == 0 and len(found.foreground) == 1


def test_percentiles_by_weight_against_pixels_counted_one_by_one():
    rng = np.random.default_rng(0)
    areas = rng.integers(1, 50, 30)
    pixels = np.sort(np.repeat(areas, areas))
    expected = [pixels[int(np.ceil(share * pixels.size)) - 1] for share in (0.05, 0.5, 0.95)]
    assert weighted_percentiles(areas.astype(float), areas) == tuple(expected)
    assert weighted_percentiles(np.zeros(0), np.zeros(0)) == (0, 0, 0)


def shown_at(*places):
    """What `place_of` needs of the shapes of a class that is at these places [32, 32] of each image."""
    return [SimpleNamespace(places=np.packbits(place)) for place in places]


def test_a_place_tells_as_much_as_the_other_masks_do():
    rng = np.random.default_rng(0)
    blob = np.hypot(*(np.indices((32, 32)) - 14)) < 6
    places = [np.roll(blob, shift, (0, 1)) ^ (rng.random((32, 32)) < 0.02) for shift in rng.integers(-2, 3, (7, 2))]

    def dice(predicted):
        return np.mean([2 * (p & q).sum() / (p.sum() + q.sum()) for p, q in zip(places, predicted, strict=True)])

    found = []
    for level in range(1, 10):
        others = [np.mean([places[j] for j in range(7) if j != i], axis=0) for i in range(7)]
        found.append(dice([other >= level / 10 - 1e-6 for other in others]))
    everywhere = dice([np.ones((32, 32), bool)] * 7)
    assert place_of(shown_at(*places)) == pytest.approx((max(found) - everywhere) / (1 - everywhere), abs=1e-6)
    assert 0.5 < place_of(shown_at(*places)) < 0.9


def test_the_extremes_of_places():
    blob = np.hypot(*(np.indices((32, 32)) - 14)) < 6
    assert place_of(shown_at(blob, blob, blob)) == pytest.approx(1)
    assert place_of(shown_at(blob, np.roll(blob, 16, 0), np.roll(blob, 16, 1), np.roll(blob, (16, 16), (0, 1)))) == 0
    assert place_of(shown_at(blob)) == place_of([]) == place_of(shown_at(blob | True, blob | True)) == 0


def signatures(grids):
    flat = np.stack([grid - grid.mean() for grid in grids]).reshape(len(grids), -1)
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float32)


def test_a_common_layout_and_its_symmetries():
    rows, columns = np.indices((32, 32)) / 31 - 0.5
    found = layout_of(signatures([columns**2 + rows] * 5))
    assert found.common == pytest.approx(1) and found.left_right == pytest.approx(1)
    bright_above = layout_of(signatures([rows] * 5))
    assert bright_above.up_down == pytest.approx(-1) and bright_above.transposed == pytest.approx(0, abs=1e-6)
    assert layout_of(signatures([rows**2 + columns**2] * 2)).transposed == pytest.approx(1)


def test_common_is_the_mean_over_pairs_of_images():
    found = signatures(list(np.random.default_rng(1).normal(size=(6, 32, 32)) + np.indices((32, 32))[0] / 20))
    pairs = [float(found[i] @ found[j]) for i in range(6) for j in range(6) if i != j]
    assert layout_of(found).common == pytest.approx(np.mean(pairs), abs=1e-6)
    assert layout_of(found[:1]).common == 0


def test_it_can_be_written():
    label = square(8)
    text = json.dumps(fingerprint(measured([label], [label]), 1, 1).to_json())
    assert json.loads(text)["classes"][1]["area"] == [64, 64, 64]
