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
from unet_lowlevel.data.packed import Part
from unet_lowlevel.errors import UserError, listed, what_and_remedy
from unet_lowlevel.inference.images import WHOLE, Shard
from unet_lowlevel.inference.predictor import Predictor, Tile
from unet_lowlevel.inference.results import Outputs, Wanted, collected
from unet_lowlevel.inference.separation import Separation, TooManyObjects
from unet_lowlevel.inference.unfinished import Before, begun, end, goes_on
from unet_lowlevel.machine import images_at_once
from unet_lowlevel.terminal import Progress, note
from unet_lowlevel.training.interruption import Stopped, StopSignals

# A note is made where a larger share of the mask belongs to no object, and thresholds were never chosen.
MOST_LOST = 0.2
# (images, outputs, wanted, signals, progress) -> None: predict these images, and tell `outputs` of it.
Workers = Callable[[dict[str, Path | Slice | Part], Outputs, Wanted, StopSignals, Progress], None]


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
    images: dict[str, Path | Slice | Part],
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
    shard: Shard = WHOLE,
    failures: Iterable[str] = (),
    progress: Progress = lambda items, count=None: items,
    workers: Workers | None = None,
) -> Predicted:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image, and for a volume a volume of masks.

    The mask of DICOM images is a segmentation, OUTPUT/<stem>.dcm; their other files are NIfTI (of a series) or PNG.
    Until all is written, OUTPUT/predict.jsonl says how; see `unfinished`.

    Args:
        predictor: of one run or several.
        images: {stem: image}, the slices of a volume together, from `images.find_images`.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        separation: also <stem>_instances.png, 16 bit, of objects separated in this way, and <stem>_instances.csv, what
            is measured of them; and of all images together objects.csv and summary.csv, see `measurements.write_all`.
        objects_as: of `inference.OUTLINES`: their outlines, for other programs; as COCO also of all images together.
        pixel_size: side of a pixel in micrometres, see `measurements.pixel_of`.
        with_overlays: also <stem>_overlay.png, the mask over the image, reduced to at most 2048 pixels a side.
        file_format: "auto": as above; "nifti": volumes of any kind as .nii.gz; "png": PNG for each image and slice.
        settings: all that changes masks, see `unfinished.goes_on`.
        resume: goes on with a prediction that was stopped; the files are the same as without the stop.
        shard: the images are this part of a collection, see `images.images_of`; then the files of all images together
            are left to a prediction of the whole that goes on where the shards have ended.
        failures: a sentence for each image that was found not to be of use; with such the prediction stays unfinished.
        progress: wraps the images, to show how far the work is.
        workers: predict the images instead of this process; see `collection`.

    Raises:
        Stopped: after Ctrl-C or SIGTERM, with the number of images whose masks are written in place of the step.
        UserError: before anything is written, when a file would be overwritten or settings differ; or when files cannot
            be written.
    """
    settings = {**(settings or {}), "shards": shard.count}
    before = goes_on(output, settings, resume, shard)
    classes = predictor.config.model.classes
    wanted = Wanted(classes, with_probabilities, separation, pixel_size, objects_as, with_overlays, file_format)
    outputs = Outputs(images, output, wanted, before)
    outputs.failures += failures
    predictor.at_once = images_at_once(len(images))
    rest = {stem: image for stem, image in images.items() if stem not in outputs.done}

    with contextlib.ExitStack() as stack, StopSignals() as signals:

        def begin() -> None:
            outputs.note = stack.enter_context(begun(output, settings, shard))
            if before:
                make_room(outputs.unfinished, before)

        if workers or before:
            begin()
        if workers and rest:
            workers(rest, outputs, wanted, signals, progress)
        else:
            predict_images(predictor, progress(rest.items()), outputs, signals, lambda: outputs.note or begin())
        if separation and shard == WHOLE and not signals.received:
            finish(outputs.write_tables)
    if signals.received:
        raise Stopped(signals.received, outputs.written)
    if not outputs.failures and shard == WHOLE:
        end(output)
    if separation and outputs.lost > MOST_LOST * outputs.foreground and not predictor.has_chosen_separation():
        note(
            f"{100 * outputs.lost / outputs.foreground:.0f} % of the mask belongs to no object: choose thresholds by "
            "evaluate --scores instances --choose-thresholds"
        )
    # All slices of a damaged file say the same.
    return Predicted(outputs.written, len(outputs.done), list(dict.fromkeys(outputs.failures)))


def make_room(names: Sequence[str], before: Before) -> None:
    """Takes away files that are to be written again; a note tells of those that are kept under another name."""
    kept = [path.name for path in map(before.make_room, names) if path]
    if names:
        but = f"; kept as they were: {listed(kept)}" if kept else ""
        note(f"{len(names)} files were cut off or changed, or are of another network: they are written again{but}")


def predict_images(
    predictor: Predictor,
    images: Iterable[tuple[str, Path | Slice | Part]],
    outputs: Outputs,
    signals: StopSignals,
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Predicts images and writes what `outputs` wants of them; those that cannot be used it is told.

    Reading runs a few images ahead of computing, writing a few behind. `predictor.at_once` are computed, large ones
    tile by tile.

    Args:
        predictor: of one run or several.
        images: (stem, image) of each.
        outputs: writes.
        signals: once one is received, no other image is begun.
        begin: is called when there is something to write.

    Raises:
        UserError: when files cannot be written.
    """

    def read(item: tuple[str, Path | Slice | Part]) -> Picture | None:
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
        return Picture(stem, source, image)

    def compute(picture: Picture) -> dict[str, np.ndarray]:
        tiles = until_stopped(predictor.tiles(predictor.working_images(picture.image)))
        return collected(
            predictor,
            tiles,
            picture.image.shape[:2],
            outputs.folder,
            channels=outputs.channels,
            separation=outputs.separation,
            source=picture.source,
        )

    def until_stopped(tiles: Iterable[Tile]) -> Iterator[Tile]:
        for tile in tiles:
            if signals.received:
                raise Stopped(signals.received, 0)
            yield tile

    def take() -> None:
        """Hands the image that has been computed for longest to the writer."""
        picture, found = computing.popleft()
        try:
            writing.append(writer.submit(outputs.write, picture.stem, picture.source, picture.image, found.result()))
        except TooManyObjects as error:
            outputs.fail(picture.stem, picture.source, error)
        while len(writing) > waiting(picture):
            finish(writing.popleft().result)

    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(predictor.at_once) as computer,
        ThreadPoolExecutor(1) as writer,
    ):
        computing: collections.deque[tuple[Picture, Future]] = collections.deque()
        writing: collections.deque[Future] = collections.deque()
        with contextlib.suppress(Stopped):
            for number, picture in enumerate(ahead(reader, read, images)):
                if not number:
                    begin()
                computing.append((picture, computer.submit(compute, picture)))
                if len(computing) > predictor.at_once:
                    take()
            while computing:
                take()
            for future in writing:
                finish(future.result)
        for executor in (reader, computer):
            executor.shutdown(cancel_futures=True)


def finish(writing: Callable[[], object]) -> None:
    """Writes, or waits until an image is written; a `UserError` if that fails."""
    try:
        writing()
    except UserError as error:
        what, remedy = what_and_remedy(error)
        raise UserError(f"{what}: mend that and add --resume, or {remedy}.") from None


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as `read_image` gives it."""

    stem: str
    source: Path | Slice | Part
    image: np.ndarray

    @property
    def pixels(self) -> int:
        return math.prod(self.image.shape[:2])


def waiting(picture: Picture) -> int:
    """How many images of this size may wait for computing, and for writing: many small ones, one large one."""
    return min(max(2**20 // picture.pixels, 1), 16)


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
