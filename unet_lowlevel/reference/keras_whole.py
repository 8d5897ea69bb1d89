"""All that happens to an image on its way to a mask, as a Keras model of Keras' own layers and operations.

Sizes are open, and Keras has no tensor of a shape. So an axis of n pixels is the vector 0 ... n - 1, which is counted
along the image itself, and whatever depends on its length is computed from it.
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from unet_lowlevel.config import Config, DataConfig, ModelConfig
from unet_lowlevel.geometry import smallest_valid_size, valid_margin
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.views import Flip
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.weights import write_keras

layers, ops = tf.keras.layers, tf.keras.ops


def write_whole_keras(run: str | Path, predictor: Predictor, path: Path) -> None:
    """Writes `whole_model` of the best network of a run as a .keras file; `predictor` is that of the run."""
    network = load(run, precision="float32", network=KerasUNet).networks[0].model.network
    write_keras(whole_model(network, predictor.config, predictor.views), path)


def whole_model(network: tf.keras.Model, config: Config, views: Sequence[Flip]) -> tf.keras.Model:
    """images float32 [N, H, W, C] as stored, of any size -> probabilities and mask, as `Predictor` computes them.

    Args:
        network: of `functional_unet`, which becomes the layer "unet".
        config: of the run.
        views: of an image, of which the mean is predicted.

    Returns:
        a model with the outputs {probabilities: float32 [N, H, W, K], mask: uint8 [N, H, W]}.
    """
    data, images = config.data, layers.Input([None, None, config.model.in_channels], name="images")
    axes = working = [counted(images[0, :, 0, 0]), counted(images[0, 0, :, 0])]
    pixels = ops.cast(images, "float64")
    if data.resizes:
        working = [working_axis(axis, data) for axis in axes]
        pixels = resampled(pixels, [area_shares(*pair) for pair in zip(axes, working, strict=True)])
    pixels = normalized(pixels, data)
    found = sum(of_view(network, config.model, pixels, working, view) for view in views) / len(views)
    if data.resizes:
        found = resampled(found, [linear(*pair) for pair in zip(axes, working, strict=True)])
    inside = found[..., 0] >= config.training.decision_threshold if config.model.classes == 1 else ops.argmax(found, -1)
    return tf.keras.Model(images, {"probabilities": found, "mask": ops.cast(inside, "uint8")}, name="whole")


def of_view(network: tf.keras.Model, model: ModelConfig, pixels, axes: list, view: Flip):
    """The probabilities of a view of normalized images [N, H, W, C], as those of the images."""
    axes = axes[::-1] if view.exchanged else axes
    mirrored = [mirrored_axis(axis, model) for axis in axes]
    seen = taken(turned(pixels, view), [places for places, _ in mirrored])
    logits = taken(network(seen), [start + axis for axis, (_, start) in zip(axes, mirrored, strict=True)])
    return turned_back(ops.sigmoid(logits) if model.classes == 1 else ops.softmax(logits), view)


def turned(images, view: Flip):
    """`view.of` each of the images [N, H, W, C]."""
    return reversed_axes(ops.transpose(images, [0, 2, 1, 3]) if view.exchanged else images, view)


def turned_back(found, view: Flip):
    """What was found for the views [N, H', W', K], as that of the images [N, H, W, K]."""
    found = reversed_axes(found, view)
    return ops.transpose(found, [0, 2, 1, 3]) if view.exchanged else found


def reversed_axes(images, view: Flip):
    axes = [axis for axis, wanted in ((1, view.upside_down), (2, view.left_right)) if wanted]
    return ops.flip(images, axes) if axes else images


def counted(values):
    """0 ... n - 1, int32 [n], of values [n]."""
    return ops.cumsum(ops.ones_like(values, dtype="int32")) - 1


def length(axis):
    """n of 0 ... n - 1, int32."""
    return axis[-1] + 1


def taken(images, places):
    """The rows and columns at `places`, int32 [h] and [w], of [N, H, W, C]: [N, h, w, C]."""
    return ops.take(ops.take(images, places[0], axis=1), places[1], axis=2)


def normalized(pixels, data: DataConfig):
    """`samples.normalization` of each image [N, H, W, C] of float64, float32."""
    if data.normalization == "range":
        low, high = data.normalization_range
        return ops.cast(ops.clip((pixels - low) / (high - low), 0, 1), "float32")
    low, high = (reduce(pixels, [1, 2, 3], keepdims=True) for reduce in (ops.min, ops.max))
    if data.normalization == "minmax":
        shift, scale = low, high - low
    else:
        shift = ops.mean(pixels, [1, 2, 3], keepdims=True)
        scale = ops.sqrt(ops.mean(ops.square(pixels - shift), [1, 2, 3], keepdims=True))
    constant = ops.equal(low, high)
    shift, scale = ops.where(constant, low, shift), ops.where(constant, ops.ones_like(scale), scale)
    return ops.cast((pixels - shift) / scale, "float32")


def mirrored_axis(axis, model: ModelConfig):
    """The places of an axis mirrored to a length that the network takes, and where its output shows the axis from.

    See `UNet.__call__`, `steps.whole_logits` and `cropping.mirror_indices`. A valid network gets up to 2^(depth - 1)
    pixels more at the end than it needs, which change nothing before them.
    """
    multiple = 2 ** (model.depth - 1)
    every = ops.max_pool(ops.reshape(ops.cast(axis, "float32"), [1, -1, 1]), multiple, padding="same")  # ceil(n / m)
    padded = ops.reshape(ops.repeat(every, multiple, axis=1), [-1])
    if model.padding == "valid":
        padded = ops.pad(padded, [[0, smallest_valid_size(model)]])
        before, start = valid_margin(model) // 2, 0
    else:
        before = start = (length(counted(padded)) - length(axis)) // 2
    last = axis[-1]
    place = ops.mod(counted(padded) - before, ops.maximum(2 * last, 1))
    return ops.where(place <= last, place, 2 * last - place), start


def working_axis(axis, data: DataConfig):
    """The axis that the network works at, see `resolution.working_size`."""
    if data.image_size:
        return ops.arange(data.image_size, dtype="int32")
    side = ops.maximum(ops.round(ops.cast(length(axis), "float64") * data.resolution), 1)
    return ops.cast(ops.nonzero(ops.cast(axis, "float64") < side)[0], "int32")


def area_shares(axis, working):
    """`export.whole.area_shares` of an axis [n] and a working axis [w], float64 [w, n]."""
    n, w = length(axis), length(working)
    ends, others = ops.expand_dims(working + 1, 1) * n, ops.expand_dims(axis + 1, 0) * w
    overlap = ops.minimum(ends, others) - ops.maximum(ends - n, others - w)
    return ops.cast(ops.maximum(overlap, 0), "float64") / ops.cast(n, "float64")


def linear(axis, working):
    """`resolution.linear` of a working axis [w] at an axis [n], float32 [n, w]."""
    n, w = (ops.cast(length(each), "float64") for each in (axis, working))
    place = ops.minimum(ops.maximum((ops.cast(axis, "float64") + 0.5) * w / n - 0.5, 0), w - 1)
    apart = ops.absolute(ops.expand_dims(place, 1) - ops.cast(ops.expand_dims(working, 0), "float64"))
    return ops.cast(ops.maximum(1 - apart, 0), "float32")


def resampled(images, weights):
    """below @ images @ beside^T in each channel: [N, H, W, C], weights [h, H] and [w, W] -> [N, h, w, C]."""
    below, beside = weights
    return ops.einsum("jw,nhwc->nhjc", beside, ops.einsum("ih,nhwc->niwc", below, images))
