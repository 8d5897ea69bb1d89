"""Random changes of a training image and its label.

Every change is a pure function of image and seed, by TensorFlow's stateless random operations: the
order in which images are prepared does not matter.
"""

import tensorflow as tf

from unet_lowlevel.config import AugmentationConfig

fold_in = tf.random.experimental.stateless_fold_in


def random_start(size, crop: tuple[int, int], margin: int, seed) -> tf.Tensor:
    """The first pixel of a randomly placed window; a window larger than the image is centered on it.

    Only the size of the image is needed, so that no more than the window has to be read from a file.

    Args:
        size: int32 [2], height and width of the image.
        crop: height and width of the window.
        margin: pixels that a valid network loses per axis. The window may extend beyond the image by half
            of it on each side, mirrored, so that the network's output reaches the image's border.
        seed: int32 [2].

    Returns:
        int32 [2], row and column; outside the image where the window is mirrored, see `mirror_indices`.
    """
    half = margin // 2
    last = size + (margin - half) - tf.constant(crop)
    uniform = tf.random.stateless_uniform([2], seed)
    room = tf.maximum(last + half + 1, 1)
    inside = -half + tf.minimum(tf.cast(uniform * tf.cast(room, tf.float32), tf.int32), room - 1)
    middle = (size - tf.constant(crop)) // 2
    return tf.where(last >= -half, inside, middle)


def flip_and_turn(image, label, config: AugmentationConfig, seed, weights=None) -> tuple[tf.Tensor, ...]:
    """A random symmetry of the square, flips and quarter turns, all with the same probability.

    A quarter turn is a transposition and a flip, a half turn is both flips. Crops that are not square
    get no quarter turns.

    Args:
        image: float32 [H, W, C].
        label: int32 [H, W].
        config: `flips` and `quarter_turns`.
        seed: int32 [2].
        weights: float32 [H, W] or None.

    Returns:
        image, label and, if given, weights, changed alike.
    """
    up_down, left_right, quarter, half = tf.unstack(tf.random.stateless_uniform([4], seed) < 0.5)
    no = tf.constant(False)
    quarter = tf.logical_and(quarter, config.quarter_turns and label.shape[0] == label.shape[1])
    half = half if config.quarter_turns else no
    up_down, left_right = (up_down, left_right) if config.flips else (no, no)
    flip_rows = tf.not_equal(tf.not_equal(up_down, half), quarter)
    flip_columns = tf.not_equal(left_right, half)

    def change(pixels):
        if pixels.shape[0] == pixels.shape[1]:
            transposed = tf.transpose(pixels, [1, 0, 2] if pixels.shape.rank == 3 else [1, 0])
            pixels = tf.where(quarter, transposed, pixels)
        pixels = tf.where(flip_rows, pixels[::-1], pixels)
        return tf.where(flip_columns, pixels[:, ::-1], pixels)

    return tuple(change(pixels) for pixels in (image, label, weights) if pixels is not None)


def change_gray_values(image, config: AugmentationConfig, seed) -> tf.Tensor:
    """Gamma, contrast, brightness and noise, in this order.

    gamma:      low + (high - low) ((x - low) / (high - low))^g,  low and high of this image
    contrast:   mean + c (x - mean)
    brightness: x + b
    noise:      x + s normal

    with g and c uniform in 1 -+ the setting, b in -+ the setting, s in 0 ... the setting.

    Args:
        image: float32 [H, W, C], normalized.
        config: `gamma`, `contrast`, `brightness`, `noise`; 0 leaves a change out.
        seed: int32 [2].

    Returns:
        the shape of `image`.
    """
    gamma, contrast, brightness, noise = tf.unstack(tf.random.stateless_uniform([4], fold_in(seed, 0), -1.0, 1.0))
    if config.gamma:
        low, high = tf.reduce_min(image), tf.reduce_max(image)
        span = tf.maximum(high - low, 1e-6)
        image = low + span * tf.pow((image - low) / span, 1.0 + config.gamma * gamma)
    if config.contrast:
        mean = tf.reduce_mean(image)
        image = mean + (1.0 + config.contrast * contrast) * (image - mean)
    if config.brightness:
        image = image + config.brightness * brightness
    if config.noise:
        image = image + config.noise * tf.abs(noise) * tf.random.stateless_normal(tf.shape(image), fold_in(seed, 1))
    return image


def augment(image, label, config: AugmentationConfig, seed, weights=None) -> tuple[tf.Tensor, ...]:
    """The configured flips, turns and changes of gray values of a crop; deformations are in `deformation.py`."""
    if not config.augment:
        return (image, label) if weights is None else (image, label, weights)
    image, *masks = flip_and_turn(image, label, config, fold_in(seed, 1), weights)
    return change_gray_values(image, config, fold_in(seed, 2)), *masks
