"""Prediction of whole folders: images in, masks out; reading, computing and writing at the same time."""

import collections
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.data.files import MAPPED_BYTES, list_images, make_output, read_image, refuse_existing, write_image
from unet_lowlevel.data.samples import Normalization, normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.pictures import overlay

# Pixels that are computed together: more would not be faster.
BATCH_PIXELS = 512 * 512
OVERLAY_SIDE = 2048


def find_images(names: list[str]) -> list[Path]:
    """The image files among `names`, each a file or a folder of images.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name.
    """
    found: dict[str, Path] = {}
    for name in map(Path, names):
        if not name.exists():
            raise UserError(f"--images {name} does not exist: name image files or a folder of them.")
        for path in list_images(name).values() if name.is_dir() else [name]:
            other = found.setdefault(path.stem, path)
            if other != path:
                raise UserError(
                    f"--images has {other} and {path}, whose masks would have one name: predict them apart."
                )
    return list(found.values())


def output_names(stem: str, classes: int, *, with_probabilities: bool, with_overlay: bool) -> dict[str, str]:
    """{what: file name} of all that is written for an image; what is mask, overlay, or a channel's number."""
    names = {"mask": f"{stem}.png"}
    if with_overlay:
        names["overlay"] = f"{stem}_overlay.png"
    if with_probabilities and classes == 1:
        names["0"] = f"{stem}_probability.png"
    elif with_probabilities:
        names |= {str(k): f"{stem}_probability_{k}.png" for k in range(classes)}
    return names


def predict_files(
    predictor: Predictor,
    images: list[Path],
    output: Path,
    *,
    with_probabilities: bool = False,
    with_overlays: bool = False,
    progress: Callable[[Iterable], Iterable] = lambda items: items,
) -> list[str]:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image.

    Reading, computing and writing go on at the same time, a few images ahead and behind. Neighbours of one size are
    computed together, which changes a probability by no more than rounding, and large images tile by tile.

    Args:
        predictor: of a run.
        images: files.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        with_overlays: also <stem>_overlay.png, the mask over the image, reduced to at most `OVERLAY_SIDE` pixels.
        progress: wraps the images, to show how far the work is.

    Returns:
        a sentence for each image that cannot be used; all others are done.

    Raises:
        UserError: before anything is written, when a file would be overwritten; or when none can be written.
    """
    wanted = check_names(predictor, images, output, with_probabilities, with_overlays)
    classes, failures = predictor.config.model.classes, []

    def read(path: Path) -> Picture | None:
        try:
            image = read_image(path)
            predictor.check_channels(image, path)
        except UserError as error:
            failures.append(str(error))
            return None
        return Picture(path, image, normalization(image, predictor.config.data))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: collections.deque[Future] = collections.deque()
        for batch in batches(ahead(reader, read, progress(images)), predictor):
            make_output(output)  # now that there is something to write
            for picture, found in zip(batch, results(predictor, batch, wanted, output), strict=True):
                writing.append(writer.submit(write, picture, found, wanted[picture.path], classes, output))
            while len(writing) > waiting(batch[-1]):
                writing.popleft().result()
        for future in writing:
            future.result()
    return failures


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as stored in its file, and how to normalize it."""

    path: Path
    image: np.ndarray
    normalization: Normalization

    @property
    def pixels(self) -> int:
        return math.prod(self.image.shape[:2])


def check_names(predictor, images, output, with_probabilities, with_overlays) -> dict[Path, dict[str, str]]:
    """{image: `output_names`}, or a `UserError` when one exists already or two are the same."""
    found, taken = {}, set()
    for path in images:
        found[path] = output_names(
            path.stem,
            predictor.config.model.classes,
            with_probabilities=with_probabilities,
            with_overlay=with_overlays,
        )
        for name in found[path].values():
            refuse_existing(output / name)
            if name in taken:
                raise UserError(f"{name} would be written for two images of --images: predict them apart.")
            taken.add(name)
    return found


def waiting(picture: Picture) -> int:
    """How many images of this size may wait to be computed, and to be written: small ones many, large ones one."""
    return min(max(4 * BATCH_PIXELS // picture.pixels, 1), 16)


def ahead(reader: Executor, read: Callable[[Path], Picture | None], paths: Iterable[Path]) -> Iterator[Picture]:
    """What `read` makes of the paths, in their order, some of them read ahead; those that give None are left out."""
    reading: collections.deque[Future] = collections.deque()
    room = 1
    for path in paths:
        reading.append(reader.submit(read, path))
        while len(reading) > room:
            if picture := reading.popleft().result():
                room = waiting(picture)
                yield picture
    yield from filter(None, (future.result() for future in reading))


def batches(pictures: Iterable[Picture], predictor: Predictor) -> Iterator[list[Picture]]:
    """Neighbours of one size together, up to `BATCH_PIXELS`; what needs tiles is alone."""
    batch: list[Picture] = []
    for picture in pictures:
        alike = batch and picture.image.shape == batch[0].image.shape and predictor.fits(picture.image)
        if batch and not (alike and (len(batch) + 1) * picture.pixels <= BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def results(predictor: Predictor, batch: list[Picture], wanted: dict, output: Path) -> Iterator[dict[str, np.ndarray]]:
    """{what: pixels} of each image of a batch: the mask, and a channel's number for its probabilities in 16 bits."""
    if len(batch) > 1:
        parts = predictor.of_batch(np.stack([picture.normalization(picture.image) for picture in batch]))
        tiles = [[(slice(None), slice(None), part)] for part in parts]
    else:
        tiles = [predictor.tiles(picture.image, picture.normalization) for picture in batch]
    for picture, its_tiles in zip(batch, tiles, strict=True):
        size = picture.image.shape[:2]
        channels = [what for what in wanted[picture.path] if what.isdecimal()]
        found = {"mask": canvas(size, np.uint8, output)} | {k: canvas(size, np.uint16, output) for k in channels}
        for rows, columns, p in its_tiles:
            found["mask"][rows, columns] = predictor.labels(p) * step_of_gray(predictor.config.model.classes)
            for k in channels:
                found[k][rows, columns] = np.rint(p[..., int(k)] * 65535)
        yield found


def canvas(size: tuple[int, int], dtype, folder: Path) -> np.ndarray:
    """An array to be filled; a large one is in a file of the folder, gone once the array is, instead of in memory."""
    if math.prod(size) * np.dtype(dtype).itemsize < MAPPED_BYTES:
        return np.empty(size, dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # without room for it the process would be ended later, without a word
                os.posix_fallocate(file.fileno(), 0, math.prod(size) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "w+", shape=size)
    except OSError as error:
        raise UserError(f"--output {folder} has no room for a mask ({error.strerror}): choose another disk.") from None


def step_of_gray(classes: int) -> np.uint8:
    """Masks are written as 0 and 255 for a foreground, as class numbers for several."""
    return np.uint8(255 if classes <= 2 else 1)


def write(picture: Picture, found: dict[str, np.ndarray], names: dict[str, str], classes: int, output: Path) -> None:
    """Writes all that is wanted of an image."""
    for what, name in names.items():
        pixels = reduced_overlay(picture.image, found["mask"], classes) if what == "overlay" else found[what]
        write_image(output / name, pixels)


def reduced_overlay(image: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """`overlay` of every so many pixels, at most `OVERLAY_SIDE` a side: a picture to look at."""
    step = -(-max(mask.shape) // OVERLAY_SIDE)
    return overlay(image[::step, ::step], mask[::step, ::step] // step_of_gray(classes))
