"""Prediction of whole folders: batches, reading ahead, tiles, and images that cannot be used."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats import decoding
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.inference import folders
from unet_lowlevel.inference.folders import Picture, ahead, batches, find_images
from unet_lowlevel.inference.predictor import Predictor

FLAGS = ["--probabilities", "--overlays"]


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", *map(str, images), "--output", str(output), *flags])


@pytest.fixture
def gallery(tmp_path):
    """A folder of seven images of three sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "gallery"
    folder.mkdir()
    for i, size in enumerate([(32, 32), (32, 32), (32, 32), (40, 70), (40, 70), (100, 90), (32, 32)]):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def pictures_of(folder):
    return [Picture(stem, path, read_image(path), Normalization()) for stem, path in find_images([str(folder)]).items()]


def same_files(one: Path, other: Path, tolerance: int = 0) -> None:
    """Holds the masks, probabilities and overlays in two folders to each other; masks may turn where 1/2 is near."""
    names = sorted(path.name for path in one.iterdir())
    assert names and names == sorted(path.name for path in other.iterdir())
    for name in names:
        a, b = read_image(one / name).astype(int), read_image(other / name).astype(int)
        if "_probability" in name:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        elif "_overlay" not in name:
            decided = np.abs(read_image(one / name.replace(".png", "_probability.png")).astype(int) - 32768) > 2
            np.testing.assert_array_equal(a[decided], b[decided])


def test_find_images_takes_files_and_folders(phantoms):
    found = sorted((phantoms / "images").iterdir())
    assert list(find_images([str(found[0]), str(phantoms / "images")]).items()) == [(path.stem, path) for path in found]


def test_neighbours_of_one_size_are_a_batch(tiny_run, gallery, monkeypatch):
    predictor = Predictor(tiny_run)

    def stems():
        return [[picture.stem for picture in batch] for batch in batches(pictures_of(gallery), predictor)]

    assert stems() == [["0", "1", "2"], ["3", "4"], ["5"], ["6"]]
    monkeypatch.setattr(folders, "BATCH_PIXELS", 2 * 32 * 32)
    assert stems() == [["0", "1"], ["2"], ["3"], ["4"], ["5"], ["6"]]
    predictor.tile_size = 16  # all need tiles
    assert stems() == [[str(i)] for i in range(7)]


def test_reads_ahead_but_not_far(gallery):
    pictures, read = {picture.source: picture for picture in pictures_of(gallery)}, []

    def reading(path):
        read.append(path)
        return None if path.stem == "3" else pictures[path]

    with ThreadPoolExecutor(1) as reader:
        found = ahead(reader, reading, list(pictures) * 20)
        next(found)
        reader.submit(lambda: None).result()  # all reading that has been asked for is done
        assert 1 < len(read) <= 18
        assert sum(1 for _ in found) == 6 * 20 - 1


@pytest.mark.parametrize("change", ["tiles", "mapped", "both"])
def test_large_images_give_the_same_masks(change, tiny_run, gallery, tmp_path, monkeypatch):
    """In tiles, and mapped from and into files."""
    assert run_predict(tiny_run, [gallery], tmp_path / "whole", *FLAGS) == 0
    images = gallery
    if change != "tiles":
        images = tmp_path / "tiff"
        images.mkdir()
        for path in gallery.iterdir():
            tifffile.imwrite(images / f"{path.stem}.tif", read_image(path)[..., 0])
        monkeypatch.setattr(decoding, "MAPPED_BYTES", 1)
        monkeypatch.setattr(folders, "MAPPED_BYTES", 1)
        assert isinstance(read_image(images / "5.tif").base, np.memmap)
    flags = ["--tile-size", "32"] if change != "mapped" else []
    assert run_predict(tiny_run, [images], tmp_path / "large", *FLAGS, *flags) == 0
    same_files(tmp_path / "whole", tmp_path / "large", tolerance=1)


def test_tiles_really_are_tiles(tiny_run, gallery):
    predictor = Predictor(tiny_run, tile_size=32)
    image = read_image(gallery / "5.png")
    assert not predictor.fits(image) and predictor.fits(read_image(gallery / "0.png"))
    assert len(list(predictor.tiles(image, Normalization()))) > 4
    np.testing.assert_allclose(predictor.probabilities(image), Predictor(tiny_run).probabilities(image), atol=1e-5)


def test_overlays_of_large_images_are_reduced(tiny_run, gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "OVERLAY_SIDE", 50)
    assert run_predict(tiny_run, [gallery / "5.png", gallery / "0.png"], tmp_path / "out", *FLAGS) == 0
    assert read_image(tmp_path / "out" / "5_overlay.png").shape == (50, 45, 3)
    assert read_image(tmp_path / "out" / "0_overlay.png").shape == (32, 32, 3)
    assert read_image(tmp_path / "out" / "5.png").shape == (100, 90, 1)


def test_what_cannot_be_used_is_listed_and_the_rest_done(tiny_run, gallery, tmp_path, capsys):
    (gallery / "2.png").write_bytes(b"\x89PNG")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(gallery / "9.png")
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 3
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["0", "1", "3", "4", "5", "6"]
    output, error = capsys.readouterr()
    assert "wrote masks of 6 images" in output
    first, *rest = error.splitlines()
    assert first.startswith("2 of 8 images could not be used")
    assert "2.png" in rest[0] and "9.png has 3 channels" in rest[1] and len(rest) == 2


def test_no_room_for_a_mask(tiny_run, gallery, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "MAPPED_BYTES", 1)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 2
    assert "--output" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
