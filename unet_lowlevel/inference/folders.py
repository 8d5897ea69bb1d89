"""Prediction of whole folders; reading, computing and writing run at the same time."""

import collections
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError, what_and_remedy
from unet_lowlevel.inference.predictor import Predictor, Tile, WorkingImage
from unet_lowlevel.inference.results import Outputs, collected
from unet_lowlevel.inference.separation import Separation, TooManyObjects
from unet_lowlevel.inference.unfinished import begun, end, goes_on
from unet_lowlevel.memory import OUT_OF_MEMORY
from unet_lowlevel.terminal import Progress
from unet_lowlevel.training.interruption import Stopped, StopSignals

# Pixels in a batch; more would not be faster.
BATCH_PIXELS = 512 * 512
# Images that may be in one batch, because probabilities are rounded differently in another: a resumed prediction leaves
# out whole blocks, so that the batches stay as they were.
BLOCK = 64


@dataclass(frozen=True)
class Predicted:
    """What a prediction has done.

    Attributes:
        written: number of images whose masks were written.
        there: number of images whose masks were there, before the prediction was resumed.
        failures: a sentence for each image or volume that cannot be used.
    """

    written: int
    there: int
    failures: list[str]


def predict_files(
    predictor: Predictor,
    images: dict[str, Path | Slice],
    output: Path,
    *,
    with_probabilities: bool = False,
    separation: Separation | None = None,
    pixel_size: float | None = None,
    objects_as: Sequence[str] = (),
    with_overlays: bool = False,
    file_format: str = "auto",
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    failures: Iterable[str] = (),
    progress: Progress = lambda items: items,
) -> Predicted:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image, and for a volume a volume of masks.

    The mask of DICOM images is a segmentation, OUTPUT/<stem>.dcm; their other files are NIfTI (of a series) or PNG.
    Until all is written, OUTPUT/predict.json says how.

    Reading runs a few images ahead of computing, writing a few behind. Neighbours of one size are computed together,
    which changes probabilities only by rounding; large images are computed tile by tile.

    Args:
        predictor: of one run or several.
        images: {stem: image}, the slices of a volume together, from `images.find_images`.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        separation: also <stem>_instances.png, 16 bit, of objects separated in this way, and <stem>_instances.csv, what
            is measured of them; and of all images together objects.csv and summary.csv, see `measurements.write_all`.
        objects_as: of `inference.OUTLINES`: their outlines, for other programs.
        pixel_size: side of a pixel in micrometres, see `measurements.pixel_of`.
        with_overlays: also <stem>_overlay.png, the mask over the image, reduced to at most 2048 pixels a side.
        file_format: "auto": as above; "nifti": volumes of any kind as .nii.gz; "png": PNG for each image and slice.
        settings: all that changes masks, see `unfinished.goes_on`.
        resume: goes on with a prediction that was stopped; the files are the same as without the stop.
        failures: a sentence for each image that was found not to be of use; with such the prediction stays unfinished.
        progress: wraps the images, to show how far the work is.

    Raises:
        Stopped: after Ctrl-C or SIGTERM, with the number of images whose masks are written in place of the step.
        UserError: before anything is written, when a file would be overwritten or settings differ; or when files cannot
            be written.
    """
    settings = settings or {}
    resume = goes_on(output, settings, resume)
    outputs = Outputs(
        images,
        output,
        predictor.config.model.classes,
        with_probabilities,
        separation is not None,
        with_overlays,
        file_format,
        resume,
        pixel_size,
        objects_as,
    )
    outputs.failures += failures
    items = [(stem, source, number // BLOCK) for number, (stem, source) in enumerate(images.items())]
    left = {block for stem, _, block in items if stem not in outputs.done}

    def read(item: tuple[str, Path | Slice, int]) -> Picture | None:
        stem, source, block = item
        volume = outputs.volume_of(stem, source)
        if volume and volume.torn:
            return None
        try:
            image = read_image(source, predictor.config.data)
            predictor.check_channels(image, source)
        except UserError as error:
            if stem not in outputs.done:
                outputs.fail(stem, source, error)
            return None
        return Picture(stem, source, image, predictor.working_images(image), block)

    def until_stopped(tiles: Iterable[Tile]) -> Iterator[Tile]:
        for tile in tiles:
            if signals.received:
                raise Stopped(signals.received, 0)
            yield tile

    with (
        contextlib.ExitStack() as stack,
        StopSignals() as signals,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        writing: collections.deque[Future] = collections.deque()
        channels, wanted = outputs.channels, progress([item for item in items if item[2] in left])
        with contextlib.suppress(Stopped):
            for number, batch in enumerate(batches(ahead(reader, read, wanted), predictor)):
                if not number:  # now that there is something to write
                    stack.enter_context(begun(output, settings))
                if all(picture.stem in outputs.done for picture in batch):
                    continue
                for picture, tiles in zip(batch, tiles_of(predictor, batch), strict=True):
                    size, tiles, source = picture.image.shape[:2], until_stopped(tiles), picture.source
                    try:
                        found = collected(
                            predictor, tiles, size, output, channels=channels, separation=separation, source=source
                        )
                    except TooManyObjects as error:
                        outputs.fail(picture.stem, source, error)
                        continue
                    if picture.stem not in outputs.done:
                        writing.append(writer.submit(outputs.write, picture.stem, source, picture.image, found))
                while len(writing) > waiting(batch[-1]):
                    finish(writing.popleft())
            if separation:
                writing.append(writer.submit(outputs.write_tables))
            for future in writing:
                finish(future)
        reader.shutdown(cancel_futures=True)
    if signals.received:
        raise Stopped(signals.received, outputs.written)
    if not outputs.failures:
        end(output)
    # All slices of a damaged file say the same.
    return Predicted(outputs.written, len(outputs.done), list(dict.fromkeys(outputs.failures)))


def finish(writing: Future) -> None:
    """Waits until an image is written; a `UserError` if that fails."""
    try:
        writing.result()
    except UserError as error:
        what, remedy = what_and_remedy(error)
        raise UserError(f"{what}: mend that and add --resume, or {remedy}.") from None


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as `read_image` gives it, as the networks see it, and its `BLOCK`."""

    stem: str
    source: Path | Slice
    image: np.ndarray
    working: list[WorkingImage]
    block: int = 0

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
    """Groups neighbours of one size and block, up to `BATCH_PIXELS` and a tile's pixels; images in tiles stay alone."""
    batch: list[Picture] = []
    for picture in pictures:
        alike = batch and (picture.image.shape, picture.block) == (batch[0].image.shape, batch[0].block)
        alike = alike and predictor.fits(picture.working)
        pixels = (len(batch) + 1) * picture.working[0].area
        if batch and not (alike and pixels <= min(BATCH_PIXELS, predictor.tile_size**2)):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def tiles_of(predictor: Predictor, batch: list[Picture]) -> list[Iterable[Tile]]:
    """The tiles of each image, see `Predictor.tiles`; all are computed at once, or each alone if memory runs out."""
    if len(batch) > 1:
        try:
            parts = predictor.of_batch(np.stack([picture.working[0].normalized for picture in batch]))
            return [predictor.mean(picture.working, [part]) for picture, part in zip(batch, parts, strict=True)]
        except OUT_OF_MEMORY:
            predictor.lower_tile_size(math.isqrt(sum(picture.working[0].area for picture in batch)))
    return [predictor.tiles(picture.working) for picture in batch]
