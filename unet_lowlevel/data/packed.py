"""Packed data: a data set in a few large files, of which any image is read alone, wherever they lie.

packed.json                       what is in the folder: settings, shards, images; see `Packed` and `Record`
shard-00000-of-00012.tfrecord     the records of images, see `formats/records.py`

`packing.py` writes it. The folder may be a path or a URL that `tf.io.gfile` reads, such as gs://bucket/folder.
"""

import functools
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.formats import records
from unet_lowlevel.errors import UserError, reason, shown
from unet_lowlevel.machine import start_tensorflow

INDEX = "packed.json"
"""The file that makes a folder packed data."""

UNFINISHED = "packing.json"
"""The file in a folder that is being packed; see `packing.py`."""

FIXED = ("classes", "channels", "mask_values", "mask_colors", "ignore_value", "nan")
"""Settings that packing has applied, so that no training can change them."""

SHARD = re.compile(r"shard-\d{5,}-of-\d{5,}\.tfrecord")
# What a TFRecord has before its content, the length and a checksum, and behind it, another checksum.
BEFORE, BEHIND = 12, 4


@dataclass(frozen=True)
class Packed:
    """A packed folder.

    Attributes:
        folder: a path or a URL.
        settings: {setting: value} of `FIXED`.
        weight_map: w0 and sigma of the weight maps in the records; None: they have none.
        shards: bytes of each shard.
        fingerprint: SHA-256 of the index, which has a checksum of every record.
    """

    folder: str
    settings: dict[str, Any]
    weight_map: tuple[float, float] | None
    shards: dict[str, int]
    fingerprint: str

    def __str__(self) -> str:
        return self.folder

    def has(self, config: Config) -> bool:
        """Whether a training with these settings reads its samples from the records, with nothing left to compute."""
        loss, data = config.loss, config.data
        weighted = not loss.weight_map or self.weight_map == (loss.weight_map_w0, loss.weight_map_sigma)
        return weighted and data.channels == self.settings["channels"] and not data.resizes and not data.stream


@dataclass(frozen=True, slots=True)
class Record:
    """The record of an image.

    Attributes:
        packed: the folder.
        shard: the file.
        offset, length: where it lies there, in bytes.
        crc32: its checksum.
        stem, group: see `files.Pair`.
        size: height and width.
        channels: of the image.
        counts: labelled pixels of each class; see `Sample.class_counts`.
        standard, minmax: shift and scale of these normalizations.
        instances: whether it has instance labels.
    """

    packed: Packed
    shard: str
    offset: int
    length: int
    crc32: int
    stem: str
    group: str
    size: tuple[int, int]
    channels: int
    counts: tuple[int, ...]
    standard: tuple[float, float]
    minmax: tuple[float, float]
    instances: bool

    def __str__(self) -> str:
        return f"{self.stem} in {beside(self.packed.folder, self.shard)}"

    def read(self, names: Collection[str], max_megapixels: float) -> dict[str, np.ndarray]:
        """{name: array} of the arrays of `records.DTYPES` with these names.

        Raises:
            UserError: when the shard is damaged or cannot be read, or the image is too large.
        """
        path, pixels = beside(self.packed.folder, self.shard), self.size[0] * self.size[1]
        if pixels > max_megapixels * 1e6:
            raise UserError(
                f"{self} has {pixels / 1e6:.4g} megapixels, more than --max-megapixels {max_megapixels:g}: raise it if "
                "you trust the data."
            )
        framed = read_bytes(path, self.offset, self.length)
        problem = "its checksum is another"
        if zlib.crc32(framed) == self.crc32:
            shapes = dict.fromkeys(records.DTYPES, self.size) | {"image": (*self.size, self.channels)}
            try:
                return records.read(framed[BEFORE:-BEHIND], names, shapes)
            except ValueError as error:
                problem = reason(error)
        raise UserError(f"{path} is damaged at {self.stem} ({problem}): restore the file, or pack anew.")


@dataclass(frozen=True, slots=True)
class Part:
    """An array of a record; used in place of the path of an image."""

    record: Record
    array: str

    def __str__(self) -> str:
        return str(self.record)

    @property
    def name(self) -> str:
        """As that of a file."""
        return f"{self.record.stem}.png"

    def read(self, max_megapixels: float) -> np.ndarray:
        """The array; see `Record.read`."""
        return self.record.read([self.array], max_megapixels)[self.array]


def beside(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def is_url(path: str) -> bool:
    """Whether `tf.io.gfile` has to read it. Other files are read without TensorFlow, whose import takes seconds."""
    return "://" in path


@functools.cache  # it is asked for each image, by several threads
def gfile():
    """The module `tf.io.gfile`."""
    start_tensorflow()
    import tensorflow as tf

    return tf.io.gfile


def read_bytes(path: str, offset: int = 0, length: int = -1) -> bytes:
    """So many bytes of a file, or all; a `UserError` when it cannot be read."""
    try:
        with open(path, "rb", buffering=0) if not is_url(path) else gfile().GFile(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except Exception as error:  # of TensorFlow: one for each file system
        if "File system scheme" in str(error):
            scheme = path.split("://")[0]
            raise UserError(
                f"{path} cannot be read, because TensorFlow knows no {scheme}://: copy it to a disk, or to gs://, and "
                "name that."
            ) from None
        raise UserError(f"{path} cannot be read ({reason(error)}): restore the file, or name other data.") from None


def size_of(path: str) -> int | None:
    """Bytes of a file; None where there is none."""
    if not is_url(path):
        return Path(path).stat().st_size if Path(path).is_file() else None
    try:
        return gfile().stat(path).length
    except Exception:
        return None


def is_packed(folder: str | Path) -> bool:
    """Whether --data, or --images of a prediction, names packed data, which alone can lie at a URL."""
    try:
        return is_url(str(folder)) or (bool(folder) and size_of(beside(str(folder), INDEX)) is not None)
    except PermissionError:  # which is told where the images are listed
        return False


def as_packed(config: Config, given: Collection[str] | None = None) -> Config:
    """`config` with the settings that its data was packed with, if it is packed.

    Args:
        config: of a new training or an evaluation.
        given: settings that must not be replaced; None: those given with `config`.

    Raises:
        UserError: when one of them is another than in packing.
    """
    if not is_packed(config.data.data):
        return config
    packed = read_index(config.data.data)[0]
    taken = {}
    for name in FIXED:
        value, wanted = packed.settings[name], settings.value_of(config, name)
        if name == "channels" and value == "as_stored":
            continue  # colours can still become gray
        same = max(value, 2) == max(wanted, 2) if name == "classes" else value == wanted
        if not same and name in (config.given if given is None else given):
            there = f"with {shown(value)}" if value else "without it"
            raise UserError(
                f"{settings.flag(name)} is {shown(wanted)}, but {packed} was packed {there}: leave it out, or pack the "
                "data anew."
            )
        if not same:
            taken[name] = value
    return settings.apply(config, taken)


def read_index(folder: str) -> tuple[Packed, list[Record]]:
    """The packed folder and its records, sorted by stem.

    Raises:
        UserError: when it is damaged, or shards are missing.
    """
    packed, found = _read_index(str(folder), read_bytes(beside(str(folder), INDEX)))
    for name, size in packed.shards.items():
        if (there := size_of(beside(packed.folder, name))) != size:
            problem = "is missing" if there is None else f"has {there} bytes instead of {size}"
            raise UserError(f"{beside(packed.folder, name)} {problem}: restore the file, or pack anew.")
    return packed, list(found)


@functools.lru_cache(maxsize=1)
def _read_index(folder: str, content: bytes) -> tuple[Packed, tuple[Record, ...]]:
    path = beside(folder, INDEX)
    try:
        index = json.loads(content)
        fixed = {name: settings.checked(name, index["settings"][name], name) for name in FIXED}
        weight_map = index["weight_map"] and tuple(map(float, index["weight_map"]))
        shards = {name: int(shard["bytes"]) for name, shard in index["shards"].items() if SHARD.fullmatch(name)}
        packed = Packed(folder, fixed, weight_map, shards, hashlib.sha256(content).hexdigest())
        found = tuple(_records(packed, index["images"]))
        if not found or [record.stem for record in found] != sorted({record.stem for record in found}):
            raise ValueError("its images are not sorted")
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} does not describe packed data ({reason(error)}): restore it, or pack anew.") from None
    return packed, found


def _records(packed: Packed, images: list[dict]) -> Iterator[Record]:
    """The records that an index lists, checked, because it may come from a stranger: stems become names of files."""
    for image in images:
        stem, group, shard = image["stem"], image["group"], image["shard"]
        offset, length, crc32, channels, *size = (
            int(value) for value in (image["offset"], image["bytes"], image["crc32"], image["channels"], *image["size"])
        )
        named = all(isinstance(text, str) and text.isprintable() for text in (stem, group))
        if not named or not stem or set(stem) & {*"/\\"}:
            raise ValueError(f"stem {shown(stem)} of group {shown(group)}")
        if not (0 <= offset <= offset + length <= packed.shards[shard] and length > BEFORE + BEHIND and len(size) == 2):
            raise ValueError(f"place and size of {stem}")
        counts = tuple(map(int, image["counts"]))
        if min(*size, channels) < 1 or len(counts) > max(packed.settings["classes"], 2):
            raise ValueError(f"size and classes of {stem}")
        standard, minmax = ((float(shift), float(scale)) for shift, scale in (image["standard"], image["minmax"]))
        yield Record(
            packed,
            shard,
            offset,
            length,
            crc32,
            stem,
            group,
            (size[0], size[1]),
            channels,
            counts,
            standard,
            minmax,
            bool(image["instances"]),
        )
