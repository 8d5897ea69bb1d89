"""The trained network of a run, ready to predict."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel import metrics, run_folder
from unet_lowlevel.data.samples import Normalization, normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import TILE_SIZE
from unet_lowlevel.inference.folding import folded
from unet_lowlevel.inference.tiling import TiledNetwork
from unet_lowlevel.training.checkpoints import restore_best
from unet_lowlevel.unet import UNet


class Predictor(TiledNetwork):
    """The best network of a run, ready to segment images; all settings come from the run folder."""

    def __init__(self, run: Path, network: type[UNet] | None = None, tile_size: int = TILE_SIZE):
        """Restores the network.

        Args:
            run: the run folder, whichever implementation was trained.
            network: the implementation that predicts; None: ours, folded and frozen.
            tile_size: side in pixels of the largest window that the network sees at once.

        Raises:
            UserError: when `run` is no run folder or holds no weights that fit.
        """
        self.config, _, self.split = run_folder.read(run)
        model = (network or UNet)(self.config.model, seed=self.config.training.seed)
        restore_best(model, run)
        super().__init__(model if network else folded(model), tile_size)

    def check_channels(self, image: np.ndarray, path: Path) -> None:
        """Raises a `UserError` when the image [H, W, C] has not the channels that the network was trained on."""
        channels = self.config.model.in_channels
        if image.shape[-1] != channels:
            raise UserError(
                f"{path} has {image.shape[-1]} channels, but the network was trained on {channels}: convert the image."
            )

    def normalization(self, image: np.ndarray) -> Normalization:
        """How to normalize the image [H, W, C] as read from its file, for `tiles`."""
        return normalization(image, self.config.data)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Image [H, W, C] as read from its file -> float32 [H, W, K]; see `losses.probabilities`."""
        found = np.empty([*image.shape[:2], self.config.model.classes], np.float32)
        for rows, columns, tile in self.tiles(image, self.normalization(image)):
            found[rows, columns] = tile
        return found

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [H, W, K] -> uint8 [H, W], the class of each pixel; the run's threshold decides."""
        threshold = self.config.training.threshold
        return metrics.predicted_labels(tf.constant(probabilities[np.newaxis]), threshold)[0].numpy().astype(np.uint8)
