"""Pictures of a network that learns: what it finds, its feature maps, and how much of an image each level sees."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import label

from unet_lowlevel.config import IGNORED, Config, ModelConfig, TrainingConfig
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.resolution import resized_values
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.geometry import receptive_field
from unet_lowlevel.pictures import CLASS_COLOURS, comparison, evenly, fitting, to_rgb, write
from unet_lowlevel.scoring.counts import predicted_labels
from unet_lowlevel.training.levels import watched
from unet_lowlevel.training.steps import whole_logits

# Feature maps of a level, and the larger side of each, in pixels.
MAPS, SIDE = 6, 128


def to_draw(epoch: int, images: int, training: TrainingConfig) -> list[int]:
    """The numbers of the validation images, of so many, that TensorBoard shows after an epoch; the first among them.

    None but after 0, 1, 2, 4, 8, ... epochs and the last: they change ever more slowly, and cost time.
    """
    due = epoch & (epoch - 1) == 0 or epoch == training.epochs
    return evenly(images, training.pictures) if due else []


def picture(sample: Sample, probabilities: np.ndarray, config: Config) -> np.ndarray:
    """`comparison` of a sample with its probabilities [H, W, K], at the size as stored.

    With instance labels, objects are the connected pixels of one class, in the truth after touching ones were parted.
    """
    predicted = predicted_labels(probabilities[np.newaxis], config.training.decision_threshold)[0].numpy()
    truth, objects = sample.truth, (None, None)
    if config.data.instances:
        parted = sample.target if sample.target is not None and sample.target.shape == truth.shape else truth
        parted = np.where(parted == IGNORED, 0, parted)
        objects = label(parted, connectivity=1), label(predicted, connectivity=1)
    surest = probabilities[..., 0] if config.model.classes == 1 else probabilities.max(-1)
    return comparison(
        resized_values(sample.normalized(), truth.shape),
        truth,
        np.nan_to_num(surest),
        predicted,
        config.model.classes,
        objects,
    )


def feature_maps(model: UNet, image: np.ndarray) -> np.ndarray | None:
    """For each level, from above to below, its last features: those channels that vary most over the image.

    Each map has its own scale, black its lowest and white its highest value.

    Args:
        model: if it is not made of `ConvBlock`, there are no feature maps: None.
        image: float32 [H, W, C], normalized.

    Returns:
        uint8 [., ., 3].
    """
    found: dict[str, np.ndarray] = {}

    def look(level: str, features: tf.Tensor) -> None:
        values = tf.cast(features[0], tf.float32)
        most = tf.argsort(tf.math.reduce_variance(values, [0, 1]), direction="DESCENDING")[:MAPS]
        found[level] = np.nan_to_num(tf.gather(values, most, axis=-1).numpy())  # perhaps it has diverged

    with watched(model, look):
        whole_logits(model, tf.constant(image[np.newaxis]))
    if not found:
        return None
    height, width = fitting(image.shape[:2], SIDE)
    line, gap = 18, 4
    page = Image.new("RGB", (MAPS * (width + gap), len(found) * (height + line)), "white")
    draw = ImageDraw.Draw(page)
    draw.font = ImageFont.load_default(12)
    for row, (level, values) in enumerate(found.items()):
        rows, columns, count = values.shape
        top = row * (height + line)
        write(draw, (0, top + 2), f"{level}: {rows} x {columns}", page.width)
        for column in range(count):
            small = Image.fromarray(to_rgb(values[..., column : column + 1]))
            page.paste(small.resize((width, height), Image.Resampling.NEAREST), (column * (width + gap), top + line))
    return np.asarray(page)


def fields_of_encoder(config: ModelConfig) -> list[int]:
    """The receptive field of a pixel at the end of each level of the encoder, the bottleneck last, in pixels a side."""
    path: list[tuple[str, int]] = []
    fields = []
    for _ in range(config.depth):
        path += [("convolution", config.kernel_size)] * config.convolutions_per_block
        fields.append(receptive_field(path))
        path.append(("pooling", 2))
    return fields


def receptive_fields(config: ModelConfig, image: np.ndarray) -> np.ndarray:
    """The image with a square for each level: what a pixel of its features, in the middle, depends on; uint8 [., ., 3].

    Args:
        image: [H, W, C].
    """
    height, width = fitting(image.shape[:2], 4 * SIDE)
    scale, line = height / image.shape[0], 18
    fields = fields_of_encoder(config)
    page = Image.new("RGB", (width, height + line * len(fields)), "white")
    page.paste(Image.fromarray(to_rgb(image)).resize((width, height), Image.Resampling.NEAREST))
    draw = ImageDraw.Draw(page)
    draw.font = ImageFont.load_default(12)
    for number, side in enumerate(fields):
        colour = tuple(CLASS_COLOURS[number % len(CLASS_COLOURS)].tolist())
        half, top = side * scale / 2, height + number * line
        box = [(width / 2 - half), (height / 2 - half), (width / 2 + half), (height / 2 + half)]
        draw.rectangle(
            [max(box[0], 0), max(box[1], 0), min(box[2], width - 1), min(box[3], height - 1)], None, colour, 2
        )
        draw.rectangle((2, top + 4, 12, top + 14), colour)
        name = "bottleneck" if number == config.depth - 1 else f"encoder_{number + 1}"
        beyond = ", more than the image" if side > min(image.shape[:2]) else ""
        write(draw, (18, top + 2), f"{name}: {side} x {side} pixels{beyond}", width)
    return np.asarray(page)
