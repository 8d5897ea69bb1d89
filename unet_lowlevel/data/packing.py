"""Writes packed data; see `packed.py` for what is in the folder.

While it is packed, the folder also holds:

packing.json             what is packed, and how; who finds it goes on
shard-....tfrecord.json  what the index will say of a shard that is finished
"""

import collections
import contextlib
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_lowlevel import settings
from unet_lowlevel.config import Config, DataConfig
from unet_lowlevel.data.files import Pair, find_pairs
from unet_lowlevel.data.formats import records
from unet_lowlevel.data.formats.writing import check_new_output, make_output, temporary_of, written_whole
from unet_lowlevel.data.instances import read_instances
from unet_lowlevel.data.packed import BEFORE, BEHIND, FIXED, INDEX, UNFINISHED, Packed, as_packed, is_url, read_index
from unet_lowlevel.data.samples import Sample, decoded, normalization
from unet_lowlevel.data.storage import target_and_weights
from unet_lowlevel.disk import lock
from unet_lowlevel.errors import UserError, reason, shown
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.terminal import Progress

# Writes {path: pairs} by a configuration, and gives the path of each shard that is finished.
PackShards = Callable[[Mapping[Path, list[Pair]], Config], Iterable[Path]]


def pack(
    config: Config,
    output: str | Path,
    images_per_shard: int = 512,
    progress: Progress = lambda items, count: items,
    pack_shards: PackShards | None = None,
) -> Packed:
    """Packs a data set; goes on where a packing with the same settings was interrupted, to the same bytes.

    Args:
        config: where the data is, what channels and masks mean, whether there are weight maps.
        output: folder, new or of such a packing.
        images_per_shard: how many records a file has.
        progress: wraps the shards, of which it is told the number.
        pack_shards: who writes them, such as `packing_by_ray.pack_by_ray`; None: this process, one after another.

    Returns:
        the packed folder.

    Raises:
        UserError: when the data or the folder cannot be used; shards that are finished stay.
    """
    config = as_packed(config)
    check_packing(config, str(output), images_per_shard)
    pairs, output = find_pairs(config.data), Path(output)
    shards = shards_of(pairs, images_per_shard)
    with begun(output, settings_of(config) | {"images_per_shard": images_per_shard, "data": digest_of(pairs)}):
        if not (output / INDEX).is_file():
            missing = {output / name: of for name, of in shards.items() if not (output / f"{name}.json").is_file()}
            collections.deque(progress((pack_shards or in_turn)(missing, config), len(missing)), maxlen=0)
            write_index(output, list(shards), config)
        for name in shards:
            (output / f"{name}.json").unlink(missing_ok=True)
        (output / UNFINISHED).unlink()
    return read_index(str(output))[0]


def check_packing(config: Config, output: str, images_per_shard: int) -> None:
    """Raises a `UserError` for what no packing can do, before any file is read."""
    if images_per_shard < 1:
        raise UserError(f"--images-per-shard is {images_per_shard}, but must be at least 1: use for example 512.")
    if is_url(output):
        raise UserError(f"--output is {output}, but data is packed on this machine: name a folder, and copy it there.")
    if config.data.resizes:
        raise UserError("--resolution and --image-size are for the training: images are packed in their size.")


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that packing applies, as the index has them."""
    loss = config.loss
    return {
        "settings": {name: settings.value_of(config, name) for name in FIXED},
        "weight_map": [loss.weight_map_w0, loss.weight_map_sigma] if loss.weight_map else None,
    }


def digest_of(pairs: list[Pair]) -> str:
    """SHA-256 of the names of the images and their groups, in their order."""
    return hashlib.sha256(json.dumps([(pair.stem, pair.group) for pair in pairs]).encode()).hexdigest()


def shards_of(pairs: list[Pair], images_per_shard: int) -> dict[str, list[Pair]]:
    """{shard: its pairs}: the pairs in their order, so that a shard depends on no other."""
    count = math.ceil(len(pairs) / images_per_shard)
    starts = range(0, len(pairs), images_per_shard)
    return {
        f"shard-{number:05d}-of-{count:05d}.tfrecord": pairs[start : start + images_per_shard]
        for number, start in enumerate(starts)
    }


def in_turn(shards: Mapping[Path, list[Pair]], config: Config) -> Iterator[Path]:
    """Writes shards one after another; see `PackShards`."""
    for path, pairs in shards.items():
        pack_shard(pairs, config, path)
        yield path


def pack_shard(pairs: list[Pair], config: Config, path: Path) -> None:
    """Writes a shard, and then PATH.json, what the index will say of it. Shards may be written in any order.

    Raises:
        UserError: when a pair cannot be used, or the disk is full.
    """
    start_tensorflow()
    from tensorflow import errors, io

    entries = []
    path.unlink(missing_ok=True)  # of a process that was killed before it wrote the other file
    with written_whole(path) as temporary:
        try:
            with io.TFRecordWriter(str(temporary)) as writer:
                for pair, sample in zip(pairs, decoded(pairs, config), strict=True):
                    arrays = arrays_of(pair, sample, config)
                    writer.write(records.written(pair.stem, pair.group, arrays))
                    entries.append(entry_of(pair, sample) | {"instances": "instances" in arrays, "shard": path.name})
        except errors.OpError as error:
            raise OSError(reason(error)) from None  # of which `written_whole` makes a sentence
        described = placed(entries, temporary)
    with written_whole(path.with_name(f"{path.name}.json")) as temporary:
        temporary.write_text(json.dumps(described), encoding="utf-8")


def arrays_of(pair: Pair, sample: Sample, config: Config) -> dict[str, Any]:
    """{name: array} of the arrays of `records.DTYPES` that an image has."""
    arrays = {"image": sample.image, "label": sample.label}
    if pair.tells_objects:
        arrays["instances"] = read_instances(pair, sample.label, config)
    if config.loss.weight_map:
        arrays["target"], arrays["weights"] = target_and_weights(pair, sample, config)
    return arrays


def entry_of(pair: Pair, sample: Sample) -> dict[str, Any]:
    """What the index says of an image; see `packed.Record`."""
    found = {name: normalization(sample.image, DataConfig(normalization=name)) for name in ("standard", "minmax")}
    return {
        "stem": pair.stem,
        "group": pair.group,
        "size": sample.size,
        "channels": sample.image.shape[-1],
        "counts": sample.class_counts.tolist(),
        **{name: [each.shift, each.scale] for name, each in found.items()},
    }


def placed(entries: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """What the index says of a shard: of each record in it where it lies, and checksums, as read from the file."""
    digest, offset = hashlib.sha256(), 0
    with path.open("rb") as file:
        for entry in entries:
            head = file.read(BEFORE)
            framed = head + file.read(int.from_bytes(head[:8], "little") + BEHIND)
            entry |= {"offset": offset, "bytes": len(framed), "crc32": zlib.crc32(framed)}
            offset += len(framed)
            digest.update(framed)
    return {"shard": {"bytes": offset, "sha256": digest.hexdigest()}, "images": entries}


def write_index(output: Path, shards: list[str], config: Config) -> None:
    """Writes the index, which makes the folder packed data, from what `pack_shard` has written; a line an image."""
    found = {name: settings.load_json(output / f"{name}.json") for name in shards}
    with written_whole(output / INDEX) as temporary, temporary.open("w", encoding="utf-8") as file:
        head = settings_of(config) | {"shards": {name: described["shard"] for name, described in found.items()}}
        file.write(f'{json.dumps(head, indent=1)[:-2]},\n "images": [')
        for number, image in enumerate(image for described in found.values() for image in described["images"]):
            file.write(f"{',' * bool(number)}\n{json.dumps(image)}")
        file.write("\n]}\n")


@contextlib.contextmanager
def begun(output: Path, note: dict[str, Any]) -> Iterator[None]:
    """Makes the folder and the note in it, or goes on with it; keeps others out; removes both if nothing was written.

    Raises:
        UserError: when something else is in the folder, or the packing in it had other settings or images.
    """
    path, note = output / UNFINISHED, json.loads(json.dumps(note))
    new = not output.exists()
    if not path.is_file():
        temporary_of(path).unlink(missing_ok=True)  # of a process that was killed while it wrote the note
        check_new_output(output)
        make_output(output)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    before = settings.load_json(path)
    if before != note:
        raise UserError(f"--output {output} {what_differs(before, note)}: give the same flags, or name another folder.")
    with path.open("rb") as file:
        if not lock(file):
            raise UserError(f"--output {output} is in use by another packing: wait for its end.")
        try:
            yield
        finally:
            if os.listdir(output) == [UNFINISHED]:
                path.unlink()
                if new:
                    output.rmdir()


def what_differs(before: Any, now: dict[str, Any]) -> str:
    """Part of a sentence: how a packing that was interrupted differs from the one asked for now."""
    if not isinstance(before, dict) or not isinstance(before.get("settings"), dict):
        return f"holds a {UNFINISHED} that no packing has written"
    flat, flat_now = ({**note, **note["settings"]} for note in (before, now))
    for name in (*FIXED, "weight_map", "images_per_shard"):
        if flat.get(name) != flat_now[name]:
            return f"was begun with {settings.flag(name)} {shown(flat.get(name))}, not {shown(flat_now[name])}"
    return "was begun with other images"
