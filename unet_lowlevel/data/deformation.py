"""Rotation, scaling, shear and elastic deformation: one smooth field of places, one resampling of image and mask.

The field gives, for every pixel of a crop, the place in the image where its value comes from. It is computed on a
coarse grid of points, evenly spread over the crop, the outer ones on its border: each point's affine transform plus a
random displacement. Between the points it is interpolated. The interpolation is exact for affine fields, so only the
grid has to be rotated, scaled and sheared.

Reference: Ronneberger et al. 2015, section 3.1 (3 x 3 points, standard deviation of 10 pixels, bicubic). Bicubic here
is cubic convolution (Keys 1981, "Cubic convolution interpolation for digital image processing", a = -1/2), with Keys'
condition at the border. Unlike a B-spline it passes through the points, and it is a product of two small matrices.
"""

import math

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import AugmentationConfig
from unet_lowlevel.core.ops.dropout import fold_in

# How many pixels before and after floor(place) the interpolation uses.
REACH = {"bilinear": (0, 1), "bicubic": (1, 2)}


def deforms(config: AugmentationConfig) -> bool:
    """Whether the configuration asks for any deformation."""
    return config.augment and any((config.elastic, config.rotation, config.scaling, config.shear))


def cubic_weights(t):
    """Weights of the values at -1, 0, 1 and 2 for the place t in 0..1; t from NumPy or TensorFlow."""
    t2, t3 = t * t, t * t * t
    return [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]


def cubic_basis(size: int, points: int) -> np.ndarray:
    """The matrix that interpolates `size` values from `points` values, both evenly spread between the same ends.

    Cubic convolution needs one value beyond each end: 3 c[0] - 3 c[1] + c[2], likewise at the other end.

    Args:
        size: 1 or more.
        points: 3 or more.

    Returns:
        float64 [size, points]; exact for polynomials of degree 2.
    """
    place = np.linspace(0, points - 1, size)
    cell = np.minimum(place.astype(int), points - 2)
    basis = np.zeros((size, points + 2))  # one extra column at each end
    for k, weight in enumerate(cubic_weights(place - cell)):
        basis[np.arange(size), cell + k] = weight
    basis[:, 1:4] += basis[:, :1] * [3, -3, 1]
    basis[:, -4:-1] += basis[:, -1:] * [1, -3, 3]
    return basis[:, 1:-1]


def happens(shape: list[int], config: AugmentationConfig, seed) -> tf.Tensor:
    """1 with `deformation_probability`, else 0; float32."""
    return tf.cast(tf.random.stateless_uniform(shape, seed) < config.deformation_probability, tf.float32)


def affine_matrix(config: AugmentationConfig, seed) -> tf.Tensor:
    """The matrix from a pixel to its place, both (row, column) from the middle of the crop; float32 [2, 2].

    matrix = rotation @ shear / scale,  rotation = [[cos a, -sin a], [sin a, cos a]],  shear = [[1, 0], [tan s, 1]]

    with a and s uniform in -+ the settings, in degrees, and the scale uniform in 1 -+ the setting. Each of the three is
    drawn with `deformation_probability`; else a or s is 0, or the scale 1.
    """
    largest = tf.constant([math.radians(config.rotation), math.radians(config.shear), config.scaling])
    drawn = happens([3], config, fold_in(seed, 0)) * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    angle, shear, scale = tf.unstack(largest * drawn)
    cos, sin, tan = tf.cos(angle), tf.sin(angle), tf.tan(shear)
    return tf.reshape(tf.stack([cos - sin * tan, -sin, sin + cos * tan, cos]), [2, 2]) / (1.0 + scale)


def random_field(crop: tuple[int, int], config: AugmentationConfig, seed) -> tf.Tensor:
    """The place in the image of each pixel of a crop.

    field[:, y, x] = sum over i, j of rows[y, i] grid[:, i, j] columns[x, j]
    grid[:, i, j] = middle + affine (point[:, i, j] - middle) + elastic normal

    Elastic displacements, too, are drawn with `deformation_probability`.

    Args:
        crop: height and width.
        config: `elastic`, `elastic_grid`, `rotation`, `scaling`, `shear`, `deformation_probability`.
        seed: int32 [2].

    Returns:
        float32 [2, height, width]: row and column, in pixels from the crop's first pixel.
    """
    count = config.elastic_grid
    points = np.stack(np.meshgrid(*(np.linspace(0, side - 1, count) for side in crop), indexing="ij"))
    middle = (np.array(crop) - 1).reshape(2, 1) / 2
    from_middle = tf.constant(points.reshape(2, -1) - middle, tf.float32)
    grid = affine_matrix(config, fold_in(seed, 0)) @ from_middle + tf.constant(middle, tf.float32)
    elastic = config.elastic * happens([], config, fold_in(seed, 2))
    grid += elastic * tf.random.stateless_normal([2, count**2], fold_in(seed, 1))
    rows, columns = (tf.constant(cubic_basis(side, count), tf.float32) for side in crop)
    return rows @ tf.reshape(grid, [2, count, count]) @ tf.transpose(columns)


def window_of_field(start, field, interpolation: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The smallest window of an image that contains all pixels the field needs.

    Args:
        start: int32 [2], the crop's first pixel in the image.
        field: float32 [2, h, w], from the crop's first pixel.
        interpolation: in `REACH`.

    Returns:
        the window's first pixel in the image and its extent, both int32 [2], and the field from that pixel.
    """
    before, after = REACH[interpolation]
    first = tf.floor(tf.reduce_min(field, [1, 2])) - before
    field -= first[:, tf.newaxis, tf.newaxis]
    # From the shifted field, because the subtraction may have rounded up.
    extent = tf.cast(tf.floor(tf.reduce_max(field, [1, 2])), tf.int32) + after + 1
    return start + tf.cast(first, tf.int32), extent, field


def resampled(image, masks: list, field, interpolation: str) -> list[tf.Tensor]:
    """An image and its masks at the places of the field.

    Args:
        image: float32 [H, W, C].
        masks: of any type, [H, W].
        field: float32 [2, h, w] of places; all pixels that the interpolation uses must lie in the image.
        interpolation: of the image; masks take the nearest pixel, so that no new labels arise.

    Returns:
        the image [h, w, C] and the masks [h, w].
    """
    nearest = flat_index(tf.floor(field + 0.5), tf.shape(image)[1])
    return [interpolated(image, field, interpolation), *(tf.gather(tf.reshape(mask, [-1]), nearest) for mask in masks)]


def interpolated(image, field, interpolation: str) -> tf.Tensor:
    """The image at the places of the field: sum over i, j of rows[i] columns[j] image[row + i, column + j].

    Args:
        image, field: see `resampled`.
        interpolation: bilinear: weights 1 - t and t of the two neighbours; bicubic: `cubic_weights` of four.

    Returns:
        float32 [h, w, C].
    """
    before, after = REACH[interpolation]
    floor = tf.floor(field)
    rows, columns = (
        cubic_weights(t) if interpolation == "bicubic" else [1.0 - t, t]
        for t in tf.unstack((field - floor)[..., tf.newaxis])
    )
    width = tf.shape(image)[1]
    pixels = tf.reshape(image, [-1, image.shape[-1]])
    first = flat_index(floor, width)
    total = []
    for i, row in zip(range(-before, after + 1), rows, strict=True):
        neighbours = [tf.gather(pixels, first + (i * width + j)) for j in range(-before, after + 1)]
        total.append(row * tf.add_n([column * pixel for column, pixel in zip(columns, neighbours, strict=True)]))
    return tf.add_n(total)


def flat_index(places, width) -> tf.Tensor:
    """row * width + column, in integers, because float32 would round beyond 2^24."""
    row, column = tf.unstack(tf.cast(places, tf.int32))
    return row * width + column
