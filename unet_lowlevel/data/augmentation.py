"""Random changes of a training image and its label.

Every change is a pure function of image and seed, by TensorFlow's stateless random operations: the
order in which images are prepared does not matter.
"""

import functools

import tensorflow as tf

from unet_lowlevel.config import AugmentationConfig
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.core.ops.dropout import fold_in
from unet_lowlevel.geometry import range_of_starts


def random_start(size, crop: tuple[int, int], margin: int, seed) -> tf.Tensor:
    """The first pixel of a randomly placed window; a window larger than the image is centered on it.

    Only the size of the image is needed, so that no more than the window has to be read from a file.

    Args:
        size: int32 [2], height and width of the image.
        crop: height and width of the window.
        margin: pixels that a valid network loses per axis; see `range_of_starts`.
        seed: int32 [2].

    Returns:
        int32 [2], row and column; outside the image where the window is mirrored, see `mirror_indices`.
    """
    first, last = range_of_starts(size, tf.constant(crop), margin)
    uniform = tf.random.stateless_uniform([2], seed)
    room = tf.maximum(last - first + 1, 1)
    inside = first + tf.minimum(tf.cast(uniform * tf.cast(room, tf.float32), tf.int32), room - 1)
    middle = (size - tf.constant(crop)) // 2
    return tf.where(last >= first, inside, middle)


def flip_and_turn(image, label, config: AugmentationConfig, seed, weights=None) -> tuple[tf.Tensor, ...]:
    """A random symmetry of the square, flips and quarter turns, all with the same probability.

    A quarter turn is a transposition and a flip, a half turn is both flips. Crops that are not square
    get no quarter turns.

    Args:
        image: float32 [H, W, C].
        label: int32 [H, W].
        config: `flips`, `flip_axes` and `quarter_turns`.
        seed: int32 [2].
        weights: float32 [H, W] or None.

    Returns:
        image, label and, if given, weights, changed alike.
    """
    up_down, left_right, quarter, half = tf.unstack(tf.random.stateless_uniform([4], seed) < 0.5)
    no = tf.constant(False)
    quarter = tf.logical_and(quarter, config.quarter_turns and label.shape[0] == label.shape[1])
    half = half if config.quarter_turns else no
    up_down = up_down if config.flips and config.flip_axes != "left_right" else no
    left_right = left_right if config.flips and config.flip_axes != "up_down" else no
    flip_rows = tf.not_equal(tf.not_equal(up_down, half), quarter)
    flip_columns = tf.not_equal(left_right, half)

    def change(pixels):
        if pixels.shape[0] == pixels.shape[1]:
            transposed = tf.transpose(pixels, [1, 0, 2] if pixels.shape.rank == 3 else [1, 0])
            pixels = tf.where(quarter, transposed, pixels)
        pixels = tf.where(flip_rows, pixels[::-1], pixels)
        return tf.where(flip_columns, pixels[:, ::-1], pixels)

    return tuple(change(pixels) for pixels in (image, label, weights) if pixels is not None)


def blurred(image, sigma, radius: int) -> tf.Tensor:
    """The image smoothed by a Gaussian, along rows and then along columns; beyond its borders it is mirrored.

    output[i] = sum over k in -radius ... radius of weights[k] image[i + k],  weights = softmax(-k^2 / (2 sigma^2))

    Args:
        image: float32 [H, W, C], of known size.
        sigma: float32 [], standard deviation in pixels; 0 leaves the image as it is.
        radius: where the Gaussian is cut off, in pixels.
    """
    distances = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.unstack(tf.nn.softmax(-0.5 * tf.square(distances / tf.maximum(sigma, 1e-3))))
    for axis, size in enumerate(image.shape[:2]):
        wider = tf.gather(image, mirror_indices(-radius, size + 2 * radius, size), axis=axis)
        shifted = (wider[k : k + size] if axis == 0 else wider[:, k : k + size] for k in range(2 * radius + 1))
        image = tf.add_n([weight * pixels for weight, pixels in zip(weights, shifted, strict=True)])
    return image


def lower_resolution(image, factor) -> tf.Tensor:
    """The image as if its pixels had been larger: shrunk to means over areas, and enlarged again linearly.

    Args:
        image: float32 [H, W, C], of known size.
        factor: float32 [], how much larger, 1 or more; sides of H / factor and W / factor are rounded, at least to 1.
    """
    size = tf.constant(image.shape.as_list()[:2])
    small = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) / factor), tf.int32), 1)
    return tf.image.resize(tf.image.resize(image, small, "area"), size, "bilinear")


def with_gamma(image, exponent) -> tf.Tensor:
    """low + (high - low) ((x - low) / (high - low))^exponent,  low and high of this image."""
    low, high = tf.reduce_min(image), tf.reduce_max(image)
    span = tf.maximum(high - low, 1e-6)
    return low + span * tf.pow((image - low) / span, exponent)


def with_contrast(image, factor) -> tf.Tensor:
    """mean + factor (x - mean),  mean of this image."""
    mean = tf.reduce_mean(image)
    return mean + factor * (image - mean)


def change_gray_values(image, config: AugmentationConfig, seed) -> tf.Tensor:
    """Gamma, contrast, brightness, blur, low resolution and noise, in this order, as what is seen comes to be an image.

    gamma:          `with_gamma` of -x, sign changed back, and of x, each with its own exponent g
    contrast:       `with_contrast` by a factor c
    brightness:     x + b
    blur:           `blurred` by a standard deviation of s pixels
    low resolution: `lower_resolution` by a factor f
    noise:          x + n normal

    with g and c uniform in 1 -+ the setting, b in -+ the setting, s and n in 0 ... the setting, f in 1 ... the setting.
    Each is made of a share of the images, its setting `..._probability`, and of all channels alike.

    Args:
        image: float32 [H, W, C], normalized, of known size.
        config: `gamma`, `contrast`, `brightness`, `blur`, `low_resolution`, `noise`; 0 leaves a change out.
        seed: int32 [2].

    Returns:
        the shape of `image`.

    Reference: Isensee et al. 2021 (nnU-Net), supplementary information, section on data augmentation. There brightness
    is a factor, which for images of mean 0 is a change of contrast, and each channel is changed by itself.
    """
    gamma, contrast, brightness, noise = tf.unstack(tf.random.stateless_uniform([4], fold_in(seed, 0), -1.0, 1.0))
    inverse, blur, resolution = tf.unstack(tf.random.stateless_uniform([3], fold_in(seed, 2)))
    radius = int(4.0 * config.blur + 0.5)
    # (setting, probability, change)
    changes = (
        (
            config.gamma,
            config.gamma_inverse_probability,
            lambda x: -with_gamma(-x, 1.0 + config.gamma * (2.0 * inverse - 1.0)),
        ),
        (config.gamma, config.gamma_probability, lambda x: with_gamma(x, 1.0 + config.gamma * gamma)),
        (config.contrast, config.contrast_probability, lambda x: with_contrast(x, 1.0 + config.contrast * contrast)),
        (config.brightness, config.brightness_probability, lambda x: x + config.brightness * brightness),
        (config.blur, config.blur_probability, lambda x: blurred(x, config.blur * blur, radius)),
        (
            config.low_resolution,
            config.low_resolution_probability,
            lambda x: lower_resolution(x, 1.0 + (config.low_resolution - 1.0) * resolution),
        ),
        (
            config.noise,
            config.noise_probability,
            lambda x: x + config.noise * tf.abs(noise) * tf.random.stateless_normal(tf.shape(x), fold_in(seed, 1)),
        ),
    )
    chances = tf.unstack(tf.random.stateless_uniform([len(changes)], fold_in(seed, 3)))
    for chance, (setting, probability, change) in zip(chances, changes, strict=True):
        if setting and probability == 1.0:
            image = change(image)
        elif setting and probability:
            image = tf.cond(
                chance < probability, functools.partial(change, image), functools.partial(tf.identity, image)
            )
    return image


def augment(image, label, config: AugmentationConfig, seed, weights=None) -> tuple[tf.Tensor, ...]:
    """The configured flips, turns and changes of gray values of a crop; deformations are in `deformation.py`."""
    if not config.augment:
        return (image, label) if weights is None else (image, label, weights)
    image, *masks = flip_and_turn(image, label, config, fold_in(seed, 1), weights)
    return change_gray_values(image, config, fold_in(seed, 2)), *masks
