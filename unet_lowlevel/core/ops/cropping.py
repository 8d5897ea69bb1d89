"""Cropping and mirroring: what makes sizes fit."""

import tensorflow as tf


def center_crop(images: tf.Tensor, height, width) -> tf.Tensor:
    """The middle height x width pixels of [N, H, W, C] (or of [N, H, W]); an odd rest stays at the far side."""
    top = (tf.shape(images)[1] - height) // 2
    left = (tf.shape(images)[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def crop_like(larger: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """The middle of `larger` [N, H', W', S] (or [N, H', W']) in the size of `images` [N, H, W, C]."""
    if larger.shape[1:3] == images.shape[1:3] and larger.shape[1:3].is_fully_defined():
        return larger
    return center_crop(larger, tf.shape(images)[1], tf.shape(images)[2])


def crop_and_concat(skip: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Joins the contracting path's features to the expanding path's, cropped to the same size.

    output[..., :S] = center_crop(skip), output[..., S:] = images

    Args:
        skip: float [N, H', W', S], H' >= H and W' >= W ("valid" convolutions lose border pixels).
        images: float [N, H, W, C].

    Returns:
        [N, H, W, S + C]

    Reference: Ronneberger et al. 2015, figure 1 ("copy and crop").
    """
    return tf.concat([crop_like(skip, images), images], axis=-1)


def mirror_indices(start, size, length) -> tf.Tensor:
    """Positions start ... start + size - 1 on an axis of `length` pixels, mirrored at its ends.

    The border pixel itself is not repeated: ... 2 1 [0 1 2 3] 2 1 0 1 ..., as often as needed; one pixel always is.

    Args:
        start: first position; negative or beyond the end where the mirror begins.
        size: how many.
        length: of the axis, at least 1.

    Returns:
        int32 [size] with values in 0 ... length - 1, for `tf.gather`.
    """
    period = tf.maximum(2 * (length - 1), 1)
    position = tf.math.floormod(start + tf.range(size), period)
    return tf.where(position < length, position, period - position)


def mirror_crop(images: tf.Tensor, top, left, height, width) -> tf.Tensor:
    """The window of [N, H, W, C] at (top, left); what lies outside the images is mirrored inside.

    Reference: Ronneberger et al. 2015, figure 2 ("missing input data is extrapolated by mirroring").
    """
    rows = mirror_indices(top, height, tf.shape(images)[1])
    columns = mirror_indices(left, width, tf.shape(images)[2])
    return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)


def pad_to_multiple(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Mirrors [N, H, W, C] up to the next multiple of `multiple`, evenly on both sides.

    Returns:
        [N, H', W', C], H' = multiple * ceil(H / multiple), W' likewise; `center_crop` undoes it.
    """
    if all(side is not None and side % multiple == 0 for side in images.shape[1:3]):
        return images
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    padded_height, padded_width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    top, left = -((padded_height - height) // 2), -((padded_width - width) // 2)
    padded = mirror_crop(images, top, left, padded_height, padded_width)
    known = [None if side is None else -(-side // multiple) * multiple for side in images.shape[1:3]]
    padded.set_shape([images.shape[0], *known, images.shape[3]])
    return padded


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    skip, images = array(" ".join(map(str, range(25))), 1, 5, 5, 1), array("100 200  300 400", 1, 2, 2, 1)
    show(crop_and_concat, by_hand.crop_and_concat, skip, images)
    show(mirror_crop, by_hand.mirror_crop, array("1 2 3  4 5 6  7 8 9", 1, 3, 3, 1), -2, -1, 6, 6)
