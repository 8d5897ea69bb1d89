"""The scores of the ISBI 2012 challenge: how well boundaries separate cells.

Foreground is the inside of cells; its 4-connected components are the cells. The background between them is 8-connected,
and the outside of the image is background. Pixel error is in `counts.py`.
"""

import functools

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label, shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

# The challenge cuts the probabilities at each of these and takes the best.
CUTS = tuple(round(0.1 * i, 1) for i in range(1, 10))
NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def boundary_sums(cells: np.ndarray, truth: np.ndarray, foreground: np.ndarray, pixels: int) -> np.ndarray:
    """The five scores of an image at each of `CUTS`, and its weight in the mean: float64 [6, 9].

    Args:
        cells: numbers of the true cells, int [H, W], 0 between them.
        truth: bool [H, W], the true foreground.
        foreground: its probability [H, W].
        pixels: how many pixels count; the others are 0 in all three arrays.
    """
    rows = []
    for cut in CUTS:
        prediction = foreground >= cut
        found = label(prediction, connectivity=1)
        thin, warped = thinned(found), warp(truth, prediction)
        rows.append(
            [
                rand_error(cells, found),
                1.0 - rand_error(cells, thin),
                information_score(cells, thin),
                np.count_nonzero(warped != prediction) / pixels,
                splits_and_mergers(warped, prediction) / pixels,
                1.0,
            ]
        )
    return np.transpose(rows)


def boundary_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """rand_error, v_rand, v_info, warping_error, splits_and_mergers: each the mean over images at its own best cut.

    Args:
        sums: [..., 6, 9], of `boundary_sums`, or summed over images.
    """
    means = sums[..., :5, :] / sums[..., 5:, :]
    lowest, highest = means.min(-1), means.max(-1)
    return {
        "rand_error": lowest[..., 0],
        "v_rand": highest[..., 1],
        "v_info": highest[..., 2],
        "warping_error": lowest[..., 3],
        "splits_and_mergers": lowest[..., 4],
    }


def thinned(cells: np.ndarray) -> np.ndarray:
    """The cells [H, W] grown until one-pixel lines separate them; lines that separate nothing disappear."""
    return watershed(distance_transform_edt(cells == 0), cells, watershed_line=True)


def rand_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Foreground-restricted Rand error, 1 - V_Rand: 1 - F-score of the pairs of pixels in one cell.

    V_Rand = sum_ij n_ij (n_ij - 1) / (sum_i s_i (s_i - 1) / 2 + sum_j t_j (t_j - 1) / 2)

    where n_ij counts the pixels in predicted cell i and true cell j, s and t are its sums over j and i. Pixels outside
    the true cells are not counted. A counted pixel outside the predicted cells is a cell of its own, as in the
    challenge. 0 if there are no pairs, for example without true cells.

    Args:
        truth, prediction: numbers of cells, int [H, W], 0 for what lies between them.

    Reference: Arganda-Carreras et al. 2015, Crowdsourcing the creation of image segmentation algorithms for
    connectomics; alpha = 1/2.
    """
    if not truth.any():
        return 0.0
    with np.errstate(invalid="ignore"):  # precision or recall of no pairs
        error = float(adapted_rand_error(truth, with_single_pixels(prediction))[0])
    return 0.0 if np.isnan(error) else error


def information_score(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Foreground-restricted information score, V_Info = 2 I(S; T) / (H(S) + H(T)).

    I is the mutual information of the predicted cell S and the true cell T of a random pixel, H the entropy. The pixels
    counted are those of `rand_error`. 1 if truth and prediction have one cell each, or without true cells.
    """
    inside = truth > 0
    if not inside.any():
        return 1.0
    truth, prediction = truth[inside], with_single_pixels(prediction)[inside]
    entropies = shannon_entropy(truth) + shannon_entropy(prediction)
    if entropies == 0:
        return 1.0
    # H(S | T) + H(T | S) = H(S) + H(T) - 2 I
    return float(1.0 - variation_of_information(truth, prediction).sum() / entropies)


def with_single_pixels(cells: np.ndarray) -> np.ndarray:
    """The cells, with each pixel outside of them made a cell of its own."""
    cells, none = cells.astype(np.int64), cells == 0
    cells[none] = cells.max() + 1 + np.arange(np.count_nonzero(none))
    return cells


@functools.cache
def simple_points() -> np.ndarray:
    """Which pixels are simple, by their neighbours: bool [256]; bit k of the index: `NEIGHBOURS`[k] is foreground.

    Changing a simple pixel changes neither the number of 4-connected components of the foreground around it nor that of
    8-connected components of the background, and so not the topology.
    """
    simple = np.zeros(256, bool)
    for code in range(256):
        inside = np.zeros((2, 3, 3), bool)
        for k, (y, x) in enumerate(NEIGHBOURS):
            inside[:, 1 + y, 1 + x] = code >> k & 1
        inside[1, 1, 1] = True
        without, within = (
            (label(state, connectivity=1).max(), label(~state, connectivity=2).max()) for state in inside
        )
        simple[code] = without == within
    return simple


def warp(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The truth warped towards the prediction. The share of pixels that still differ is the warping error.

    Warping changes differing simple points (see `simple_points`) one after the other until there are none: it moves
    boundaries, but splits, joins, makes and fills nothing. What remains are topological errors: the pixels of a gap, a
    hole or an invented cell, and one pixel of a line that splits a cell. As in the paper no point is changed away from
    the prediction, so a line that moved further than its width counts as well.

    Args:
        truth, prediction: bool [H, W].

    Returns:
        bool [H, W]

    Reference: Jain et al. 2010, Boundary learning by optimization with topological constraints, section 2; without
    limits to how far boundaries move.
    """
    row = truth.shape[1] + 2
    warped, target = (np.pad(mask, 1).reshape(-1) for mask in (truth.astype(bool), prediction.astype(bool)))
    moving = True
    while moving:
        # Boundaries grow before they shrink; else a thin one would be gone before the new one could join it.
        moving = sum(turn(warped, target, row, value) for value in (False, True))
    return warped.reshape(-1, row)[1:-1, 1:-1]


def splits_and_mergers(warped: np.ndarray, prediction: np.ndarray) -> int:
    """How many errors of a warping, connected groups of differing pixels, split a cell or merge cells.

    A group that the prediction removes from cells is a split if it touches two predicted cells; a group that it adds to
    cells is a merger if it touches two cells of the warped truth. Lost or invented cells and holes do not count. As a
    share of all pixels this is the error by which the challenge ranked.

    Args:
        warped: of `warp`, bool [H, W].
        prediction: bool [H, W].
    """
    taken, added = (label(group, connectivity=2) for group in (warped & ~prediction, prediction & ~warped))
    return between_cells(taken, label(prediction, connectivity=1)) + between_cells(added, label(warped, connectivity=1))


def between_cells(groups: np.ndarray, cells: np.ndarray) -> int:
    """How many groups touch two or more cells by edges; numbers [H, W] of both, 0 elsewhere."""
    pairs = []
    for one, other in ((groups, cells), (groups.T, cells.T)):
        pairs += [np.stack([one[1:], other[:-1]], -1), np.stack([one[:-1], other[1:]], -1)]
    pairs = np.concatenate([pair.reshape(-1, 2) for pair in pairs])
    pairs = np.unique(pairs[(pairs > 0).all(-1)], axis=0)
    return int(np.count_nonzero(np.bincount(pairs[:, 0]) > 1))


def turn(warped: np.ndarray, target: np.ndarray, row: int, value: bool) -> int:
    """Sets simple points of `warped` to `value` where `target` has it, until none are left; returns how many.

    Args:
        warped, target: bool [P], flattened images with a margin of background.
        row: pixels of a row.
        value: the new value of the points.
    """
    simple, count = simple_points(), 0
    around = np.array([y * row + x for y, x in NEIGHBOURS])
    candidates = np.flatnonzero((warped != value) & (target == value))
    while candidates.size:
        moved = []
        # Points of equal parity are not neighbours, so they can be changed together.
        parity = candidates // row % 2 * 2 + candidates % row % 2
        for part in range(4):
            points = candidates[parity == part]
            points = points[simple[warped[points[:, np.newaxis] + around] @ (1 << np.arange(8))]]
            warped[points] = value
            moved.append(points)
        moved = np.concatenate(moved)
        count += moved.size
        # Only neighbours of changed points can have become simple.
        near = np.unique(moved[:, np.newaxis] + around)
        candidates = near[(warped[near] != value) & (target[near] == value)]
    return count
