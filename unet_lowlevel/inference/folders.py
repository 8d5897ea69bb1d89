"""Prediction of whole folders; reading, computing and writing run at the same time."""

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.data.files import images_in, read_image
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import make_output
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.predictor import Predictor, Tile
from unet_lowlevel.inference.results import Outputs, collected
from unet_lowlevel.inference.separation import Separation
from unet_lowlevel.memory import OUT_OF_MEMORY
from unet_lowlevel.terminal import Progress

# Pixels in a batch; more would not be faster.
BATCH_PIXELS = 512 * 512


def find_images(names: list[str]) -> dict[str, Path | Slice]:
    """{stem: image} of all that --images names: files, volumes, folders of them.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name.
    """
    found: dict[str, Path | Slice] = {}
    for name in map(Path, names):
        if not name.exists():
            raise UserError(f"--images {name} does not exist: name image files or a folder of them.")
        for stem, image in images_in(name).items():
            other = found.setdefault(stem, image)
            if other != image:
                raise UserError(
                    f"--images has {other} and {image}, whose masks would have one name: predict them apart."
                )
    return found


def predict_files(
    predictor: Predictor,
    images: dict[str, Path | Slice],
    output: Path,
    *,
    with_probabilities: bool = False,
    separation: Separation | None = None,
    with_overlays: bool = False,
    file_format: str = "auto",
    progress: Progress = lambda items: items,
) -> tuple[int, list[str]]:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image, and for a volume a volume of masks.

    The mask of DICOM images is a segmentation, OUTPUT/<stem>.dcm; their other files are NIfTI (of a series) or PNG.

    Reading runs a few images ahead of computing, writing a few behind. Neighbours of one size are computed together,
    which changes probabilities only by rounding; large images are computed tile by tile.

    Args:
        predictor: of one run or several.
        images: {stem: image}, the slices of a volume together, from `find_images`.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        separation: also <stem>_instances.png, 16 bit, of objects separated in this way; of several classes also
            <stem>_instances.csv with the class of each.
        with_overlays: also <stem>_overlay.png, the mask over the image, reduced to at most 2048 pixels a side.
        file_format: "auto": as above; "nifti": volumes of any kind as .nii.gz; "png": PNG for each image and slice.
        progress: wraps the images, to show how far the work is.

    Returns:
        the number of images whose masks were written, and a sentence for each image or volume that cannot be used.

    Raises:
        UserError: before anything is written, when a file would be overwritten; or when none can be written.
    """
    outputs = Outputs(
        images,
        output,
        predictor.config.model.classes,
        with_probabilities,
        separation is not None,
        with_overlays,
        file_format,
    )

    def read(item: tuple[str, Path | Slice]) -> Picture | None:
        stem, source = item
        volume = outputs.volume_of(stem, source)
        if volume and volume.torn:
            return None
        try:
            image = read_image(source, predictor.config.data)
            predictor.check_channels(image, source)
        except UserError as error:
            outputs.fail(stem, source, error)
            return None
        return Picture(stem, source, image, predictor.normalizations(image))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: collections.deque[Future] = collections.deque()
        for batch in batches(ahead(reader, read, progress(list(images.items()))), predictor):
            make_output(output)  # now that there is something to write
            for picture, tiles in zip(batch, tiles_of(predictor, batch), strict=True):
                size, channels = picture.image.shape[:2], outputs.channels
                found = collected(predictor, tiles, size, output, channels=channels, separation=separation)
                writing.append(writer.submit(outputs.write, picture.stem, picture.source, picture.image, found))
            while len(writing) > waiting(batch[-1]):
                writing.popleft().result()
        for future in writing:
            future.result()
    return outputs.written, list(dict.fromkeys(outputs.failures))  # all slices of a damaged file say the same


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as `read_image` gives it, and how each network wants it normalized."""

    stem: str
    source: Path | Slice
    image: np.ndarray
    normalizations: list[Normalization]

    @property
    def pixels(self) -> int:
        return math.prod(self.image.shape[:2])


def waiting(picture: Picture) -> int:
    """How many images of this size may wait for computing, and for writing: many small ones, one large one."""
    return min(max(4 * BATCH_PIXELS // picture.pixels, 1), 16)


def ahead(reader: Executor, read: Callable[..., Picture | None], images: Iterable) -> Iterator[Picture]:
    """`read(image)` of each image, in their order, some of them read ahead; None is left out."""
    reading: collections.deque[Future] = collections.deque()
    room = 1
    for image in images:
        reading.append(reader.submit(read, image))
        while len(reading) > room:
            if picture := reading.popleft().result():
                room = waiting(picture)
                yield picture
    yield from filter(None, (future.result() for future in reading))


def batches(pictures: Iterable[Picture], predictor: Predictor) -> Iterator[list[Picture]]:
    """Groups neighbours of one size, up to `BATCH_PIXELS` and the pixels of a tile; an image in tiles stays alone."""
    batch: list[Picture] = []
    for picture in pictures:
        alike = batch and picture.image.shape == batch[0].image.shape and predictor.fits(picture.image)
        if batch and not (alike and (len(batch) + 1) * picture.pixels <= min(BATCH_PIXELS, predictor.tile_size**2)):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def tiles_of(predictor: Predictor, batch: list[Picture]) -> list[Iterable[Tile]]:
    """The tiles of each image, see `Predictor.tiles`; all are computed at once, or each alone if memory runs out."""
    if len(batch) > 1:
        try:
            parts = predictor.of_batch(np.stack([picture.normalizations[0](picture.image) for picture in batch]))
            return [[(slice(None), slice(None), part)] for part in parts]
        except OUT_OF_MEMORY:
            predictor.lower_tile_size(math.isqrt(sum(picture.pixels for picture in batch)))
    return [predictor.tiles(picture.image, picture.normalizations) for picture in batch]
