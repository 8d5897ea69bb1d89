"""The scores of the ISBI 2012 challenge: how well boundaries part cells from each other.

Foreground is the inside of cells, whose 4-connected components are the cells; what parts them is 8-connected, and so is
the surroundings of the image with it. Pixel error is in `counts.py`.
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
        pixels: how many of them count; the others are 0 in all three.
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
    """The cells [H, W] grown until lines of one pixel part them; lines that part nothing are gone."""
    return watershed(distance_transform_edt(cells == 0), cells, watershed_line=True)


def rand_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Foreground-restricted Rand error, 1 - V_Rand: 1 - F-score of the pairs of pixels in one cell.

    V_Rand = sum_ij n_ij (n_ij - 1) / (sum_i s_i (s_i - 1) / 2 + sum_j t_j (t_j - 1) / 2)

    where n_ij counts the pixels of predicted cell i and true cell j, s and t are its sums over j and i. Pixels that
    belong to no true cell are not counted; of the others, each that belongs to no predicted cell is a cell of its own,
    as in the challenge. 0 where there are no pairs, as without true cells.

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
    """Foreground-restricted information score, V_Info = 2 I(S; T) / (H(S) + H(T)), of the cells of a random pixel.

    I is the mutual information of predicted cell S and true cell T, H the entropy. Which pixels are counted: see
    `rand_error`. 1 where truth and prediction have one cell each, or there are no true cells.
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
    """The cells with each pixel of none made a cell of its own."""
    cells, none = cells.astype(np.int64), cells == 0
    cells[none] = cells.max() + 1 + np.arange(np.count_nonzero(none))
    return cells


@functools.cache
def simple_points() -> np.ndarray:
    """Whether a pixel with these neighbours is simple, bool [256]; bit k: `NEIGHBOURS`[k] is foreground.

    Simple: whether it is foreground changes neither the number of 4-connected components of the foreground nor that of
    8-connected components of the background around it, and so no topology at all.
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
    """The truth warped towards the prediction: the pixels that differ then, over all pixels, are the warping error.

    Warping turns simple points, see `simple_points`, that differ, one after the other until there are none: it moves
    boundaries, but parts, joins, makes and fills nothing. What remains are topological errors: the pixels of a gap, a
    hole or an invented cell, one pixel of a line that parts a cell. As in the paper no point is turned away from the
    prediction, so that a line which has moved further than it is wide counts as well.

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
        # Boundaries grow before they shrink: a thin one would else be gone from where the new one could join it.
        moving = sum(turn(warped, target, row, value) for value in (False, True))
    return warped.reshape(-1, row)[1:-1, 1:-1]


def splits_and_mergers(warped: np.ndarray, prediction: np.ndarray) -> int:
    """How many errors of a warping, groups of pixels that differ and touch, part a cell or join cells.

    A group that the prediction takes from cells parts one if two of its cells are beside it; one that it adds to them
    joins cells if two of the warped truth's are. Cells that are lost, invented or have holes do not count: the error
    by which the challenge ranked, over all pixels.

    Args:
        warped: of `warp`, bool [H, W].
        prediction: bool [H, W].
    """
    taken, added = (label(group, connectivity=2) for group in (warped & ~prediction, prediction & ~warped))
    return between_cells(taken, label(prediction, connectivity=1)) + between_cells(added, label(warped, connectivity=1))


def between_cells(groups: np.ndarray, cells: np.ndarray) -> int:
    """How many groups have two cells or more beside them, by edges; numbers [H, W] of both, 0 elsewhere."""
    pairs = []
    for one, other in ((groups, cells), (groups.T, cells.T)):
        pairs += [np.stack([one[1:], other[:-1]], -1), np.stack([one[:-1], other[1:]], -1)]
    pairs = np.concatenate([pair.reshape(-1, 2) for pair in pairs])
    pairs = np.unique(pairs[(pairs > 0).all(-1)], axis=0)
    return int(np.count_nonzero(np.bincount(pairs[:, 0]) > 1))


def turn(warped: np.ndarray, target: np.ndarray, row: int, value: bool) -> int:
    """Gives simple points of `warped` the value that `target` has there, until there are none; returns how many.

    Args:
        warped, target: bool [P], images with a margin of background, one row after the other.
        row: pixels of a row.
        value: of the points that are turned.
    """
    simple, count = simple_points(), 0
    around = np.array([y * row + x for y, x in NEIGHBOURS])
    candidates = np.flatnonzero((warped != value) & (target == value))
    while candidates.size:
        moved = []
        # Points of equal parity are no neighbours of each other: turned together or one by one, it is the same.
        parity = candidates // row % 2 * 2 + candidates % row % 2
        for part in range(4):
            points = candidates[parity == part]
            points = points[simple[warped[points[:, np.newaxis] + around] @ (1 << np.arange(8))]]
            warped[points] = value
            moved.append(points)
        moved = np.concatenate(moved)
        count += moved.size
        # Only what has a new neighbour can have become simple.
        near = np.unique(moved[:, np.newaxis] + around)
        candidates = near[(warped[near] != value) & (target[near] == value)]
    return count
