"""Prediction of whole folders: batches, reading ahead, tiles, and images that cannot be used."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import sentence
from PIL import Image

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats import decoding
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders, results
from unet_lowlevel.inference.folders import Picture, ahead, batches, find_images
from unet_lowlevel.inference.predictor import load

FLAGS = ["--probabilities", "--overlays"]


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", *map(str, images), "--output", str(output), *flags])


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A folder of seven images of three sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "gallery"
    folder.mkdir()
    for i, size in enumerate([(32, 32), (32, 32), (32, 32), (40, 70), (40, 70), (100, 90), (32, 32)]):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tiny_run, gallery, tmp_path_factory):
    """What is predicted of them, each computed whole."""
    output = tmp_path_factory.mktemp("out") / "whole"
    assert run_predict(tiny_run, [gallery], output, *FLAGS) == 0
    return output


def pictures_of(folder):
    found = find_images([str(folder)]).items()
    return [Picture(stem, path, read_image(path), [Normalization()]) for stem, path in found]


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


def test_find_images_refuses_what_is_not_there_and_what_would_have_one_mask(gallery, tmp_path):
    with pytest.raises(UserError) as caught:
        find_images([str(gallery), str(tmp_path / "nothing")])
    sentence(caught, f"--images {tmp_path / 'nothing'} does not exist")
    other = shutil.copy(gallery / "3.png", tmp_path / "3.png")
    with pytest.raises(UserError) as caught:
        find_images([str(gallery), str(other)])
    sentence(caught, gallery / "3.png", other, "one name")


def test_neighbours_of_one_size_are_a_batch(tiny_run, gallery, monkeypatch):
    predictor = load(tiny_run)

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
def test_large_images_give_the_same_masks(change, tiny_run, gallery, whole, tmp_path, monkeypatch):
    """In tiles, and mapped from and into files."""
    images = gallery
    if change != "tiles":
        images = tmp_path / "tiff"
        images.mkdir()
        for path in gallery.iterdir():
            tifffile.imwrite(images / f"{path.stem}.tif", read_image(path)[..., 0])
        monkeypatch.setattr(decoding, "MAPPED_BYTES", 1)
        monkeypatch.setattr(results, "MAPPED_BYTES", 1)
        assert isinstance(read_image(images / "5.tif").base, np.memmap)
    flags = ["--tile-size", "32"] if change != "mapped" else []
    assert run_predict(tiny_run, [images], tmp_path / "large", *FLAGS, *flags) == 0
    same_files(whole, tmp_path / "large", tolerance=1)


def test_tiles_really_are_tiles(tiny_run, gallery):
    predictor = load(tiny_run, tile_size=32)
    image = read_image(gallery / "5.png")
    assert not predictor.fits(image) and predictor.fits(read_image(gallery / "0.png"))
    assert len(list(predictor.tiles(image, [Normalization()]))) > 4
    np.testing.assert_allclose(predictor.probabilities(image), load(tiny_run).probabilities(image), atol=1e-5)


def test_prediction_repeats_itself_alone_or_among_others(tiny_run, phantoms, tmp_path):
    some = sorted((phantoms / "images").iterdir())[3]
    for folder, images in (("all", phantoms / "images"), ("again", phantoms / "images"), ("one", some)):
        assert run_predict(tiny_run, [images], tmp_path / folder, *FLAGS) == 0
    written = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert len(written) == 36
    assert all((tmp_path / "all" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in written)
    # Among others an image is computed in another batch, which may round differently.
    among, alone = (read_image(tmp_path / folder / f"{some.stem}_probability.png") for folder in ("all", "one"))
    assert among.dtype == alone.dtype == np.uint16
    np.testing.assert_allclose(among, alone, rtol=0, atol=1)
    for folder, probability in (("all", among), ("one", alone)):
        mask = read_image(tmp_path / folder / f"{some.stem}.png")
        np.testing.assert_array_equal(mask > 0, probability >= 32768)
    assert read_image(tmp_path / "one" / f"{some.stem}_overlay.png").shape == (32, 32, 3)


def test_what_cannot_be_used_is_listed_and_the_rest_done(tiny_run, gallery, tmp_path, capsys):
    gallery = shutil.copytree(gallery, tmp_path / "gallery")
    (gallery / "2.png").write_bytes(b"\x89PNG")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(gallery / "9.png")
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 3
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["0", "1", "3", "4", "5", "6"]
    output, error = capsys.readouterr()
    assert "wrote masks of 6 images" in output
    first, *rest = error.splitlines()
    assert first.startswith("2 of 8 images could not be used")
    assert "2.png" in rest[0] and "9.png has 3 channels" in rest[1] and len(rest) == 2
