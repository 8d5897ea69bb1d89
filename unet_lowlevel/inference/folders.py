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

from unet_lowlevel.data.decoding import MAPPED_BYTES
from unet_lowlevel.data.dicom import is_series
from unet_lowlevel.data.files import images_in, list_images, read_image, stem_of
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.data.volumes import Slice, open_volume
from unet_lowlevel.data.writing import make_output, refuse_existing, write_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.instances import Separation, as_uint16, foreground, separate
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.memory import OUT_OF_MEMORY
from unet_lowlevel.pictures import LABEL_PALETTE, overlay

# Pixels that are computed together: more would not be faster.
BATCH_PIXELS = 512 * 512
OVERLAY_SIDE = 2048


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
        for stem, image in (list_images(name) if name.is_dir() and not is_series(name) else images_in(name)).items():
            other = found.setdefault(stem, image)
            if other != image:
                raise UserError(
                    f"--images has {other} and {image}, whose masks would have one name: predict them apart."
                )
    return found


def output_names(
    stem: str, classes: int, suffix: str, *, with_probabilities: bool, with_instances: bool = False
) -> dict[str, str]:
    """{what: file name} of what is written for an image or a volume.

    What is mask, instances, colours, or a channel's number.
    """
    names = {"mask": f"{stem}{suffix}"}
    if with_instances:
        names["instances"] = f"{stem}_instances{suffix}"
    if classes > 2 and suffix == ".png":  # who shows volumes has colours of his own
        names["colours"] = f"{stem}_colours.png"
    if with_probabilities and classes == 1:
        names["0"] = f"{stem}_probability{suffix}"
    elif with_probabilities:
        names |= {str(k): f"{stem}_probability_{k}{suffix}" for k in range(classes)}
    return names


def predict_files(
    predictor: Predictor,
    images: dict[str, Path | Slice],
    output: Path,
    *,
    with_probabilities: bool = False,
    separation: Separation | None = None,
    with_overlays: bool = False,
    progress: Callable[[Iterable], Iterable] = lambda items: items,
) -> tuple[int, list[str]]:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image, and for a volume a volume of masks.

    Reading, computing and writing go on at the same time, a few images ahead and behind. Neighbours of one size are
    computed together, which changes a probability by no more than rounding, and large images tile by tile.

    Args:
        predictor: of a run, or an ensemble.
        images: {stem: image}, the slices of a volume together, from `find_images`.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        separation: also <stem>_instances.png, 16 bit, of objects told from each other in this way.
        with_overlays: also <stem>_overlay.png, the mask over the image, reduced to at most `OVERLAY_SIDE` pixels.
        progress: wraps the images, to show how far the work is.

    Returns:
        of how many images the masks are written, and a sentence for each image or volume that cannot be used.

    Raises:
        UserError: before anything is written, when a file would be overwritten; or when none can be written.
    """
    outputs = Outputs(
        images, output, predictor.config.model.classes, with_probabilities, separation is not None, with_overlays
    )
    failures = []

    def read(item: tuple[str, Path | Slice]) -> Picture | None:
        stem, source = item
        try:
            image = read_image(source, predictor.config.data)
            predictor.check_channels(image, source)
        except UserError as error:
            failures.append(str(error))
            return None
        return Picture(stem, source, image, predictor.normalization(image))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: collections.deque[Future] = collections.deque()
        for batch in batches(ahead(reader, read, progress(list(images.items()))), predictor):
            make_output(output)  # now that there is something to write
            for picture, found in zip(
                batch, results(predictor, batch, outputs.channels, output, separation), strict=True
            ):
                writing.append(writer.submit(outputs.write, picture, found))
            while len(writing) > waiting(batch[-1]):
                writing.popleft().result()
        for future in writing:
            future.result()
    return outputs.written, failures + outputs.torn_volumes()


class Outputs:
    """The files of a prediction: which there will be, and how they are written."""

    def __init__(
        self,
        images: dict[str, Path | Slice],
        folder: Path,
        classes: int,
        probabilities: bool,
        instances: bool,
        overlays: bool,
    ):
        """Settles all names.

        Raises:
            UserError: when one of them exists already or two are the same.
        """
        self.folder, self.classes, self.written = folder, classes, 0
        self.channels = [str(k) for k in range(classes)] if probabilities else []
        self.names: dict[str, dict[str, str]] = {}
        self.volumes: dict[Path, VolumeOfMasks] = {}
        for stem, image in images.items():
            self.names[stem] = {}
            if not isinstance(image, Slice):
                self.names[stem] |= output_names(
                    stem, classes, ".png", with_probabilities=probabilities, with_instances=instances
                )
            elif image.path not in self.volumes:
                volume = open_volume(image.path)
                names = output_names(
                    stem_of(image.path.resolve()),
                    classes,
                    volume.suffix,
                    with_probabilities=probabilities,
                    with_instances=instances,
                )
                self.volumes[image.path] = VolumeOfMasks(image.path, volume.count, names, folder)
            if overlays:
                self.names[stem]["overlay"] = f"{stem}_overlay.png"
        taken = set()
        for names in (*self.names.values(), *(volume.names for volume in self.volumes.values())):
            for name in names.values():
                refuse_existing(folder / name)
                if name in taken:
                    raise UserError(f"{name} would be written for two images of --images: predict them apart.")
                taken.add(name)

    def write(self, picture: "Picture", found: dict[str, np.ndarray]) -> None:
        """Writes all that is wanted of an image, see `results`; of a volume when its last slice has come."""
        for what, name in self.names[picture.stem].items():
            palette = None
            if what == "overlay":
                pixels = reduced_overlay(picture.image, found["mask"], self.classes)
            elif what == "colours":
                pixels, palette = found["mask"], LABEL_PALETTE
            else:
                pixels = found[what]
            write_image(self.folder / name, pixels, palette)
        if not isinstance(picture.source, Slice):
            self.written += 1
        elif self.volumes[picture.source.path].put(picture.source.index, found):
            self.written += self.volumes.pop(picture.source.path).count

    def torn_volumes(self) -> list[str]:
        """A sentence for each volume that lacks slices, because they could not be used."""
        return [
            f"{volume.path} has {volume.count - volume.have} slices that cannot be used: its masks are not written."
            for volume in self.volumes.values()
        ]


class VolumeOfMasks:
    """What is found of the slices of a volume, until it is whole."""

    def __init__(self, path: Path, count: int, names: dict[str, str], folder: Path):
        self.path, self.count, self.names, self.folder, self.have = path, count, names, folder, 0
        self.slices: dict[str, np.ndarray] = {}

    def put(self, index: int, found: dict[str, np.ndarray]) -> bool:
        """Takes what is found of a slice; with the last one writes all. Tells whether it has."""
        for what in self.names:
            if what not in self.slices:
                self.slices[what] = canvas((self.count, *found[what].shape), found[what].dtype, self.folder)
            self.slices[what][index] = found[what]
        self.have += 1
        if self.have < self.count:
            return False
        volume = open_volume(self.path)
        for what, name in self.names.items():
            volume.write(self.folder / name, self.slices[what])
        return True


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as `read_image` gives it, and how the predictor wants it normalized."""

    stem: str
    source: Path | Slice
    image: np.ndarray
    normalization: Normalization

    @property
    def pixels(self) -> int:
        return math.prod(self.image.shape[:2])


def waiting(picture: Picture) -> int:
    """How many images of this size may wait to be computed, and to be written: small ones many, large ones one."""
    return min(max(4 * BATCH_PIXELS // picture.pixels, 1), 16)


def ahead(reader: Executor, read: Callable[..., Picture | None], images: Iterable) -> Iterator[Picture]:
    """What `read` makes of the images, in their order, some of them read ahead; those that give None are left out."""
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
    """Neighbours of one size together, up to `BATCH_PIXELS` and no more than in a tile; what needs tiles is alone."""
    batch: list[Picture] = []
    for picture in pictures:
        alike = batch and picture.image.shape == batch[0].image.shape and predictor.fits(picture.image)
        if batch and not (alike and (len(batch) + 1) * picture.pixels <= min(BATCH_PIXELS, predictor.tile_size**2)):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def results(
    predictor: Predictor, batch: list[Picture], channels: list[str], output: Path, separation: Separation | None
) -> Iterator[dict[str, np.ndarray]]:
    """{what: pixels} of each image of a batch: the mask, its instances, and by number `channels` of its probabilities.

    Instances and probabilities are of 16 bits.
    """
    for picture, its_tiles in zip(batch, tiles_of(predictor, batch), strict=True):
        size = picture.image.shape[:2]
        found = {"mask": canvas(size, np.uint8, output)} | {k: canvas(size, np.uint16, output) for k in channels}
        probability = canvas(size, np.float32, output) if separation else None
        for rows, columns, p in its_tiles:
            if separation:
                probability[rows, columns] = foreground(p)
            found["mask"][rows, columns] = predictor.labels(p) * step_of_gray(predictor.config.model.classes)
            for k in channels:
                found[k][rows, columns] = np.rint(p[..., int(k)] * 65535)
        if separation:
            found["instances"] = as_uint16(separate(probability, separation))
        yield found


def tiles_of(predictor: Predictor, batch: list[Picture]) -> list[Iterable[tuple[slice, slice, np.ndarray]]]:
    """The tiles of each image, see `TiledNetwork.tiles`; all are computed at once, or each alone if memory runs out."""
    if len(batch) > 1:
        try:
            parts = predictor.of_batch(np.stack([picture.normalization(picture.image) for picture in batch]))
            return [[(slice(None), slice(None), part)] for part in parts]
        except OUT_OF_MEMORY:
            predictor.lower_tile_size(math.isqrt(sum(picture.pixels for picture in batch)))
    return [predictor.tiles(picture.image, picture.normalization) for picture in batch]


def canvas(size: tuple[int, ...], dtype, folder: Path) -> np.ndarray:
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


def reduced_overlay(image: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """`overlay` of every so many pixels, at most `OVERLAY_SIDE` a side: a picture to look at."""
    step = -(-max(mask.shape) // OVERLAY_SIDE)
    return overlay(image[::step, ::step], mask[::step, ::step] // step_of_gray(classes))
