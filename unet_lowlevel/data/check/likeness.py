"""Finds images that show the same, and masks that do not lie on their images as the others do."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from unet_lowlevel.data.check.inspection import Traits

# Images whose signatures correlate more than this show the same. Among lungs and nuclei it finds all copies of another
# contrast, 99 % of those from JPEG of quality 60, 90 % with noise of 5 of 255, 88 % of half the size, and hardly any
# shifted by 3 pixels. The two most similar of 26 thoraxes correlate 0.985; of the nuclei of DSB2018 two slices of one
# embryo 0.977, all others less than 0.7.
NEARLY_THE_SAME = 0.995
BLOCK = 512
# Fewer masks do not show what is usual.
FEWEST = 8
# The unit of distance between traits: a factor of e in the odds of the foreground, 0.1 of a probability or share.
STEP = 0.1
# In this unit: masks within CLOSE are alike; a mask without two others within FAR is unlike all. For 720 correct masks
# (lungs, many kinds of nuclei, membranes) the second nearest was at most 1.4 away; for one that also marks air, 4.2.
CLOSE, FAR = 2.0, 2.5
# A mask whose inverse has more than so many times as many neighbours looks inverted. Where 30 % of a set are inverted,
# 2 finds 80 % of them among tumours and 93 % or more among lungs, membranes, nuclei and blood cells, 4 hardly any.
# Neither suspects a correct mask of these five sets.
MORE_LIKE_THE_OTHERS = 2


def near_duplicates(signatures: np.ndarray, groups: np.ndarray) -> list[list[int]]:
    """Sets of indices of images with nearly equal signatures; images of one group are not compared.

    Args:
        signatures: float32 [N, S], see `inspection.signature`.
        groups: [N], a name for each image.
    """
    first, second = [], []
    for start in range(0, len(signatures), BLOCK):  # so that 10,000 images take megabytes, not a gigabyte
        rows, columns = np.nonzero(signatures[start : start + BLOCK] @ signatures.T > NEARLY_THE_SAME)
        rows += start
        chosen = (rows < columns) & (groups[rows] != groups[columns])
        first.append(rows[chosen])
        second.append(columns[chosen])
    links = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(links[0])), links), shape=(len(signatures),) * 2)
    _, component = connected_components(graph, directed=False)
    numbers, counts = np.unique(component, return_counts=True)
    return [np.flatnonzero(component == number).tolist() for number in numbers[counts > 1]]


def misplaced(traits: list[Traits]) -> tuple[list[int], list[int]]:
    """Indices of the masks that look inverted, and of those that are unlike all others.

    A mask is a point in the space of traits. It looks inverted if the point of its inverse has more than twice as many
    neighbours as its own point. It is unlike all others if it has hardly any neighbours, even far ones. So a set may
    hold several kinds of images with different masks.
    """
    if len(traits) < FEWEST:
        return [], []
    points = np.array([place(item) for item in traits])
    inverses = np.array([place(item.inverted()) for item in traits])
    tree = KDTree(points)
    own = tree.query_ball_point(points, CLOSE, return_length=True) - 1
    others = tree.query_ball_point(inverses, CLOSE, return_length=True)
    inverted = others > np.maximum(MORE_LIKE_THE_OTHERS * own, FEWEST // 2)
    usual = np.flatnonzero(~inverted)
    if len(usual) < FEWEST:
        return np.flatnonzero(inverted).tolist(), []
    distances, _ = KDTree(points[usual]).query(points[usual], k=3)  # itself, and two more
    return np.flatnonzero(inverted).tolist(), usual[distances[:, 2] > FAR].tolist()


def place(traits: Traits) -> tuple[float, ...]:
    """The point of a mask in the space of traits, in units of distance."""
    share = np.clip(traits.foreground, 0.001, 0.999)
    return (
        float(np.log(share / (1 - share))),
        traits.brightness / STEP,
        traits.edges / STEP,
        traits.border / STEP,
    )
