"""A network compiled for whole images and for windows of larger ones."""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import DataConfig
from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.geometry import span_around
from unet_lowlevel.inference.tiling import in_window, tile_logits
from unet_lowlevel.training.steps import whole_logits


class CompiledNetwork:
    """A network compiled for whole images and for windows; returns probabilities."""

    def __init__(self, model: UNet, data: DataConfig, run: Path | None = None):
        """Compiles; `data` says how images are normalized for it, `run` where its weights lie, for messages."""
        self.model, self.data, self.run = model, data, run
        images = tf.TensorSpec([None, None, None, model.config.in_channels], tf.float32)
        self.whole = tf.function(
            lambda images: probabilities(whole_logits(model, images)), input_signature=[images], autograph=False
        )
        self.tile = tf.function(
            lambda window, core: probabilities(tile_logits(model, window, core)),
            input_signature=[images, tf.TensorSpec([2, 2], tf.int32)],
            autograph=False,
        )

    def of_image(self, normalize: Normalization, image: np.ndarray) -> np.ndarray:
        """Probabilities float32 [H, W, K] of a whole image [H, W, C]."""
        return self.checked(self.whole(tf.constant(normalize(image)[np.newaxis]))[0].numpy())

    def of_window(self, normalize: Normalization, window: np.ndarray, core: np.ndarray) -> np.ndarray:
        """Probabilities float32 [..., K] of the core of a window [h, w, C], see `tile_logits`."""
        return self.checked(self.tile(tf.constant(normalize(window)[np.newaxis]), tf.constant(core))[0].numpy())

    def checked(self, probabilities: np.ndarray) -> np.ndarray:
        """The probabilities; a `UserError` if one is NaN, which would be neither foreground nor background."""
        if math.isnan(probabilities.sum()):
            weights = self.run / "best" if self.run else "The network"
            raise UserError(
                f"{weights} gives probabilities that are NaN (its training has diverged, or its weights are damaged): "
                "train anew with a lower --learning-rate, or restore the run folder."
            )
        return probabilities

    def part(self, image: Any, normalize: Normalization, rows: slice, columns: slice) -> np.ndarray:
        """The probabilities of a part of an image [H, W, C], in one window: float32 [rows, columns, K].

        `image` may be anything with a shape that can be sliced; `rows` and `columns` have a start and a stop.
        """
        sides = zip((rows, columns), image.shape[:2], strict=True)
        below, beside = (span_around(side.start, side.stop, length, self.model.config) for side, length in sides)
        return in_window(image, below, beside, functools.partial(self.of_window, normalize))
