"""Accumulation: the gradient of a large batch within the memory of a small one."""

import itertools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from unet_lowlevel.core.replicas import images_before, summed


def in_parts(function: Callable[..., Any], parts: int, *batch: tf.Tensor) -> Any:
    """The sum of what `function` gives for the parts of a batch, computed one after another.

    sum over parts i of function(images in part i / images in the batch, images before part i, *part i)

    Images are counted over all replicas that share the batch.

    A part begins when the one before it is done. Else TensorFlow would compute them side by side, and hold what the
    gradient needs of all of them at once.

    Args:
        function: called with a float32 scalar, int32 [1] and the tensors of the part; returns tensors, in lists or
            dictionaries.
        parts: how many; of sizes that differ by one image at most. No more than there are images.
        batch: tensors [N, ...].
    """
    with tf.name_scope("parts_of_batch") as scope:
        images, before = tf.shape(batch[0])[0], images_before(batch[0])
        everywhere = summed(images)
        edges = [images * i // parts for i in range(parts + 1)]
    total: Any = None
    for first, last in itertools.pairwise(edges):
        with tf.name_scope(scope), tf.control_dependencies(tf.nest.flatten(total or [])):
            part = [tf.identity(tensor[first:last]) for tensor in batch]
            share = tf.cast(summed(last - first) / everywhere, tf.float32)
            before_part = before + first
        found = function(share, before_part, *part)
        total = found if total is None else tf.nest.map_structure(tf.add, total, found)
    return total
