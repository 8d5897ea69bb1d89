"""The mean of several predictions: of the networks of several runs, of several views of an image, or of both."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import TILE_SIZE
from unet_lowlevel.inference.averaging import ASIS, FLIPS, ROTATIONS, Flip, Rotation
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.tiling import spans


class Ensemble(Predictor):
    """The predictor of a run that asks the networks of others, too, and shows each of them all views of the image.

    probability = mean over networks and views of the probability in the view

    Each network has its own run's normalization. How images are read, and the threshold, are those of the first run.
    """

    def __init__(self, runs: Sequence[Path], views: Sequence[Flip | Rotation] = ASIS, tile_size: int = TILE_SIZE):
        """Restores the networks.

        Args:
            runs: at least one run folder.
            views: see `averaging`.
            tile_size: side in pixels of the largest window that a network sees at once.

        Raises:
            UserError: for a folder that is no run, and for networks of other channels or classes than the first's.
        """
        super().__init__(runs[0], tile_size=tile_size)
        self.views = views
        self.predictors = [self, *(Predictor(run, tile_size=tile_size) for run in runs[1:])]
        for run, predictor in zip(runs, self.predictors, strict=True):
            (first, other) = ((p.config.model.in_channels, p.config.model.classes) for p in (self, predictor))
            if first != other:
                raise UserError(
                    f"--run {runs[0]} takes {first[0]} channels and tells {first[1]} classes, but --run {run} "
                    f"{other[0]} and {other[1]}: name runs of one kind of data."
                )
        splits = [predictor.split for predictor in self.predictors]
        self.split = {
            "training": sorted(set().union(*(split["training"] for split in splits))),
            "validation": sorted(set.intersection(*(set(split["validation"]) for split in splits))),
        }

    def normalization(self, image: np.ndarray) -> list[Normalization]:
        """How each network wants the image [H, W, C] normalized; computed once for those that want the same."""
        found: dict[tuple, Normalization] = {}
        kinds = [(p.config.data.normalization, p.config.data.normalization_range) for p in self.predictors]
        for kind, predictor in zip(kinds, self.predictors, strict=True):
            if kind not in found:
                found[kind] = Predictor.normalization(predictor, image)
        return [found[kind] for kind in kinds]

    def fits(self, image: np.ndarray) -> bool:
        """Never: an image is not shown together with others."""
        return False

    def parts(self, image: np.ndarray, normalize: list[Normalization]) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """The mean probabilities of an image, as `tiles` gives them, with the tile size as it is."""
        size = image.shape[:2]
        for rows, columns in self.layout(size):
            total = 0.0
            for predictor, normalization in zip(self.predictors, normalize, strict=True):
                for view in self.views:
                    found = predictor.part(view.of(image), normalization, *view.part(rows, columns, size))
                    total = total + view.back(found, rows, columns, size)
            yield rows, columns, total / np.float32(len(self.predictors) * len(self.views))

    def layout(self, size: tuple[int, int]) -> list[tuple[slice, slice]]:
        """The rows and columns of what is computed at once of an image of this size."""
        # A tile that is rotated lies in a rectangle of up to twice its area.
        widened = any(isinstance(view, Rotation) for view in self.views)
        largest = int(self.tile_size / math.sqrt(2)) if widened else self.tile_size
        axes = [[slice(s.start, s.stop) for s in spans(length, largest, self.model.config)] for length in size]
        return list(itertools.product(*axes))


def make_predictor(
    runs: Sequence[Path],
    *,
    average_flips: bool = False,
    average_rotations: bool = False,
    tile_size: int = TILE_SIZE,
) -> Predictor:
    """What predicts with these runs: the predictor of one, or an ensemble."""
    views = FLIPS if average_flips else ROTATIONS if average_rotations else ASIS
    if len(runs) == 1 and views is ASIS:
        return Predictor(runs[0], tile_size=tile_size)
    return Ensemble(runs, views, tile_size)
