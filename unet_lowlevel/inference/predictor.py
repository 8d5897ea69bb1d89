"""Trained networks, ready to predict: of one run or several, with one view of the image or several."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from unet_lowlevel import run_folder, settings
from unet_lowlevel.config import Config
from unet_lowlevel.core.fast import FoldedUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.packed import Part
from unet_lowlevel.data.resolution import resized_image, resized_values, strips, working_size
from unet_lowlevel.data.samples import Normalization, normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.geometry import smallest_tile_size, spans
from unet_lowlevel.inference import TILE_SIZE
from unet_lowlevel.inference.compiled_network import CompiledNetwork
from unet_lowlevel.inference.separation import FILE, Separation, foreground_probabilities, read_separation, separate
from unet_lowlevel.inference.threshold import read_threshold
from unet_lowlevel.inference.tiling import in_tiles
from unet_lowlevel.inference.views import ASIS, FLIPS, ROTATIONS, Flip, Rotation, trained_flips
from unet_lowlevel.memory import OUT_OF_MEMORY, check_available, prediction_bytes
from unet_lowlevel.scoring.counts import predicted_labels
from unet_lowlevel.scoring.objects import Objects
from unet_lowlevel.terminal import note
from unet_lowlevel.training.checkpoints import restore_best

AVERAGES: dict[str, Sequence[Flip | Rotation]] = {"none": ASIS, "flips": FLIPS, "rotations": ROTATIONS}
# Rows, columns, and what was computed for the pixels there.
Tile = tuple[slice, slice, np.ndarray]


@dataclass(frozen=True, eq=False)
class WorkingImage:
    """An image as the networks that work at one size see it.

    Attributes:
        pixels: [h, w, C], resized; the image itself where it has that size.
        size: height and width of the image as stored.
        networks: which work at this size.
        normalizations: of `pixels`, for each of these.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    networks: Sequence[CompiledNetwork]
    normalizations: Sequence[Normalization]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of a prediction.

    Attributes:
        mask: uint8 [H, W], the class of each pixel.
        probabilities: float32 [H, W, K]; K = 1: of the foreground, else of every class.
        separation: how objects are separated.
    """

    mask: np.ndarray
    probabilities: np.ndarray
    separation: Separation

    @functools.cached_property
    def objects(self) -> Objects:
        """The single objects, which do not overlap, and the class of each."""
        return separate(foreground_probabilities(self.probabilities), self.separation)

    def instances(self) -> np.ndarray:
        """The number of the object that each pixel belongs to, int32 [H, W], 0 for the background."""
        return self.objects.numbers


class Predictor:
    """One or more networks that segment images of any size.

    probability = mean over networks and views of the probability in the view, at the size of the image as stored

    Each network uses the size of images and the normalization of its own run. The first run decides how images are
    read, the threshold, and how objects are separated.

    Attributes:
        config: of the first run.
        split: {"training": stems that any network has seen, "validation": stems that all of them have held out}.
        at_once: how many threads predict at the same time, and share the memory.
    """

    def __init__(
        self,
        models: Sequence[UNet],
        configs: Sequence[Config],
        *,
        views: Sequence[Flip | Rotation] = ASIS,
        tile_size: int = TILE_SIZE,
        runs: Sequence[Path] = (),
    ):
        """Compiles the networks.

        Args:
            models: at least one, of the same channels and classes.
            configs: of each, the settings of its training.
            views: the views of an image that each network sees; see `views.py`.
            tile_size: side in pixels of the largest window that a network sees at once.
            runs: the run folder of each; in the first the thresholds of objects are stored.
        """
        self.config, self.views, self.tile_size, self.at_once = configs[0], views, tile_size, 1
        self.run = runs[0] if runs else None
        places: Sequence[Path | None] = runs or [None] * len(models)
        self.networks = [
            CompiledNetwork(model, config.data, run) for model, config, run in zip(models, configs, places, strict=True)
        ]
        self.split: dict[str, list[str]] = {"training": [], "validation": []}

    @functools.cached_property
    def separation(self) -> Separation:
        """How objects are separated: as stored in the run, else by default."""
        default = Separation(border=int(self.config.loss.weight_map))
        return read_separation(self.run, default) if self.run else default

    def has_chosen_separation(self) -> bool:
        """Whether the run stores how objects are separated."""
        return self.run is not None and (self.run / FILE).exists()

    def predict(self, image) -> Prediction:
        """Segments an image.

        Args:
            image: file, `str` or `Path`; or array [H, W] or [H, W, C] of numbers, of as many channels as in training.

        Raises:
            ValueError: for another shape or type.
            UserError: when a file cannot be read, or the network gives NaN.
        """
        if isinstance(image, (str, Path)):
            pixels, name = read_image(Path(image), self.config.data), str(image)
        else:
            pixels, name = checked_array(image), "image"
        if pixels.shape[-1] != self.config.model.in_channels:
            raise ValueError(self.wrong_channels(pixels, name))
        found = self.probabilities(pixels)
        return Prediction(self.labels(found), found, self.separation)

    def check_channels(self, image: np.ndarray, path: Path | Slice | Part) -> None:
        """Raises a `UserError` if the image [H, W, C] has another number of channels than the training images."""
        if image.shape[-1] != self.config.model.in_channels:
            raise UserError(self.wrong_channels(image, path))

    def wrong_channels(self, image: np.ndarray, name: Path | Slice | Part | str) -> str:
        found, wanted = image.shape[-1], self.config.model.in_channels
        remedy = (
            f"add --channels {'gray' if wanted == 1 else 'rgb'}" if {found, wanted} == {1, 3} else "convert the image"
        )
        return f"{name} has {found} channels, but the network was trained on {wanted}: {remedy}."

    def working_images(self, image: np.ndarray) -> list[WorkingImage]:
        """The image [H, W, C] as read from its file, at each size that a network works at."""
        alike: dict[tuple[int, int], list[CompiledNetwork]] = {}
        for network in self.networks:
            alike.setdefault(working_size(image.shape[:2], network.data), []).append(network)
        found = []
        for size, networks in alike.items():
            pixels = resized_image(image, size)
            found.append(WorkingImage(pixels, image.shape[:2], networks, normalizations(pixels, networks)))
        return found

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Image [H, W, C] as read from its file -> float32 [H, W, K]; see `losses.probabilities`."""
        return self.whole(self.working_images(image))

    def whole(self, images: Sequence[WorkingImage]) -> np.ndarray:
        """`tiles` put together: float32 [H, W, K]."""
        found = np.empty([*images[0].size, self.config.model.classes], np.float32)
        for rows, columns, tile in self.tiles(images):
            found[rows, columns] = tile
        return found

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [H, W, K] -> uint8 [H, W], the class of each pixel; the run's threshold decides."""
        threshold = self.config.training.decision_threshold
        return predicted_labels(tf.constant(probabilities[np.newaxis]), threshold)[0].numpy().astype(np.uint8)

    def tiles(self, images: Sequence[WorkingImage]) -> Iterator[Tile]:
        """The probabilities of an image part by part: rows, columns, float32 [rows, columns, K].

        Those of images that are resized are computed whole before they get their size back strip by strip. Until then
        there are empty parts, at which whoever takes the parts can stop.

        Args:
            images: one image at each size.

        Raises:
            UserError: when memory runs out with the smallest tiles.
        """
        if len(images) == 1 and images[0].pixels.shape[:2] == images[0].size:
            yield from self.working_tiles(images[0])
            return
        found = []
        for image in images:
            found.append(np.empty([*image.pixels.shape[:2], self.config.model.classes], np.float32))
            for rows, columns, tile in self.working_tiles(image):
                found[-1][rows, columns] = tile
                yield slice(0, 0), slice(0, 0), tile[:0, :0]
        yield from self.mean(images, found)

    def mean(self, images: Sequence[WorkingImage], found: Sequence[np.ndarray]) -> Iterator[Tile]:
        """The mean over all networks of what was `found` for the images, [h, w, K] each, at their size as stored."""
        numbers = [len(image.networks) for image in images]
        for rows in strips(images[0].size):
            parts = [resized_values(values, images[0].size, rows) for values in found]
            mean = parts[0] if len(parts) == 1 else np.average(parts, 0, numbers).astype(np.float32)
            yield rows, slice(None), mean

    def working_tiles(self, image: WorkingImage) -> Iterator[Tile]:
        """The probabilities of an image at its size, the mean over its networks.

        When memory runs out the image starts again in smaller tiles, which replace those that came before.
        """
        while True:
            tile_size = self.tile_size
            try:
                check_available(self.at_once * prediction_bytes(self.config.model, self.largest_tile(image)))
                yield from self.parts(image)
                return
            except OUT_OF_MEMORY as error:
                side = min(tile_size, max(image.pixels.shape[:2]))
                # Unless another thread has lowered it meanwhile.
                if self.tile_size >= side and not self.lower_tile_size(side):
                    height, width = image.pixels.shape[:2]
                    raise UserError(
                        f"An image of {height} x {width} pixels ran out of memory even with --tile-size {side}: end "
                        "other programs, or use a machine with more memory."
                    ) from error

    def parts(self, image: WorkingImage) -> Iterator[Tile]:
        """`working_tiles` with the current tile size."""
        pixels, networks, normalize = image.pixels, image.networks, image.normalizations
        size = pixels.shape[:2]
        if len(networks) == 1 and self.views == ASIS:
            if all(len(self.spans(side)) == 1 for side in size):
                yield slice(None), slice(None), networks[0].of_image(normalize[0], pixels)
                return
            compute = functools.partial(networks[0].of_window, normalize[0])
            yield from in_tiles(pixels, self.tile_size, self.config.model, compute)
        else:
            for rows, columns in self.layout(size):
                total: Any = 0.0
                for network, its_normalize in zip(networks, normalize, strict=True):
                    for view in self.views:
                        found = network.part(view.of(pixels), its_normalize, *view.part(rows, columns, size))
                        total = total + view.back(found, rows, columns, size)
                yield rows, columns, total / np.float32(len(networks) * len(self.views))

    def layout(self, size: tuple[int, int]) -> list[tuple[slice, slice]]:
        """The rows and columns of the parts of an image of this size that are averaged at once."""
        # A tile that is rotated lies in a rectangle of up to twice its area.
        widened = any(isinstance(view, Rotation) for view in self.views)
        largest = int(self.tile_size / math.sqrt(2)) if widened else self.tile_size
        axes = [[slice(s.start, s.stop) for s in spans(length, largest, self.config.model)] for length in size]
        return list(itertools.product(*axes))

    def spans(self, length: int) -> list:
        """The tiles of an axis of so many pixels."""
        return spans(length, self.tile_size, self.config.model)

    def largest_tile(self, image: WorkingImage) -> int:
        """Pixels of the largest tile of an image, without its surroundings."""
        return math.prod(max(span.stop - span.start for span in self.spans(side)) for side in image.pixels.shape[:2])

    def lower_tile_size(self, side: int) -> bool:
        """Halves the tile size from `side`, at which memory ran out, from now on; False if that is of no use."""
        smaller = max(side // 2, smallest_tile_size(self.config.model))
        if smaller >= side:
            return False
        self.tile_size = smaller
        note(f"memory ran out for {side} x {side} pixels at once: going on as with --tile-size {smaller}")
        return True


def normalizations(pixels: np.ndarray, networks: Sequence[CompiledNetwork]) -> list[Normalization]:
    """The normalization of pixels [h, w, C] for each network; computed once for those with the same settings."""
    kinds = [(network.data.normalization, network.data.normalization_range) for network in networks]
    wanted = {kind: network.data for kind, network in zip(kinds, networks, strict=True)}
    found = {kind: normalization(pixels, data) for kind, data in wanted.items()}
    return [found[kind] for kind in kinds]


def checked_array(image) -> np.ndarray:
    """[H, W] or [H, W, C] of numbers as [H, W, C], or a `ValueError` of one sentence."""
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "buif":
        kind = f"of {pixels.dtype}" if pixels.ndim or pixels.dtype.kind != "O" else type(image).__name__
        raise ValueError(f"image is {kind}, but must be a file's name or an array of numbers: convert it.")
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"image has the shape {pixels.shape}, but must be [H, W] or [H, W, C]: give one image.")
    if not np.isfinite(pixels).all():
        raise ValueError("image has values that are NaN or infinite: replace them by numbers.")
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    elif pixels.dtype.kind == "f" and pixels.dtype.itemsize not in (4, 8):  # which views cannot rotate
        pixels = pixels.astype(np.float64)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def as_paths(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    """One run folder or several, as a list; a `ValueError` for none."""
    folders = [run_folder.named(run) for run in ([runs] if isinstance(runs, (str, Path)) else runs)]
    if not folders:
        raise ValueError("runs is empty, but must name at least one run folder.")
    return folders


def load(
    runs: str | Path | Sequence[str | Path],
    *,
    average: str = "",
    tile_size: int = TILE_SIZE,
    plain: bool = False,
    precision: str = "",
    network: Callable[..., UNet] | None = None,
) -> Predictor:
    """The predictor of a trained run, or of several, whose probabilities are averaged.

        load("runs/mine").predict("image.png").mask

    Args:
        runs: run folders of any implementation; "demo" is the small network for phantoms that comes with the package.
        average: "none"; "flips", over the image mirrored and turned in all 8 ways, or those of them that all runs
                have been trained with, see `views.trained_flips`; "rotations", by 7 angles; "": as the first run says.
        tile_size: side in pixels of the largest window that a network sees at once.
        plain: predict with the network of `core/unet.py`, without its fast forms.
        precision: what layers compute in, "float32", "bfloat16" or "float16"; "": as in the training of each run.
        network: makes the network from (model configuration, seed=...); None: ours.

    Raises:
        ValueError: for any other `average`, and for no runs.
        UserError: for a folder that is no run or holds no weights that fit, and for runs that differ in channels or
            classes.
    """
    if average != "" and average not in AVERAGES:
        raise ValueError(f"average is {average!r}, but must be one of {', '.join(AVERAGES)}.")
    folders = as_paths(runs)
    models: list[UNet] = []
    configs, splits = [], []
    for run in folders:
        config, _, split = run_folder.read(run)
        if not config.training.threshold:
            config = settings.apply(config, {"threshold": read_threshold(run)})
        if precision:
            config = settings.apply(config, {"precision": precision})
        model = (network or UNet)(config.model, seed=config.training.seed)
        restore_best(model, run)
        models.append(model if network or plain else FoldedUNet(model))
        configs.append(config)
        splits.append(split)
        (first, other) = ((c.model.in_channels, c.model.classes) for c in (configs[0], config))
        if first != other:
            raise UserError(
                f"--run {folders[0]} takes {first[0]} channels and tells {first[1]} classes, but --run {run} "
                f"{other[0]} and {other[1]}: name runs of one kind of data."
            )
    views = AVERAGES[average or ("flips" if configs[0].training.average_flips else "none")]
    if views is FLIPS:
        shown = [trained_flips(config.augmentation) for config in configs]
        views = tuple(flip for flip in FLIPS if all(flip in flips for flips in shown))
    predictor = Predictor(models, configs, views=views, tile_size=tile_size, runs=folders)
    predictor.split = {
        "training": sorted(set().union(*(split["training"] for split in splits))),
        "validation": sorted(set.intersection(*(set(split["validation"]) for split in splits))),
    }
    return predictor
