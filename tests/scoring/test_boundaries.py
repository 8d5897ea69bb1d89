"""The scores of ISBI 2012 against brute force over pairs of pixels, and textbook cases of warping."""

import itertools
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import euler_number, label

from unet_lowlevel.scoring.boundaries import (
    CUTS,
    NEIGHBOURS,
    boundary_scores,
    boundary_sums,
    information_score,
    rand_error,
    simple_points,
    splits_and_mergers,
    thinned,
    warp,
)


def pictured(*rows):
    """Foreground where there is a #."""
    return np.array([[character == "#" for character in row] for row in rows])


def counted_pairs(truth, prediction):
    """1 - F-score over all pairs of pixels in true cells; a pixel of no predicted cell shares it with no other."""
    pixels = [(t, p) for t, p in zip(truth.ravel(), prediction.ravel(), strict=True) if t]
    both = true = predicted = 0
    for (t, p), (u, q) in itertools.combinations(pixels, 2):
        both += t == u and p == q and p > 0
        true += t == u
        predicted += p == q and p > 0
    return 1 - 2 * both / (true + predicted)


def counted_information(truth, prediction):
    """2 I / (H + H) from the definition: sums over all cells, in float64."""
    pixels = [(t, p or -i - 1) for i, (t, p) in enumerate(zip(truth.ravel(), prediction.ravel(), strict=True)) if t]
    n = len(pixels)

    def share(cell, k):
        return sum(pixel[k] == cell for pixel in pixels) / n

    entropies = [
        -sum(share(cell, k) * np.log(share(cell, k)) for cell in {pixel[k] for pixel in pixels}) for k in (0, 1)
    ]
    mutual = 0.0
    for pair in set(pixels):
        joint = sum(pixel == pair for pixel in pixels) / n
        mutual += joint * np.log(joint / (share(pair[0], 0) * share(pair[1], 1)))
    return 2 * mutual / sum(entropies)


@pytest.mark.parametrize("seed", range(8))
def test_rand_and_information_are_those_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    truth, prediction = random.integers(0, 4, (2, 6, 7))
    assert rand_error(truth, prediction) == pytest.approx(counted_pairs(truth, prediction), abs=1e-12)
    assert information_score(truth, prediction) == pytest.approx(counted_information(truth, prediction), abs=1e-12)


def test_rand_and_information_at_their_ends():
    truth = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    renamed = np.array([[7, 7, 7, 3, 3], [7, 7, 0, 3, 3]])  # what is between true cells does not count
    assert rand_error(truth, renamed) == 0.0 and information_score(truth, renamed) == pytest.approx(1.0)
    merged = np.ones_like(truth)
    assert rand_error(truth, merged) == pytest.approx(1 - 12 / ((12 + 28) / 2))
    assert information_score(truth, merged) == pytest.approx(0.0)
    nothing = np.zeros_like(truth)
    assert rand_error(truth, nothing) == 1.0
    assert information_score(truth, nothing) == pytest.approx(2 * 1 / (1 + 3))  # entropies of 2 cells and of 8
    assert rand_error(nothing, truth) == rand_error(nothing, nothing) == 0.0
    assert information_score(nothing, truth) == information_score(nothing, nothing) == 1.0
    assert information_score(merged, merged) == 1.0
    assert rand_error(np.array([[1, 0, 2]]), np.array([[1, 0, 0]])) == 0.0  # no pairs at all


def test_thinning_keeps_cells_apart():
    random = np.random.default_rng(0)
    cells = label(gaussian_filter(random.normal(size=(80, 90)), 3) > 0.03, connectivity=1)
    thin = thinned(cells)
    assert cells.max() > 5
    np.testing.assert_array_equal(thin[cells > 0], cells[cells > 0])
    assert (thin == 0).sum() < (cells == 0).sum() / 2
    for axis in (0, 1):  # neighbours by an edge belong to one cell, or a line parts them
        one, other = np.moveaxis(thin, axis, 0)[1:], np.moveaxis(thin, axis, 0)[:-1]
        assert not ((one != other) & (one > 0) & (other > 0)).any()
    assert not thinned(np.zeros((4, 5), int)).any()
    assert thinned(np.array([[0, 1, 0, 0]])).all()


def test_simple_points_are_those_of_connectivity_number_1():
    """Yokoi's number sums over the four neighbours by an edge x_k, going round: x_k - x_k x_k+1 x_k+2."""
    around = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for code, simple in enumerate(simple_points()):
        value = dict(zip(NEIGHBOURS, (code >> k & 1 for k in range(8)), strict=True))
        x = [value[place] for place in around] * 2
        assert simple == (sum(x[k] - x[k] * x[k + 1] * x[k + 2] for k in (0, 2, 4, 6)) == 1)
    assert 0 < simple_points().sum() < 256


@pytest.mark.parametrize("seed", range(3))
def test_turning_simple_points_keeps_components_and_holes(seed):
    """In a whole image, where no neighbourhood tells what is connected elsewhere."""
    mask = np.pad(gaussian_filter(np.random.default_rng(seed).normal(size=(12, 12)), 0.7) > 0, 1)

    def topology(mask):
        return (
            label(mask, connectivity=1).max(),
            label(~mask, connectivity=2).max(),
            euler_number(mask, connectivity=1),
        )

    before, simple = topology(mask), simple_points()
    kept = changed = 0
    for y, x in np.ndindex(12, 12):
        code = sum(int(mask[1 + y + dy, 1 + x + dx]) << k for k, (dy, dx) in enumerate(NEIGHBOURS))
        mask[1 + y, 1 + x] ^= True
        if simple[code]:
            assert topology(mask) == before
            kept += 1
        else:
            changed += topology(mask) != before
        mask[1 + y, 1 + x] ^= True
    assert kept and changed


def membrane(columns, width=24, height=16):
    """Cells parted by vertical membranes."""
    cells = np.ones((height, width), bool)
    cells[:, columns] = False
    return cells


def wrong_pixels(truth, prediction):
    return np.count_nonzero(warp(truth, prediction) != prediction)


def wrong_cells(truth, prediction):
    return splits_and_mergers(warp(truth, prediction), prediction)


def test_splits_and_mergers():
    whole, parted, gap = membrane([]), membrane([10]), membrane([10])
    gap[6:10, 10] = True
    for transpose in (False, True):
        truth, split, merger = (mask.T if transpose else mask for mask in (whole, parted, gap))
        assert wrong_cells(truth, split) == 1  # whatever the line is long
        assert wrong_cells(split, merger) == 1 and wrong_cells(merger, split) == 1
        assert wrong_cells(split, truth) == 1
    gap[1:4, 10] = True  # two gaps: the pixels between them are no line any more, but a speck
    assert wrong_cells(parted, gap) == 2
    assert wrong_cells(membrane([4, 12, 20]), whole) == 3 and wrong_cells(whole, membrane([4, 12, 20])) == 3
    assert wrong_cells(membrane([9, 10]), membrane([5])) == 2  # moved too far: joined here, parted there
    diagonal = ~np.eye(12, dtype=bool)  # parts by edges, and hangs together by corners
    assert wrong_cells(np.ones_like(diagonal), diagonal) == wrong_cells(diagonal, np.ones_like(diagonal)) == 1


def test_what_comes_goes_or_has_holes_neither_splits_nor_merges():
    cell, hole, two = np.zeros((3, 20, 30), bool)
    cell[4:12, 4:12] = hole[4:12, 4:12] = two[4:12, 4:12] = True
    hole[6:8, 6:9] = False
    two[5:9, 20:25] = True
    for truth, prediction in itertools.permutations((cell, hole, two, np.zeros_like(cell)), 2):
        assert wrong_cells(truth, prediction) == 0


@pytest.mark.parametrize("columns", [[6, 7, 8], [11], [9, 10, 11, 12, 13, 14], [8], [2, *range(3, 10)]])
def test_moved_boundaries_are_no_error(columns):
    truth = membrane([9, 10])
    assert wrong_pixels(truth, membrane(columns)) == 0
    assert wrong_pixels(truth.T, membrane(columns).T) == 0


def test_a_line_must_touch_where_it_moves():
    """No point is turned away from the prediction: the old line stays, if thin, and the new one does not close."""
    assert wrong_pixels(membrane([9, 10]), membrane([5])) == 16 + 1


def test_moved_and_bent_cell_is_no_error():
    y, x = np.mgrid[:60, :70]
    truth = np.hypot(y - 28, x - 30) < 20
    moved = np.hypot((y - 31) * 1.2, x - 36) < 17 + 4 * np.sin(5 * np.arctan2(y - 31, x - 36))
    assert wrong_pixels(truth, moved) == wrong_pixels(moved, truth) == 0


def test_hole_counts_its_pixels():
    truth = np.zeros((20, 20), bool)
    truth[3:17, 3:17] = True
    prediction = truth.copy()
    prediction[8:11, 7:12] = False
    assert wrong_pixels(truth, prediction) == 15
    assert wrong_pixels(prediction, truth) == 1  # fills but for a point


def test_merger_counts_the_gap():
    truth, prediction = membrane([10]), membrane([10])
    prediction[6:10, 10] = True
    assert wrong_pixels(truth, prediction) == 4


def test_split_counts_one_pixel():
    """A line grows from both sides, and only its last pixel parts the cell."""
    truth, prediction = np.ones((16, 24), bool), membrane([10])
    assert wrong_pixels(truth, prediction) == 1


def test_cells_that_come_and_go():
    truth = np.zeros((20, 30), bool)
    truth[4:12, 4:12] = True
    prediction = truth.copy()
    prediction[5:9, 20:25] = True
    assert wrong_pixels(truth, prediction) == 20  # invented as a whole
    assert wrong_pixels(prediction, truth) == 1  # shrinks to a point, but does not vanish
    nothing = np.zeros_like(truth)
    assert wrong_pixels(nothing, nothing) == wrong_pixels(truth, truth) == 0
    assert wrong_pixels(nothing, truth) == 64
    assert wrong_pixels(truth, nothing) == 1


def one_by_one(truth, prediction):
    """Warping in the plainest way: the first simple point that differs is turned, until there is none."""
    warped, target = np.pad(truth, 1), np.pad(prediction, 1)
    while True:
        for y, x in np.argwhere(warped != target):
            states = [warped[y - 1 : y + 2, x - 1 : x + 2].copy() for _ in range(2)]
            states[1][1, 1] ^= True
            numbers = {(label(s, connectivity=1).max(), label(~s, connectivity=2).max()) for s in states}
            if len(numbers) == 1:
                warped[y, x] ^= True
                break
        else:
            return np.count_nonzero(warped != target)


@pytest.mark.parametrize("seed", range(6))
def test_warping_ends_where_one_point_after_the_other_does(seed):
    """Several orders lead to several ends, of which none is far from another if the masks are alike."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(2, 24, 24)), (0, 1.5, 1.5))
    truth, prediction = noise[0] > 0, noise[0] + 0.4 * noise[1] > 0
    found, plain = wrong_pixels(truth, prediction), one_by_one(truth, prediction)
    assert (truth != prediction).any() and found < (truth != prediction).sum() / 2
    assert abs(found - plain) <= 3
    euler = [euler_number(np.pad(mask, 1), connectivity=1) for mask in (truth, prediction)]
    assert found >= abs(euler[0] - euler[1])  # a point changes the Euler number by at most one


def test_warping_of_a_large_image_takes_seconds():
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(2, 512, 512)), (0, 3, 3))
    truth, prediction = np.abs(noise[0]) > 0.02, np.abs(noise[0] + 0.3 * noise[1]) > 0.02
    start = time.process_time()
    assert 0 < wrong_pixels(truth, prediction) < (truth != prediction).sum() / 4
    assert time.process_time() - start < 3


def test_a_snake_shrinks_to_its_head():
    """Along all of its coils, from the one end that differs."""
    snake, head = np.zeros((2, 64, 64), bool)
    snake[1::4] = head[1, 0] = True
    for y in range(3, 63, 4):
        snake[y - 1 : y + 2, -1 if y % 8 == 3 else 0] = True
    assert label(snake, connectivity=1).max() == 1
    assert wrong_pixels(snake, head) == 0


def test_the_best_cut_counts():
    """Two cells, the membrane with probability 0.35: right from a cut of 0.4 on."""
    truth = membrane([10])
    cells = label(truth, connectivity=1)
    foreground = np.where(truth, 0.95, 0.35)
    sums = boundary_sums(cells, truth, foreground, truth.size)
    assert sums.shape == (6, len(CUTS))
    np.testing.assert_allclose(sums[3], [16 / truth.size] * 3 + [0] * 6)
    np.testing.assert_allclose(sums[4], [1 / truth.size] * 3 + [0] * 6)
    assert (sums[0, :3] > 0.2).all() and np.allclose(sums[0, 3:], 0)
    expected = {"rand_error": 0.0, "v_rand": 1.0, "v_info": 1.0, "warping_error": 0.0, "splits_and_mergers": 0.0}
    assert boundary_scores(sums) == pytest.approx(expected)
    surer = boundary_sums(cells, truth, np.where(truth, 0.95, 0.75), truth.size)
    assert boundary_scores(surer) == pytest.approx(expected)  # from a cut of 0.8 on
    # One cut for all images: 0.3 and less are right here, 0.4 and more there.
    other = boundary_sums(np.ones_like(cells), np.ones_like(truth), foreground, truth.size)
    both = boundary_scores(sums + other)
    assert both["warping_error"] == pytest.approx(1 / truth.size / 2)
    assert both["rand_error"] > 0 and both["v_rand"] < 1


def test_cells_that_touch_at_a_corner_are_two():
    truth = np.zeros((8, 8), bool)
    truth[:4, :4] = truth[4:, 4:] = True
    scores = boundary_scores(boundary_sums(label(truth, connectivity=1), truth, truth.astype(float), truth.size))
    expected = {"rand_error": 0.0, "v_rand": 1.0, "v_info": 1.0, "warping_error": 0.0, "splits_and_mergers": 0.0}
    assert scores == pytest.approx(expected)


def test_width_of_predicted_boundaries_matters_to_the_rand_error_only():
    """Cells are right, but their boundary is seven pixels wide instead of one."""
    truth, wide = membrane([10]), membrane(list(range(7, 14)))
    scores = boundary_scores(boundary_sums(label(truth, connectivity=1), truth, wide.astype(float), truth.size))
    assert scores["rand_error"] > 0.2
    assert scores["v_rand"] == pytest.approx(1.0) and scores["v_info"] == pytest.approx(1.0)
    assert scores["warping_error"] == 0


def test_pixels_that_do_not_count_make_no_share():
    truth = membrane([10])
    truth[:, 12:] = False
    prediction = truth.copy()
    prediction[6:10, 10] = True
    cells = label(truth, connectivity=1)
    sums = boundary_sums(cells, truth, prediction.astype(float), 12 * 16)
    np.testing.assert_allclose(sums[3], 4 / (12 * 16))


def test_pictured_errors():
    truth = pictured("#####..", "#...#..", "#.#.#..", "#...#..", "#####..")
    prediction = pictured("#####..", "#...###", "#...#.#", "#...###", "#####..")
    # The inner dot has gone but for one pixel, and the new ring closes a hole with its last pixel.
    assert wrong_pixels(truth, prediction) == 2
