"""Keeps the decoded samples of a training in memory, or with --stream in files; packed ones stay where they are."""

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from unet_lowlevel.config import IGNORED, Config
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.instances import read_instances
from unet_lowlevel.data.packed import Part, Record
from unet_lowlevel.data.resolution import resized_numbers
from unet_lowlevel.data.samples import (
    Normalization,
    Sample,
    at_working_size,
    check_channels,
    decoded,
    normalization,
    with_normalization,
)
from unet_lowlevel.data.weight_maps import separation, separation_border
from unet_lowlevel.disk import Place
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory
from unet_lowlevel.terminal import Progress

Keep = Callable[[Sample], Sample]


# The arrays of a sample; the last three it may lack.
ARRAYS = ("image", "label", "target", "weights", "original_label")


def mapped(name: str) -> property:
    """The property of a `StoredSample` that maps an array from its file."""
    return property(lambda self: self.maps[name]() if name in self.maps else None)


class StoredSample(Sample):
    """A sample whose arrays lie in files.

    Each access maps the file anew and releases it afterwards: only the pixels in use are read, and neither open files
    nor pages in memory pile up.
    """

    image, label, target, weights, original_label = map(mapped, ARRAYS)

    def __init__(self, sample: Sample, folder: Path, name: str):
        """Writes the arrays of `sample` to FOLDER/NAME.image, FOLDER/NAME.label and so on."""
        self.stem, self.normalization = sample.stem, sample.normalization
        self.size, self.class_counts = sample.size, sample.class_counts
        self.maps = {part: stored(array, folder / f"{name}.{part}") for part, array in arrays(sample).items()}


class PackedSample(Sample):
    """A sample whose arrays stay in its record: each access reads and decompresses them anew.

    What packing has measured need not be read at all.
    """

    image, label, target, weights = (property(lambda self, name=name: self.read(name).get(name)) for name in ARRAYS[:4])
    original_label = None

    def __init__(self, record: Record, config: Config):
        """`config` is of a training whose data `Packed.has` as it is."""
        self.stem, self.record, self.limit = record.stem, record, config.data.max_megapixels
        self.size, self.class_counts = record.size, np.array(record.counts, np.int64)
        measured = {"standard": record.standard, "minmax": record.minmax}.get(config.data.normalization)
        self.normalization = Normalization(*measured) if measured else normalization(np.empty(0), config.data)
        self.names = [*ARRAYS[:2], *ARRAYS[2:4] * config.loss.weight_map]

    def read(self, *names: str) -> dict[str, np.ndarray]:
        """{name: array} of those arrays that the sample has, all of them without `names`."""
        return self.record.read([name for name in self.names if name in (names or self.names)], self.limit)

    def window(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Sample.window`; the record is read once."""
        return Sample(self.stem, normalization=self.normalization, **self.read()).window(rows, columns)


def stored(array: np.ndarray, path: Path) -> Callable[[], np.ndarray]:
    """Writes the values of `array` to a file and returns a function that maps them read-only.

    The function keeps dtype and shape. `np.load` would parse them with `ast`, which sometimes fails in the threads of a
    pipeline (Python 3.11: "AST constructor recursion depth mismatch").
    """
    array.tofile(path)
    return functools.partial(np.memmap, path, array.dtype, "r", shape=array.shape)


def arrays(sample: Sample) -> dict[str, np.ndarray]:
    """{name: array} of those of `ARRAYS` that the sample has."""
    return {name: getattr(sample, name) for name in ARRAYS if getattr(sample, name) is not None}


def bytes_of(sample: Sample) -> int:
    """Bytes of all pixels of a sample."""
    return sum(array.nbytes for array in arrays(sample).values())


@contextlib.contextmanager
def on_disk(run: Path) -> Iterator[Keep]:
    """Keeps samples in files in RUN/decoded, and removes them at the end.

    Args:
        run: a run folder, locked. What a killed training left in RUN/decoded is removed.

    Yields:
        a function that moves a sample into files. It raises a `UserError` when the disk is full.
    """
    folder = run / "decoded"
    number = 0

    def keep(sample: Sample) -> Sample:
        nonlocal number
        number += 1
        try:
            return StoredSample(sample, place.through(), str(number))
        except OSError as error:
            raise UserError(
                f"--stream cannot write image {number}, {sample.stem}, to {folder} ({error.strerror or error}): make "
                "room there, or name a --run on a larger disk."
            ) from None

    try:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"--run {run} cannot be made ({error.strerror}): choose another place.") from None
        with contextlib.closing(Place(folder)) as place:
            try:
                yield keep
            finally:
                folder = place.current() or folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def in_memory(count: int) -> Iterator[Keep]:
    """Keeps `count` samples in memory.

    Yields:
        a function that returns its sample. It raises a `UserError` once the samples fill a quarter of the memory and
        the remaining ones, if of the same size, will not fit.
    """
    read = used = 0

    def keep(sample: Sample) -> Sample:
        nonlocal read, used
        read, used = read + 1, used + bytes_of(sample)
        available, needed = available_memory(), used / read * count
        if available is not None and needed > used + available and 4 * used > used + available:
            raise UserError(
                f"The data of {count} images takes about {needed / 2**30:.3g} GiB decoded, but "
                f"{(used + available) / 2**30:.3g} GiB of memory are available: add --stream."
            )
        return sample

    yield keep


def gather(
    pairs: list[Pair], config: Config, keep: Keep, progress: Progress = lambda items: items
) -> tuple[list[Sample], str]:
    """Decodes every pair once, resizes it for the network, and passes it to `keep`.

    Only one pair is in memory beside what `keep` keeps there. No packed pair is read whose record holds all that the
    network sees, unless --stream asks for files.

    Args:
        pairs: sorted by stem.
        config: what channels and masks mean, the size of images, normalization, and whether there are weight maps.
        keep: what `on_disk` or `in_memory` yields.
        progress: may be tqdm.

    Returns:
        the samples that `keep` returned, normalization included, and the fingerprint of the data: SHA-256 over stems,
        shapes, dtypes and pixels of images and labels as stored, targets and weights; of packed data `Packed` has it.

    Raises:
        UserError: when a pair cannot be used, or `keep` cannot keep it.
    """
    packed = pairs[0].image.record.packed if isinstance(pairs[0].image, Part) else None
    if packed and packed.has(config):
        kinds: dict[int, list[Path | Slice | Part]] = {}
        for pair in pairs:
            kinds.setdefault(pair.image.record.channels, []).append(pair.image)
        check_channels(kinds)
        return [PackedSample(pair.image.record, config) for pair in pairs], packed.fingerprint
    digest, samples = hashlib.sha256(), []
    for pair, sample in zip(pairs, decoded(progress(pairs), config), strict=True):
        digest.update(repr(sample.stem).encode())
        add_to(digest, sample.image, sample.label)
        sample = at_working_size(sample, config.data)
        if config.loss.weight_map:
            sample.target, sample.weights = target_and_weights(pair, sample, config)
            add_to(digest, sample.target, sample.weights)
        samples.append(keep(with_normalization(sample, config.data)))
        del sample  # frees its memory before the next is decoded
    return samples, packed.fingerprint if packed else digest.hexdigest()


def target_and_weights(pair: Pair, sample: Sample, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What a network learns with --weight-map instead of the label, and the weights; see `Sample`."""
    instances = resized_numbers(read_instances(pair, sample.truth, config), sample.size)
    border = separation_border(instances, sample.label)
    instances[border] = 0
    weights = separation(instances, config.loss.weight_map_w0, config.loss.weight_map_sigma)
    weights[sample.label == IGNORED] = 0
    return np.where(border, np.uint8(0), sample.label), weights


def add_to(digest, *arrays: np.ndarray) -> None:
    """Adds dtype, shape and values of the arrays to a digest of `hashlib`."""
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
