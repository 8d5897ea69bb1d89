"""What is reported of a data set beside its findings: facts, what a training costs, and pictures."""

import math
import time
from collections import Counter

import numpy as np

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.check.findings import ERROR, NOTE, WARNING, Evidence, Finding, decoded_bytes, working_sizes
from unet_lowlevel.data.check.inspection import MaskFacts, Measurement
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.masks import read_label
from unet_lowlevel.machine import available_memory, start_tensorflow
from unet_lowlevel.pictures import Tile, contact_sheet, evenly, legend_of_classes, overlay

# Not the colours of masks.
FRAMES = {ERROR: (220, 30, 30), WARNING: (140, 60, 220), NOTE: (120, 120, 120)}
TILES, TILE_SIDE = 64, 160
# Measured: training reaches this share of the speed of a large product of matrices.
SHARE_OF_PEAK = 0.65


def facts_of(evidence: Evidence) -> dict:
    """The facts about the data, as JSON can hold them."""
    images = [m.image for m in evidence.measurements if m.image]
    masks = [m.mask for m in evidence.measurements if m.mask]
    shares = [mask.foreground for mask in masks]
    length = max((len(mask.counts) for mask in masks), default=0)
    counts = np.sum([np.pad(mask.counts, (0, length - len(mask.counts))) for mask in masks], axis=0)
    return {
        "pairs": len(evidence.measurements),
        "images": {
            "readable": len(images),
            "sizes": frequencies("x".join(map(str, image.size)) for image in images),
            "channels": frequencies(str(image.channels) for image in images),
            "dtypes": frequencies(image.dtype for image in images),
            "lowest": min((image.low for image in images), default=None),
            "highest": max((image.high for image in images), default=None),
        },
        "masks": {
            "readable": len(masks),
            "values": sorted(
                {str(value) for mask in masks for value in mask.values}, key=lambda text: (len(text), text)
            ),
            "empty": shares.count(0),
            "foreground": [f(shares) for f in (min, np.median, max)] if masks else [],
            "class_shares": (counts / counts.sum()).tolist() if masks else [],
            "labelled": labelled_shares(masks) if masks and evidence.config.data.ignored else [],
        },
        "split": {"training": len(evidence.training), "held_out": len(evidence.held_out)},
    }


def labelled_shares(masks: list[MaskFacts]) -> list[float]:
    """The least, the median and the greatest share of a mask that is labelled, and that of all together."""
    shares = [mask.labelled for mask in masks]
    pixels = sum(mask.size[0] * mask.size[1] for mask in masks)
    return [
        *(float(f(shares)) for f in (min, np.median, max)),
        float(sum(mask.counts.sum() for mask in masks) / pixels),
    ]


def frequencies(things) -> dict[str, int]:
    """{thing: how many}, the most frequent first."""
    return dict(Counter(things).most_common())


def costs(evidence: Evidence) -> dict:
    """About how much memory and time a training takes here: see `training_bytes` and `SHARE_OF_PEAK`."""
    sizes = [m for m in evidence.measurements if m.image]
    if not sizes or not evidence.training:
        return {}
    start_tensorflow()
    from unet_lowlevel.data.pipeline import draws_of_images, resolve_crop_size
    from unet_lowlevel.summary import step_operations, training_bytes

    in_channels = Counter(m.image.channels for m in sizes).most_common(1)[0][0]
    config = settings.apply(evidence.config, {"in_channels": in_channels})
    config = settings.apply(config, {"crop_size": resolve_crop_size(config, working_sizes(config, sizes))})
    side, batch = config.training.crop_size, config.training.batch_size
    draws = sum(draws_of_images(config, working_sizes(config, sizes))) * len(evidence.training) / len(sizes)
    epochs, steps = config.training.epochs, config.training.steps_per_epoch or math.ceil(draws / batch)
    peak = peak_speed()
    return {
        "memory": {
            "decoded_bytes": decoded_bytes(config, sizes),
            "step_bytes": training_bytes(config),
            "available_bytes": available_memory(),
        },
        "time": {
            "crop_size": side,
            "batch_size": batch,
            "epochs": epochs,
            "steps_per_epoch": steps,
            "seconds": epochs * steps * step_operations(config) / (SHARE_OF_PEAK * peak),
            "peak_flops": peak,
        },
    }


def peak_speed(side: int = 2048) -> float:
    """Floating-point operations a second in the product of two large matrices: the best of three."""
    import tensorflow as tf

    matrix = tf.random.stateless_normal([side, side], [0, 0])
    seconds = []
    for _ in range(4):  # the first includes the set-up
        start = time.perf_counter()
        tf.matmul(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])


def sheet_of(evidence: Evidence, findings: list[Finding]) -> np.ndarray:
    """A picture of up to `TILES` images with their masks, those of the findings first, framed and with the reason."""
    first: dict[str, Finding] = {}
    for finding in findings:  # the worst come first
        for stem in finding.stems:
            first.setdefault(stem, finding)
    measured = {m.stem: m for m in evidence.measurements}
    stems = [stem for stem in first if stem in measured][:TILES]
    others = [stem for stem in measured if stem not in first]
    stems += [others[i] for i in evenly(len(others), TILES - len(stems))] if others else []
    tiles: list[Tile] = []
    for stem in stems:
        frame = FRAMES[first[stem].severity] if stem in first else None
        tiles.append((thumbnail(measured[stem], evidence.config), stem, frame))
    reasons = [first[stem].kind.replace("_", " ") if stem in first else "" for stem in stems]
    frames = [(np.array(colour, np.uint8), f"frame: {severity}") for severity, colour in FRAMES.items()]
    legend = legend_of_classes(evidence.config.model.classes, tinted=True)
    return contact_sheet(tiles, TILE_SIDE, headings=[("images with masks", [*legend, *frames])], reasons=reasons)


def thumbnail(m: Measurement, config: Config) -> np.ndarray:
    """The image with its mask over it, reduced; gray if the image, and without mask if the mask cannot be used."""
    if not m.image:
        return np.full((TILE_SIDE, TILE_SIDE, 3), 128, np.uint8)
    image = read_image(m.pair.image, config.data)
    label = np.zeros(m.size, np.uint8)
    if m.mask and m.mask.size == m.size:
        label = read_label(m.pair.masks, config.model.classes, config.data)
    step = max(max(m.size) // (2 * TILE_SIDE), 1)
    return overlay(image[::step, ::step], label[::step, ::step])
