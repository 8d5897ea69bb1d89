"""How far the surfaces of masks are from each other."""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


def surface_sums(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Means over the foreground classes of both `surface_distances`, and the weight of the image: float64 [3].

    Args:
        truth, prediction: int [H, W] with values 0 ... classes - 1.
    """
    each = [surface_distances(truth == k, prediction == k) for k in range(1, classes)]
    return np.array([*np.mean(each, 0), 1.0])


def surface_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """hd95 and surface_distance in pixels: means over images, from [..., 3] of `surface_sums` or sums of it."""
    return {"hd95": sums[..., 0] / sums[..., 2], "surface_distance": sums[..., 1] / sums[..., 2]}


def surface_distances(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Hausdorff 95 and mean symmetric surface distance of two masks, in pixels.

    The surface of a mask are its pixels with an edge to the outside. Distances go from every pixel of one surface to
    the nearest of the other, in both directions:

        hd95 = the greater of the two 95th percentiles;  surface distance = the mean of all

    Both masks empty: 0. One of them empty: the diagonal of the image, the largest possible distance.

    Args:
        truth, prediction: bool [H, W].

    >>> truth, prediction = np.zeros([2, 9, 9], bool)
    >>> truth[2, :], prediction[5, :] = True, True  # two lines, 3 pixels apart
    >>> surface_distances(truth, prediction)
    (3.0, 3.0)
    """
    if not truth.any() and not prediction.any():
        return 0.0, 0.0
    if not (truth.any() and prediction.any()):
        return (float(np.hypot(*truth.shape)),) * 2
    one, other = (mask & ~binary_erosion(mask) for mask in (truth, prediction))
    forth, back = distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    return float(hd95), float(np.concatenate([forth, back]).mean())
