"""Which images --images and --shard name."""

import os
from pathlib import Path

import pytest
from conftest import sentence

from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.images import WHOLE, Shard, find_images, images_of, local, place_of, shard_of, units

IMAGES = {
    "a": Path("a.png"),
    "v_000": Slice(Path("v.tif"), 0),
    "v_001": Slice(Path("v.tif"), 1),
    "w_000": Slice(Path("w"), 0, "1.2"),
    "x_000": Slice(Path("w"), 0, "1.3"),
    "z": Path("z.png"),
}


def test_the_slices_of_a_volume_stay_together():
    assert [list(unit) for unit in units(IMAGES)] == [["a"], ["v_000", "v_001"], ["w_000"], ["x_000"], ["z"]]


@pytest.mark.parametrize("count", range(1, 8))
def test_every_image_is_in_one_shard_however_the_images_come(count):
    shards = [images_of(Shard(index, count), IMAGES) for index in range(count)]
    assert sorted(stem for shard in shards for stem in shard) == sorted(IMAGES)
    assert shards == [images_of(Shard(i, count), dict(reversed(IMAGES.items()))) for i in range(count)]
    sizes = [len(units(shard)) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_shards_are_counted_from_0():
    assert shard_of("0/1") == WHOLE and shard_of("7/8") == Shard(7, 8)
    for text in ("8/8", "1", "-1/8", "1/0", "a/b", "1/8/2", "٣/8"):
        with pytest.raises(UserError) as caught:
            shard_of(text)
        sentence(caught, f"--shard {text}", "0/8")


def test_an_address_of_a_file_is_its_path_and_other_addresses_are_refused():
    assert local("file:///a/b.png") == "/a/b.png"
    assert local("a/b.png") == "a/b.png" and local("a b://c") == "a b://c"
    for text in ("gs://bucket/a.png", "s3://bucket", "file://host/a"):
        with pytest.raises(UserError) as caught:
            local(text)
        sentence(caught, text, "mount")


def test_an_address_elsewhere_can_be_of_packed_images():
    assert place_of("gs://bucket/packed") == "gs://bucket/packed" and place_of("file:///a/b") == "/a/b"
    assert place_of("a/b.png") == "a/b.png"
    with pytest.raises(UserError):
        place_of("file://host/a")


def test_a_list_names_images_and_folders(phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = sorted((phantoms / "images").iterdir())
    beside = os.path.relpath(found[1])
    (tmp_path / "list.txt").write_text(f"{found[0]}\n\n{beside}\nfile://{found[2]}\n")
    assert list(find_images(["list.txt"]).values()) == [found[0], Path(beside), found[2]]
    (tmp_path / "all.TXT").write_text(str(phantoms / "images"))
    assert list(find_images(["all.TXT"]).values()) == found
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError) as caught:
        find_images(["bad.txt"])
    sentence(caught, "--images bad.txt", "UTF-8")
    (tmp_path / "none.txt").write_text("nowhere.png")
    with pytest.raises(UserError) as caught:
        find_images(["none.txt"])
    sentence(caught, "--images nowhere.png does not exist")
