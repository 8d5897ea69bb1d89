"""Packing: the same bytes whatever order or interruption; one sentence for what cannot be packed."""

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import on_disk, sentence
from image_files import BINARY, GRAY, write_pairs

from unet_lowlevel.config import Config
from unet_lowlevel.data import packing
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.formats import writing
from unet_lowlevel.data.packed import read_index
from unet_lowlevel.data.packing import pack, pack_shard, shards_of, write_index
from unet_lowlevel.data.packing_by_ray import pack_by_ray, packed_shard
from unet_lowlevel.errors import UserError


@pytest.fixture
def data(tmp_path) -> Path:
    """Six images, and the current folder."""
    (tmp_path / "data").mkdir()
    write_pairs(tmp_path / "data", *[(GRAY[i:], BINARY[i:]) for i in range(6)])
    return tmp_path / "data"


@pytest.fixture
def expected(data, tmp_path) -> dict:
    """{name: bytes} of the files packed without any trouble."""
    pack(Config.of(data=str(data)), tmp_path / "expected", 2)
    return contents(tmp_path / "expected")


def contents(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_in_the_folder(data, expected, tmp_path):
    names = [f"shard-0000{i}-of-00003.tfrecord" for i in range(3)]
    assert sorted(expected) == ["packed.json", *names]
    index = json.loads(expected["packed.json"])
    assert index["shards"] == {
        name: {"bytes": len(expected[name]), "sha256": hashlib.sha256(expected[name]).hexdigest()} for name in names
    }
    assert [image["stem"] for image in index["images"]] == [*"abcdef"]
    packed, records = read_index(str(tmp_path / "expected"))
    assert packed.fingerprint == hashlib.sha256(expected["packed.json"]).hexdigest()
    assert [record.size for record in records] == [(20 - i, 30) for i in range(6)]
    assert str(data) not in expected["packed.json"].decode()  # the place does not change the bytes
    dataset = tf.data.TFRecordDataset([str(tmp_path / "expected" / name) for name in names])  # checks its checksums
    stems = [tf.train.Example.FromString(each).features.feature["stem"] for each in dataset.as_numpy_iterator()]
    assert [stem.bytes_list.value[0] for stem in stems] == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_a_worker_writes_a_shard_and_says_what_is_wrong(data, expected, tmp_path, monkeypatch):
    """As a process of Ray does, which begins in another folder."""
    monkeypatch.chdir("/")
    pairs = find_pairs(Config.of(data=str(data)).data)
    name = "shard-00001-of-00003.tfrecord"
    (tmp_path / "out").mkdir()
    path = Path("out", name)
    assert packed_shard(pairs[2:4], Config.of(data=str(data)), path, str(tmp_path)) == (path, "")
    assert (tmp_path / path).read_bytes() == expected[name]
    pairs[3].image.write_bytes(b"")
    _, mistake = packed_shard(pairs[2:4], Config.of(data=str(data)), path, str(tmp_path))
    assert pairs[3].image.name in mistake and mistake.endswith(".") and "\n" not in mistake


@pytest.mark.slow
def test_ray_packs_the_same_bytes_also_when_a_process_is_killed(data, expected, tmp_path):
    shards = shards_of(find_pairs(Config.of(data=str(data)).data), 2)
    killed = []

    def kill_one(finished, count):
        assert count == len(shards)
        for path in finished:
            if not killed:
                workers = subprocess.run(["pgrep", "-f", "ray::packed_shard"], capture_output=True, text=True).stdout
                killed.extend(workers.split()[:1] or [""])
                for worker in filter(None, killed):
                    os.kill(int(worker), signal.SIGKILL)
            yield path

    pack(Config.of(data=str(data)), tmp_path / "ray", 2, kill_one, functools.partial(pack_by_ray, workers=1))
    assert killed and contents(tmp_path / "ray") == expected
    (tmp_path / "data" / "images" / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.png"):
        pack(Config.of(data=str(data)), tmp_path / "broken", 2, pack_shards=pack_by_ray)


def test_shards_can_be_written_in_any_order(data, expected, tmp_path):
    config, folder = Config.of(data=str(data)), tmp_path / "parallel"
    folder.mkdir()
    shards = shards_of(find_pairs(config.data), 2)
    for name in reversed(shards):
        pack_shard(shards[name], config, folder / name)
    write_index(folder, list(shards), config)
    assert {name: content for name, content in contents(folder).items() if name in expected} == expected


def test_packed_data_can_be_packed_anew(data, expected, tmp_path):
    pack(Config.of(data=str(tmp_path / "expected")), tmp_path / "three", 3)
    assert len(contents(tmp_path / "three")) == 3
    pack(Config.of(data=str(tmp_path / "three")), tmp_path / "again", 2)
    assert contents(tmp_path / "again") == expected


def killed(data: str, output: Path, call: int, before: bool) -> None:
    """Packs in a process of its own, which is gone at once before or after it has put its CALLth file in place."""
    original, calls = writing.put_in_place, []

    def put_in_place(temporary, path):
        calls.append(path)
        if len(calls) == call and before:
            os._exit(9)
        original(temporary, path)
        if len(calls) == call:
            os._exit(9)

    writing.put_in_place = put_in_place
    pack(Config.of(data=data), output, 2)


@pytest.mark.parametrize("before", [True, False])
def test_a_killed_packing_goes_on_to_the_same_bytes(data, expected, tmp_path, processes, before):
    """At each of its eight files: the note, three shards with what is said of each, the index."""
    for call in range(1, 9):
        folder = tmp_path / f"killed-{call}"
        process = processes.Process(target=killed, args=(str(data), folder, call, before))
        process.start()
        process.join()
        assert process.exitcode == 9 and contents(folder) != expected
        done = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.tfrecord") if has_note(path)}
        pack(Config.of(data=str(data)), folder, 2)
        assert contents(folder) == expected
        assert all(path.stat().st_mtime_ns == time for path, time in done.items())
        assert len(done) == max(0, min((call - 1 - before) // 2, 3))


def has_note(shard: Path) -> bool:
    return shard.with_name(f"{shard.name}.json").exists()


def test_a_broken_image_leaves_what_is_finished(data, expected, tmp_path):
    good = (data / "images" / "d.png").read_bytes()
    (data / "images" / "d.png").write_bytes(b"\x89PNG")
    folder = tmp_path / "packed"
    with pytest.raises(UserError, match=r"d\.png is not readable"):
        pack(Config.of(data=str(data)), folder, 2)
    name = "shard-00000-of-00003.tfrecord"
    assert sorted(contents(folder)) == ["packing.json", name, f"{name}.json"]
    with pytest.raises(UserError) as caught:
        find_pairs(Config.of(data=str(folder)).data)
    sentence(caught, f"--data {folder} is packed in part only", "the same command")
    (data / "images" / "d.png").write_bytes(good)
    pack(Config.of(data=str(data)), folder, 2)
    assert contents(folder) == expected


def test_a_full_disk_is_one_sentence(data, tmp_path):
    resource = pytest.importorskip("resource")  # which lets files grow to so many bytes
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            pack(Config.of(data=str(data)), tmp_path / "packed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sentence(caught, f"{tmp_path}/packed/shard-00000-of-00001.tfrecord is not writable", "File too large", "room")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("there", [False, True])
def test_when_nothing_can_be_packed_nothing_is_left(data, tmp_path, there):
    (data / "images" / "a.png").write_bytes(b"\x89PNG")
    if there:
        (tmp_path / "packed").mkdir()
    with pytest.raises(UserError, match=r"a\.png is not readable"):
        pack(Config.of(data=str(data)), tmp_path / "packed")
    assert (tmp_path / "packed").exists() == there and sorted(tmp_path.glob("packed/*")) == []


@pytest.fixture
def begun(data, tmp_path) -> Path:
    """A folder whose packing was interrupted after two shards."""
    folder = tmp_path / "begun"
    shutil.copytree(data, tmp_path / "torn")
    (tmp_path / "torn" / "images" / "f.png").write_bytes(b"")
    with pytest.raises(UserError, match="empty"):
        pack(Config.of(data=str(tmp_path / "torn")), folder, 2)
    return folder


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nan": "0"}, ["was begun with --nan 'error', not '0'"]),
        ({"weight_map": True}, ["was begun with --weight-map None, not [10.0, 5.0]"]),
        ({"images_per_shard": 3}, ["was begun with --images-per-shard 2, not 3"]),
        ({"fewer": True}, ["was begun with other images"]),
    ],
)
def test_another_packing_does_not_go_on(data, begun, settings, words):
    if settings.pop("fewer", False):
        for kind in ("images", "masks"):
            (data / kind / "a.png").unlink()
    number = settings.pop("images_per_shard", 2)
    before = on_disk(begun)
    with pytest.raises(UserError) as caught:
        pack(Config.of(data=str(data), **settings), begun, number)
    sentence(caught, f"--output {begun}", *words, "give the same flags, or name another folder")
    assert on_disk(begun) == before


def test_two_do_not_pack_into_one_folder(data, begun):
    note = json.loads((begun / "packing.json").read_text())
    with packing.begun(begun, note), pytest.raises(UserError) as caught:
        pack(Config.of(data=str(data)), begun, 2)
    sentence(caught, f"--output {begun} is in use by another packing", "wait")


def test_a_folder_that_holds_something_else_is_refused(data, expected, begun, tmp_path):
    config = Config.of(data=str(data))
    for folder in (data, tmp_path / "expected"):
        before = on_disk(folder)
        with pytest.raises(UserError) as caught:
            pack(config, folder, 2)
        sentence(caught, f"--output {folder} is not empty", "choose another name")
        assert on_disk(folder) == before
    (begun / "packing.json").write_text("[]")
    with pytest.raises(UserError, match=r"holds a packing\.json that no packing has written"):
        pack(config, begun, 2)


@pytest.mark.parametrize(
    ("settings", "output", "number", "words"),
    [
        ({}, "new", 0, ["--images-per-shard is 0", "at least 1"]),
        ({}, "gs://bucket/new", 5, ["--output is gs://bucket/new", "name a folder, and copy it there"]),
        ({"resolution": 0.5}, "new", 5, ["--resolution and --image-size are for the training"]),
    ],
)
def test_what_no_packing_can_do(settings, output, number, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        pack(Config.of(data="data", **settings), output, number)
    sentence(caught, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_weight_map_is_packed_if_it_is_asked_for(data, tmp_path):
    plain = pack(Config.of(data=str(data)), tmp_path / "plain")
    weighted = pack(Config.of(data=str(data), weight_map=True, weight_map_sigma=2.0), tmp_path / "weighted")
    assert plain.weight_map is None and weighted.weight_map == (10.0, 2.0)
    asked = {"weight_map": True, "weight_map_sigma": 2.0}
    assert weighted.has(Config.of(**asked)) and weighted.has(Config()) and plain.has(Config())
    for packed, settings in ((plain, asked), (weighted, asked | {"weight_map_w0": 9.0}), (weighted, {"stream": True})):
        assert not packed.has(Config.of(**settings))
    assert np.sum([record.counts for record in read_index(plain.folder)[1]]) == sum(30 * (20 - i) for i in range(6))
