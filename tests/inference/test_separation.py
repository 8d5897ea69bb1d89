"""Single objects: how they are told from each other, and the choice of thresholds."""

import functools
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import tifffile
from conftest import sentence
from numpy_reference import components
from PIL import Image
from scipy import ndimage
from skimage.measure import label

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.weight_maps import separation_border
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders, results, separation
from unet_lowlevel.inference.images import find_images
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.separation import (
    Separation,
    as_uint16,
    choose_separation,
    find_seeds,
    foreground_probabilities,
    read_separation,
    write_separation,
)
from unet_lowlevel.scoring.objects import Objects, average_precision, match_counts


def separate(probability, how):
    """The numbers of the objects of one class."""
    objects = separation.separate(probability[..., np.newaxis], how)
    assert (objects.classes == 1).all() and objects.classes.size == objects.numbers.max()
    return objects.numbers


def of_one_class(numbers):
    """Objects of class 1; the numbers may have gaps."""
    values = np.unique(numbers[numbers > 0])
    return Objects(np.searchsorted(values, numbers) + (numbers > 0), np.ones(values.size, int))


def ap(truth, found, classes=2):
    return average_precision(match_counts(truth, found, classes))["ap"]


def ap_50(truth, found, classes=2):
    return average_precision(match_counts(truth, found, classes))["ap_50"]


def bumps(*centres, size=(30, 40), radius=7):
    """Probabilities that fall from 1 in the centres to 0 at twice the radius."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.min([np.hypot(y - cy, x - cx) for cy, cx in centres], 0)
    return np.clip(1 - distance / (2 * radius), 0, 1).astype(np.float32)


def test_touching_objects_part_where_the_probability_is_lowest():
    probability = bumps((15, 12), (15, 24))
    together = separate(probability, Separation(0.5, 0.5, 1))
    assert together.max() == 1
    apart = separate(probability, Separation(0.5, 0.8, 1))
    assert apart.dtype == np.int32 and apart.max() == 2
    np.testing.assert_array_equal(apart > 0, probability >= 0.5)
    x = np.arange(40)
    assert (apart[:, x < 18] != 2).all() and (apart[:, x > 18] != 1).all()


def test_objects_meet_in_the_valley_and_not_halfway():
    probability = np.full((3, 21), 0.75, np.float32)
    probability[:, [0, 1, 19, 20]], probability[:, 5], probability[:, 6] = 0.95, 0.65, 0.6
    objects = separate(probability, Separation(0.5, 0.9, 1))
    np.testing.assert_array_equal(objects[:, :6], 1)
    np.testing.assert_array_equal(objects[:, 7:], 2)


def test_what_has_no_seed_is_no_object():
    probability = bumps((15, 12)) + 0.7 * bumps((15, 34), radius=3)
    assert separate(probability, Separation(0.5, 0.5, 1)).max() == 2
    assert separate(probability, Separation(0.5, 0.8, 1)).max() == 1


def test_seeds_do_not_join_at_corners():
    probability = np.zeros((4, 4), np.float32)
    probability[:2, :2] = probability[2:, 2:] = 1
    np.testing.assert_array_equal(
        separate(probability, Separation(0.5, 0.8, 1)),
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]],
    )


@pytest.mark.parametrize(("neck", "count"), [(0, 1), (1, 2), (4, 2), (4.1, 1), (6, 1)])
def test_a_neck_parts_what_the_probability_does_not(neck, count):
    """Two discs of radius 8, whose middles are 14 pixels apart: 8.06 deep in the middles, 4 between them."""
    y, x = np.mgrid[:30, :40]
    discs = np.minimum(np.hypot(y - 15, x - 12), np.hypot(y - 15, x - 26)) <= 8
    objects = separate(np.where(discs, np.float32(0.9), np.float32(0.1)), Separation(0.5, 0.8, 1, neck))
    assert objects.max() == count
    np.testing.assert_array_equal(objects > 0, discs)
    if count == 2:
        assert (objects[:, :19][discs[:, :19]] == 1).all() and (objects[:, 20:][discs[:, 20:]] == 2).all()


def test_necks_leave_no_component_without_a_seed():
    """Single pixels, thin lines and a long rectangle that narrows nowhere."""
    for seed in range(5):
        random = np.random.default_rng(seed)
        probability = (ndimage.gaussian_filter(random.normal(size=(40, 50)), seed) > 0).astype(np.float32)
        components = label(ndimage.binary_fill_holes(probability > 0), connectivity=1)
        for neck in (0.75, 1, 2, 50):
            seeds = find_seeds(probability, 0.5, neck)
            assert not seeds[components == 0].any()
            assert set(np.unique(components[seeds > 0])) == set(range(1, components.max() + 1))
            assert seeds.max() == components.max() or neck < 50
    rectangle = np.zeros((20, 60), np.float32)
    rectangle[5:14, 5:55] = 1
    assert separate(rectangle, Separation(neck=0.75)).max() == 1


def test_holes_are_filled_where_necks_part():
    """A textured nucleus: its hole neither becomes a neck nor stays."""
    y, x = np.mgrid[:30, :30]
    distance = np.hypot(y - 15, x - 15)
    probability = np.where((distance <= 10) & (distance > 2), np.float32(0.9), np.float32(0.1))
    np.testing.assert_array_equal(separate(probability, Separation(neck=1)), distance <= 10)
    np.testing.assert_array_equal(separate(probability, Separation()), probability > 0.5)


def test_nothing_and_everything():
    assert not separate(np.zeros((5, 6), np.float32), Separation()).any()
    assert (separate(np.ones((5, 6), np.float32), Separation()) == 1).all()


def test_foreground_probabilities():
    """Of one foreground class 1 - p0, bit for bit, whatever the network says of it."""
    np.testing.assert_array_equal(foreground_probabilities(np.array([[[0.25]]])), [[[0.25]]])
    np.testing.assert_array_equal(foreground_probabilities(np.array([[[0.25, 0.7]]])), [[[0.75]]])
    np.testing.assert_array_equal(foreground_probabilities(np.array([[[0.3, 0.5, 0.2]]])), [[[0.5, 0.2]]])


def test_sixteen_bits():
    assert as_uint16(np.array([[65535]]), "a.png").dtype == np.uint16
    with pytest.raises(UserError) as caught:
        as_uint16(np.array([[65536]]), "a.png")
    sentence(caught, "--instances", "65536 objects in a.png")


def test_choice_of_thresholds():
    """Objects that only a high seed or a neck parts, with specks to leave out; and an image without anything."""
    probability = 0.94 * bumps((15, 12), (15, 24))
    truth = np.where(probability >= 0.3, np.where(np.arange(40) <= 18, 1, 2), 0)
    probability[2:4, 33:36] = 1
    nothing = of_one_class(np.zeros((5, 5), int)), np.zeros((5, 5, 1), np.float32)
    found = choose_separation([(of_one_class(truth), probability[..., np.newaxis]), nothing])
    assert 6 < found.smallest_object <= min(of_one_class(truth).areas)
    assert ap_50(of_one_class(truth), of_one_class(separate(probability, found))) == 1.0
    assert choose_separation([nothing]) == Separation(0.5, 0.8, 0, 1 / 16)  # no matter: where the search begins


def disc_pair(radius, gap=1.7):
    """The numbers of two discs that touch, `gap` radii apart."""
    size = math.ceil(radius * (gap + 2)) + 4
    y, x = np.mgrid[: 2 * radius + 5, :size]
    distances = [np.hypot(y - radius - 2, x - radius - 2 - shift) for shift in (0, gap * radius)]
    return np.where(np.min(distances, 0) <= radius, 1 + np.argmin(distances, 0), 0)


def test_the_choice_follows_the_outlines():
    """Where several thresholds find all objects at IoU 0.5, that of the true outlines is chosen."""
    probability = bumps((15, 12), (15, 28))
    truth = of_one_class(label(probability >= 0.6, connectivity=1))
    for threshold in (0.5, 0.6, 0.7):
        assert ap_50(truth, of_one_class(separate(probability, Separation(threshold, 0.8, 4)))) == 1
    chosen = choose_separation([(truth, probability[..., np.newaxis])])
    assert ap(truth, of_one_class(separate(probability, chosen))) == 1


@pytest.mark.parametrize("radius", [7, 40])
def test_the_choice_has_the_scale_of_the_objects(radius):
    """Discs that touch, rough at a scale of theirs, and specks of a tenth of their area."""
    truth = disc_pair(radius)
    speck = round(radius * 0.5)
    field = np.pad(truth > 0, ((0, 2 * speck), (0, 0)))
    field[-speck - 1 : -1, 2 : 2 + speck] = True
    truth = np.pad(truth, ((0, 2 * speck), (0, 0)))
    noise = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=field.shape), radius / 12)
    probability = 1 / (
        1 + np.exp(-6 * (2 * ndimage.gaussian_filter(field * 1.0, radius / 15) - 1) - noise / noise.std())
    )
    images = [(of_one_class(truth), probability[..., np.newaxis].astype(np.float32))]
    found = choose_separation(images)
    assert ap_50(images[0][0], of_one_class(separate(images[0][1][..., 0], found))) == 1.0
    assert speck**2 / 2 < found.smallest_object <= images[0][0].areas.min() and 0 < found.neck < radius
    assert choose_separation(images) == found


def test_scales_are_of_the_single_objects():
    """Areas and the depth of each object alone, by loops over its pixels and all others."""
    first = np.zeros((14, 24), int)
    first[1:6, 1:10], first[6:13, 1:10], first[0, 20:24] = 1, 2, 3
    depths = [max(depth_of(first == number)) for number in (1, 2, 3)]
    assert depths == [3, 4, 1]
    area, width = separation.scales([of_one_class(first), of_one_class(np.zeros((3, 3), int))])
    assert width == 6 and area == np.percentile([45, 63, 4], 5)
    assert separation.scales([of_one_class(np.zeros((3, 3), int))]) == (1, 1)


def depth_of(mask):
    outside = [(y, x) for y, x in np.ndindex(*(np.array(mask.shape) + 2)) if not np.pad(mask, 1)[y, x]]
    return [min(math.hypot(y + 1 - b, x + 1 - a) for b, a in outside) for y, x in np.argwhere(mask)]


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_that_of_a_plain_coordinate_search(seed, monkeypatch):
    """Every step counted anew by `separate`, on blobs of noise; numbers of the truth have gaps."""
    grid = {"neck": (0.0, 0.2), "seed_threshold": (0.5, 0.7), "smoothing": (0.1,), "threshold": (0.4, 0.6)}
    smallest = (0, 2)
    monkeypatch.setattr(separation, "GRID", grid)
    monkeypatch.setattr(separation, "SMALLEST", smallest)
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(2, 30, 40)), (0, 2, 2))
    probability = (1 / (1 + np.exp(-20 * (noise[0] + 0.5 * noise[1])))).astype(np.float32)
    truth = of_one_class(3 * label(noise[0] > 0.02, connectivity=1))
    area, width = separation.scales([truth])

    @functools.cache
    def score(*point):
        neck, seed_threshold, smoothing, threshold, smallest = point
        how = Separation(threshold, seed_threshold, round(smallest * area), neck * width, smoothing * width)
        return -1 if threshold > seed_threshold else ap(truth, of_one_class(separate(probability, how)))

    names = [*grid, "smallest_object"]
    point = [separation.START[name] for name in names]
    for fine in (False, False, True, True):
        for i, name in enumerate(grid):
            values = grid[name]
            if fine and "threshold" in name:
                values = [round(point[i] + step, 3) for step in separation.STEPS]
            elif fine:
                values = [point[i] * factor for factor in separation.FACTORS]
            start, best = point, point
            for value, size in itertools.product((start[i], *values), (start[-1], *smallest)):
                tried = [*start[:i], value, *start[i + 1 : -1], size]
                best = tried if score(*tried) > score(*best) else best
            point = best
    chosen = choose_separation([(truth, probability[..., np.newaxis])])
    assert [chosen.neck, chosen.smoothing] == pytest.approx([point[0] * width, point[2] * width])
    assert [chosen.seed_threshold, chosen.threshold] == [point[1], point[3]]
    assert ap(truth, of_one_class(separate(probability, chosen))) == score(*point)
    assert score(*point) > score(*(separation.START[name] for name in names))


def test_the_choice_is_not_dearer_than_said(monkeypatch):
    """No more than 70 separations, whatever the images are."""
    for seed in range(6):
        calls = []
        monkeypatch.setattr(separation, "grow", lambda *given, calls=calls: calls.append(given) or given[1])
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, 30, 30)), (0, 2, 2))
        probability = (1 / (1 + np.exp(-20 * noise[0]))).astype(np.float32)
        choose_separation([(of_one_class(label(noise[1] > 0)), probability[..., np.newaxis])])
        assert len(calls) <= 70


def test_smoothing_is_that_of_a_gaussian_and_heals_noise():
    """Every pixel by itself: weights exp(-d^2 / 2 s^2), the nearest pixel beyond the edge."""
    field = np.random.default_rng(0).random((9, 11, 2)).astype(np.float32)
    reach = np.arange(-4, 5)
    weights = np.exp(-(reach**2) / 2)
    weights /= weights.sum()
    expected = np.zeros(field.shape)
    for y, x in np.ndindex(9, 11):
        for i, j in itertools.product(reach, reach):
            expected[y, x] += weights[i + 4] * weights[j + 4] * field[min(max(y + i, 0), 8), min(max(x + j, 0), 10)]
    np.testing.assert_allclose(separation.smoothed(field, 1.0), expected, atol=1e-6)
    assert separation.smoothed(field, 0) is field
    y, x = np.mgrid[:40, :40]
    disc = np.hypot(y - 20, x - 20) <= 12
    noisy = np.where(disc, 0.8, 0.1) + np.random.default_rng(0).normal(0, 0.15, (40, 40))
    assert separate(noisy, Separation(0.5, 0.8, 1)).max() > 1
    assert separate(noisy, Separation(0.5, 0.8, 1, 0, 3.0)).max() == 0  # smoothed too much: the middle is below 0.8
    healed = separate(noisy, Separation(0.5, 0.7, 1, 0, 1.5))
    assert healed.max() == 1 and np.mean((healed > 0) != disc) < 0.03


def target_of(numbers):
    """The objects without the border that training takes away, and where it was."""
    border = separation_border(numbers, (numbers > 0).astype(np.uint8))
    return np.where(border, 0, numbers), border


def test_perfect_probabilities_of_the_target_give_the_objects_back():
    """Of two that touch in any direction, to the pixel; of discs but for up to 4 pixels at the ends of their border.

    They are ties: without them the target is the same.
    """
    y, x = np.mgrid[:40, :40]
    for angle in np.linspace(0, math.pi, 25):
        across = (y - 19.7) * math.sin(angle) + (x - 20.2) * math.cos(angle)
        for inside, ties in ((np.hypot(y - 20, x - 20) <= 15.3, 4), (np.maximum(abs(y - 20), abs(x - 20)) <= 13, 0)):
            truth = np.where(inside, np.where(across < 0, 1, 2), 0)
            target, border = target_of(truth)
            probability = (target > 0).astype(np.float32)
            assert border.sum() > 40 and not separate(probability, Separation())[border].any()
            found = separate(probability, Separation(border=1))
            found = np.where(found > 0, np.where(found == np.bincount(found[truth == 1]).argmax(), 1, 2), 0)
            np.testing.assert_array_equal(target_of(found)[0], target)
            assert np.count_nonzero(found != truth) <= ties
            assert not (found != truth)[(found > 0) & inside].any()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_given_back_explains_the_target(seed):
    """Of a mosaic of 25 pieces: what differs from the truth lies where three meet, and is as good as it.

    Nothing tells two truths of one target apart.
    """
    y, x = np.mgrid[:120, :120]
    points = np.random.default_rng(seed).uniform(0, 120, (25, 2, 1, 1))
    truth = 1 + np.argmin((y - points[:, 0]) ** 2 + (x - points[:, 1]) ** 2, 0)
    target, border = target_of(truth)
    found = separation.give_back(target)
    np.testing.assert_array_equal(target_of(found)[0], target)
    wrong = found != truth
    assert 0 < wrong.sum() < 0.04 * border.sum()
    for row, column in np.argwhere(wrong):
        around = truth[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        assert np.unique(around).size >= 3


def test_gaps_stay_unless_the_target_has_them_between_objects_that_touch():
    for gap, row in (
        (1, [1, 1, 0, 2, 2]),
        (2, [1, 1, 1, 2, 2, 2]),
        (3, [1, 1, 0, 0, 0, 2, 2]),
        (4, [1, 1] + [0] * 4 + [2, 2]),
    ):
        numbers = np.tile(np.array([1, 1] + [0] * gap + [2, 2]), (6, 1))
        np.testing.assert_array_equal(separation.give_back(numbers), np.tile(row, (6, 1)))
    wedge = np.zeros((30, 30), int)
    y, x = np.mgrid[:30, :30]
    wedge[x < 14 - y / 5], wedge[x > 15 + y / 5] = 1, 2
    found = separation.give_back(wedge)
    gaps = (wedge == 0).sum(1)
    np.testing.assert_array_equal((found == 0).sum(1), np.where(gaps == 2, 0, gaps))
    alone = np.zeros((9, 9), int)
    alone[2:6, 2:7] = 1
    np.testing.assert_array_equal(separation.give_back(alone), alone)


def by_class(*fields):
    """Probabilities [H, W, K] of foreground classes."""
    return np.stack(fields, -1).astype(np.float32)


def test_touching_objects_of_two_classes_are_two():
    label = np.zeros((10, 20), int)
    label[2:8, 2:10], label[2:8, 10:18] = 2, 1
    found = separation.separate(by_class(label == 1, label == 2), Separation())
    np.testing.assert_array_equal(found.numbers, label)  # class 1 is numbered first
    assert found.classes.tolist() == [1, 2]
    assert separate((label > 0).astype(np.float32), Separation()).max() == 1  # by their foreground they are one


def test_each_class_is_separated_where_it_is_the_most_probable():
    """Three classes of noise: as each alone, with the probabilities of other pixels set to 0."""
    for seed in range(3):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(50, 60, 4)), (2, 2, 0))
        each = np.exp(25 * noise)
        probabilities = (each / each.sum(-1, keepdims=True)).astype(np.float32)[..., 1:]
        how = Separation(0.35, 0.5, 5)
        found = separation.separate(probabilities, how)
        assert set(found.classes) == {1, 2, 3} and (np.diff(found.classes) >= 0).all()
        assert found.areas.min() >= 5
        first = 0
        for k in (1, 2, 3):
            own = probabilities.argmax(-1) == k - 1
            alone = separate(np.where(own, probabilities[..., k - 1], 0), how)
            np.testing.assert_array_equal(np.maximum(found.of_class(k) - first, 0), alone)
            first += alone.max()
        assert first == found.classes.size == found.numbers.max()


def test_equal_probabilities_belong_to_the_first_class():
    half = np.full((4, 5), 0.5)
    found = separation.separate(by_class(half, half), Separation(0.5, 0.5, 1))
    np.testing.assert_array_equal(found.numbers, 1)
    assert found.classes.tolist() == [1]


def test_filled_holes_leave_the_objects_of_other_classes_alone():
    """A cell around a nucleus, and a cell around a hole: the hole is filled, the nucleus stays."""
    y, x = np.mgrid[:30, :60]
    left, right = np.hypot(y - 15, x - 15), np.hypot(y - 15, x - 45)
    cells = ((left <= 11) & (left > 5)) | ((right <= 11) & (right > 2))
    for fields, classes in (((cells, left <= 5), [1, 1, 2]), ((left <= 5, cells), [1, 2, 2])):
        found = separation.separate(0.9 * by_class(*fields), Separation(neck=30))
        cell = classes[1]
        assert found.classes.tolist() == classes
        np.testing.assert_array_equal(found.of_class(3 - cell) > 0, left <= 5)
        np.testing.assert_array_equal(found.of_class(cell) > 0, ((left <= 11) & (left > 5)) | (right <= 11))


def test_what_another_class_takes_away_leaves_no_gap_in_the_numbers():
    """A ring whose middle has a seed of its own, and is a nucleus of another class."""
    y, x = np.mgrid[:31, :31]
    distance = np.hypot(y - 15, x - 15)
    found = separation.separate(by_class((distance <= 14) & (distance > 12), distance <= 12), Separation(neck=1))
    assert sorted(np.unique(found.numbers)) == list(range(found.classes.size + 1))
    assert found.classes.tolist().count(2) == 1 and found.areas.min() >= 10
    grown = [np.array([[1, 2, 2, 0]], np.int32), np.array([[0, 1, 1, 1]], np.int32)]
    own = [np.array([[1, 0, 0, 0.0]]), np.array([[0, 1, 1, 1.0]])]
    both = separation.together(grown, own)
    np.testing.assert_array_equal(both.numbers, [[1, 3, 3, 3]])
    kept = both.without_small(1)
    np.testing.assert_array_equal(kept.numbers, [[1, 2, 2, 2]])
    assert kept.classes.tolist() == [1, 2]


def test_chosen_are_the_best_by_the_mean_over_classes(monkeypatch):
    """Many objects of class 1 that only a high threshold parts, a few of class 2 that only a low one finds."""
    start = {"neck": 0.0, "seed_threshold": 0.5, "smoothing": 0.0, "threshold": 0.3, "smallest_object": 0}
    monkeypatch.setattr(separation, "START", start)
    monkeypatch.setattr(separation, "GRID", {name: (0.9,) * (name == "seed_threshold") for name in separation.GRID})
    monkeypatch.setattr(separation, "STEPS", ())
    one, two, truth = np.zeros((3, 30, 40))
    for number in range(6):  # two and two are one object at 0.5
        one[4 * number + 1 : 4 * number + 4, 2:12], one[4 * number + 4, 2:12] = 0.95, 0.6 if number % 2 else 0
        truth[4 * number + 1 : 4 * number + 4, 2:12] = number + 1
    two[5:9, 20:30] = 0.7
    truth[5:9, 20:30] = 7
    objects, probabilities = Objects(truth.astype(int), np.array([1] * 6 + [2])), by_class(one, two)
    low, high = (separation.separate(probabilities, Separation(0.3, seed, 1)) for seed in (0.5, 0.9))
    assert ap_50(objects, low, 3) == (2 / 8 + 1) / 2 and ap_50(objects, high, 3) == (1 + 0) / 2
    assert choose_separation([(objects, probabilities)]) == Separation(0.3, 0.5, 0)
    counts = [match_counts(objects, found, 3)[:, 0].sum(0) for found in (low, high)]
    np.testing.assert_array_equal(counts, [[3, 2, 4], [6, 0, 1]])  # all together, the other one would be better


def test_stored_in_the_run(tmp_path):
    assert read_separation(tmp_path) == Separation()
    assert read_separation(tmp_path, Separation(border=1)) == Separation(border=1)
    write_separation(tmp_path, Separation(0.4, 0.9, 30, 1.5, 0.7, 1))
    assert read_separation(tmp_path) == Separation(0.4, 0.9, 30, 1.5, 0.7, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["instances.json"]
    numbers = '{"threshold": 0.5, "seed_threshold": 0.8, "smallest_object": 1, "neck": %s}'
    (tmp_path / "instances.json").write_text(numbers % 2.0)  # of a run that knew only these four
    assert read_separation(tmp_path, Separation(border=1)) == Separation(0.5, 0.8, 1, 2.0)
    for text in (
        "[]",
        "{}",
        "{",
        "null",
        numbers % 2.0 + "}",
        numbers % '2.0, "other": 1',
        *(numbers % value for value in ('"x"', "true", "-1", "NaN", "Infinity")),
    ):
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(UserError) as caught:
            read_separation(tmp_path)
        sentence(caught, "instances.json")
    with pytest.raises(UserError) as caught:
        write_separation(tmp_path / "nowhere", Separation())
    sentence(caught, "--run", "nowhere")


def test_evaluation_and_written_instances_agree(tiny_run, phantoms, tmp_path, capsys):
    """AP in metrics.json is that of the PNG files; the thresholds chosen are stored, and prediction takes them."""
    run = shutil.copytree(tiny_run, tmp_path / "run")  # other tests use the original
    flags = ["--run", str(run), "--scores", "instances"]
    assert evaluate([*flags, "--choose-thresholds", "--output", str(tmp_path / "chosen")]) == 0
    result = json.loads((tmp_path / "chosen" / "metrics.json").read_text())
    assert read_separation(run) == Separation(**result["separation"])
    assert evaluate([*flags, "--output", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == result
    assert "ap_50" in capsys.readouterr().out

    stems = json.loads((run / "split.json").read_text())["validation"]
    images = [str(phantoms / "images" / f"{stem}.png") for stem in stems]
    flags = ["--run", str(run), "--instances", "--output", str(tmp_path / "masks"), "--images", *images]
    assert predict(flags) == 0
    counts = np.zeros((1, 10, 3), int)
    for stem in stems:
        found = read_image(tmp_path / "masks" / f"{stem}_instances.png")[..., 0]
        assert found.dtype == np.uint16
        with Image.open(phantoms / "masks" / f"{stem}.png") as mask:
            counts += match_counts(of_one_class(components(np.asarray(mask) > 0)), of_one_class(found), 2)
    assert result["ap_50"] == pytest.approx(counts[0, 0, 0] / max(counts[0, 0].sum(), 1))


def test_instances_of_tiles_and_volumes(tiny_run, tmp_path):
    random = np.random.default_rng(0)
    tifffile.imwrite(
        tmp_path / "stack.tif", random.integers(0, 255, (3, 40, 50), dtype=np.uint8), photometric="minisblack"
    )
    predictor = load(tiny_run)
    how = Separation(0.3, 0.4, 2)
    for tile_size, name in ((2048, "whole"), (16, "tiles")):
        predictor.tile_size = tile_size
        images = find_images([str(tmp_path / "stack.tif")])
        done = folders.predict_files(predictor, images, tmp_path / name, separation=how)
        assert (done.written, done.failures) == (3, [])
    whole, tiles = (tifffile.imread(tmp_path / name / "stack_instances.tif") for name in ("whole", "tiles"))
    assert whole.shape == (3, 40, 50) and whole.dtype == np.uint16
    assert np.mean(whole != tiles) < 0.02  # a probability at a threshold may fall to either side


def test_an_image_with_too_many_objects_does_not_stop_the_others(tiny_run, tmp_path, monkeypatch):
    """Nor another volume; its own gets no masks."""
    random = np.random.default_rng(0)
    for name, count in (("a", 1), ("b", 1), ("c", 3), ("d", 3)):
        pixels = random.integers(0, 255, (count, 8 + ord(name) % 2, 9), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", np.squeeze(pixels), photometric="minisblack")
    many = Objects(np.full((8, 9), 65536), np.ones(65536, int))
    monkeypatch.setattr(
        results, "separate", lambda found, how: many if len(found) == 8 else of_one_class(found[..., 0] * 0)
    )
    images = find_images([str(tmp_path)])
    done = folders.predict_files(load(tiny_run), images, tmp_path / "out", separation=Separation())
    assert done.written == 4 and len(done.failures) == 2
    for failure, name in zip(done.failures, ("b.tif", "d.tif (slice 0)"), strict=True):
        assert "65536 objects" in failure and str(tmp_path / name) in failure
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("a.png", "a_instances.png", "a_instances.csv", "c.tif", "c_instances.tif", "c_instances.csv"),
        *("objects.csv", "summary.csv", "predict.jsonl"),
    }


def test_nothing_is_overwritten(tiny_run, phantoms, tmp_path, capsys):
    image = sorted((phantoms / "images").iterdir())[0]
    (tmp_path / f"{image.stem}_instances.png").write_text("mine")
    flags = ["--run", str(tiny_run), "--images", str(image), "--output", str(tmp_path), "--instances"]
    assert predict(flags) == 2
    assert "_instances.png" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [f"{image.stem}_instances.png"]
