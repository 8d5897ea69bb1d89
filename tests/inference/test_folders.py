"""Prediction of whole folders: several images at once, reading ahead, tiles, and images that cannot be used."""

import errno
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from conftest import on_disk, sentence
from medical_files import CT, save_nifti, save_object, save_series
from PIL import Image
from untrained import untrained_run

from unet_lowlevel import machine
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats import decoding, writing
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders, results, unfinished
from unet_lowlevel.inference.folders import Picture, ahead
from unet_lowlevel.inference.images import find_images, unused
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.separation import Separation, write_separation

CUT = round(0.2 * 65535)  # the threshold of `tiny_run` in files of probabilities
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
    return [Picture(stem, path, read_image(path)) for stem, path in find_images([str(folder)]).items()]


def same_files(one: Path, other: Path, tolerance: int = 0) -> None:
    """Holds the masks, probabilities and overlays in two folders to each other; masks may turn near the threshold."""
    names = sorted(path.name for path in one.iterdir())
    assert names and names == sorted(path.name for path in other.iterdir())
    for name in names:
        a, b = read_image(one / name).astype(int), read_image(other / name).astype(int)
        if "_probability" in name:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        elif "_overlay" not in name:
            decided = np.abs(read_image(one / name.replace(".png", "_probability.png")).astype(int) - CUT) > 2
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
    image, small = (read_image(gallery / name) for name in ("5.png", "0.png"))
    assert len(list(predictor.tiles(predictor.working_images(image)))) > 4
    assert len(list(predictor.tiles(predictor.working_images(small)))) == 1
    np.testing.assert_allclose(predictor.probabilities(image), load(tiny_run).probabilities(image), atol=1e-5)


def test_masks_have_the_size_of_their_images_at_any_resolution(gallery, tmp_path):
    """Of odd sizes, shrunk and in tiles."""
    run = untrained_run(tmp_path / "run", resolution=0.37)
    predictor = load(run)
    for folder, flags in (("whole", ()), ("tiles", ("--tile-size", "16"))):
        assert run_predict(run, [gallery], tmp_path / folder, *FLAGS, *flags) == 0
        for path in gallery.iterdir():
            image = read_image(path)
            expected = predictor.probabilities(image)
            found = read_image(tmp_path / folder / f"{path.stem}_probability.png")
            np.testing.assert_allclose(found / 65535, expected, rtol=0, atol=2e-5)
            mask = read_image(tmp_path / folder / path.name)
            np.testing.assert_array_equal(
                mask[np.abs(expected - 0.5) > 1e-4] > 0, expected[np.abs(expected - 0.5) > 1e-4] > 0.5
            )
            assert read_image(tmp_path / folder / f"{path.stem}_overlay.png").shape[:2] == image.shape[:2]


@pytest.mark.parametrize("at_once", [1, 3])
def test_prediction_repeats_itself_alone_or_among_others(at_once, tiny_run, phantoms, tmp_path, monkeypatch):
    some = sorted((phantoms / "images").iterdir())[3]
    assert run_predict(tiny_run, [some], tmp_path / "one", *FLAGS) == 0
    monkeypatch.setattr(folders, "images_at_once", lambda count: at_once)
    for folder in ("all", "again"):
        assert run_predict(tiny_run, [phantoms / "images"], tmp_path / folder, *FLAGS) == 0
    one, everything, again = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "all", "again")
    )
    assert len(everything) == 36 and again == everything and one.items() <= everything.items()
    assert read_image(tmp_path / "one" / f"{some.stem}_overlay.png").shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("threads", "available", "count", "at_once"),
    [
        *((2, 2**40, 7, 1), (2, 2**40, 8, 2), (16, 2**40, 64, 16), (16, 2**40, 63, 1)),
        *((16, 5 * 2**30, 64, 2), (16, 2**30, 64, 1), (16, None, 64, 16), (None, 2**40, 9, 1)),
    ],
)
def test_many_images_are_computed_at_once_as_memory_allows(threads, available, count, at_once, monkeypatch):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: threads)
    monkeypatch.setattr(machine, "available_memory", lambda: available)
    assert machine.images_at_once(count) == at_once


def test_a_part_of_the_threads_has_as_much_of_the_memory(monkeypatch):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 16)
    for available, at_once in ((2**40, 8), (2**35, 8), (2**33, 2), (2**20, 1)):
        monkeypatch.setattr(machine, "available_memory", lambda available=available: available)
        assert machine.images_at_once(99, 8) == at_once


def test_what_cannot_be_used_is_listed_and_the_rest_done(tiny_run, gallery, tmp_path, capsys):
    gallery = shutil.copytree(gallery, tmp_path / "gallery")
    (gallery / "2.png").write_bytes(b"\x89PNG")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(gallery / "9.png")
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 3
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["0", "1", "3", "4", "5", "6", "predict"]
    output, error = capsys.readouterr()
    assert "wrote masks of 6 images" in output
    first, *rest = error.splitlines()
    assert first.startswith("2 of 8 images could not be used")
    assert "2.png" in rest[0] and "9.png has 3 channels" in rest[1] and "--resume" in rest[2] and len(rest) == 3


def test_no_file_of_a_folder_is_dropped_or_keeps_the_others_out(tiny_run, gallery, tmp_path, capsys):
    """Bad volumes beside good images, images beside a series, two series, objects without pixels, other files."""
    mixed = shutil.copytree(gallery, tmp_path / "mixed")
    (mixed / "empty.nii").touch()
    save_nifti(mixed / "film.nii.gz", np.zeros((4, 4, 2, 9), np.uint8), np.eye(3), np.zeros(3))
    save_object(mixed / "report.dcm", pydicom.uid.ComprehensiveSRStorage)
    for name, uid in (("a", "1.2.3.8"), ("b", "1.2.3.9")):
        series = save_series(tmp_path / name, CT[:2], change=lambda i, uid=uid: {"SeriesInstanceUID": uid})
        for file in series.iterdir():
            file.rename(mixed / f"{name}_{file.name}")
    (mixed / "notes.txt").touch()
    (mixed / "more").mkdir()
    assert run_predict(tiny_run, [mixed], tmp_path / "out") == 3
    output, error = capsys.readouterr()
    assert "wrote masks of 11 images" in output and "3 of 14 images could not be used" in error
    for name in ("empty.nii", "film.nii.gz", "report.dcm"):
        assert sum(line.startswith(str(mixed / name)) for line in error.splitlines()) == 1
    assert f"note: {mixed} holds more, notes.txt, which" in error
    masks = [path for path in (tmp_path / "out").iterdir() if path.suffix == ".png"]
    segmentations = [path for path in (tmp_path / "out").iterdir() if path.suffix == ".dcm"]
    assert len(masks) == 7 and len(segmentations) == 2


def test_nothing_of_use_is_an_error(tiny_run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.nii", "b.nii", "c.png"):
        (tmp_path / "in" / name).touch()
    assert run_predict(tiny_run, [tmp_path / "in"], tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "a.nii" in error and "The other 2 cannot be used either." in error and error.count("\n") == 1
    assert run_predict(tiny_run, [tmp_path / "in" / "a.nii"], tmp_path / "out") == 2
    assert "the file is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_volume_is_named_once(tiny_run, gallery, tmp_path, capsys):
    images = shutil.copytree(gallery, tmp_path / "in")
    path = save_nifti(images / "scan.nii.gz", np.zeros((32, 32, 28), np.uint8), np.eye(3), np.zeros(3))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the checksum
    path.write_bytes(content)
    for form in ("auto", "png"):
        assert run_predict(tiny_run, [images], tmp_path / form, "--format", form) == 3
        error = capsys.readouterr().err
        assert "28 of 35 images could not be used" in error
        assert sum(str(path) in line for line in error.splitlines()) == 1


# Predictions that are stopped, and go on.


def written_until(count, monkeypatch, stop):
    """Lets `stop` happen once `count` images are written; returns the stems of all that are written from then on."""
    write, stems = results.Outputs.write, []

    def writing(self, stem, *rest):
        write(self, stem, *rest)
        stems.append(stem)
        if len(stems) == count:
            stop()

    monkeypatch.setattr(results.Outputs, "write", writing)
    return stems


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)  # until the main thread has noted it


def test_a_stopped_prediction_goes_on_with_the_same_files(tiny_run, gallery, whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folders, "waiting", lambda picture: 1)
    flags, out = [*FLAGS, "--instances"], tmp_path / "out"
    assert run_predict(tiny_run, [gallery], tmp_path / "undisturbed", *flags) == 0
    stems = written_until(2, monkeypatch, terminate)
    capsys.readouterr()
    assert run_predict(tiny_run, [gallery], out, *flags) == 143
    error = capsys.readouterr().err
    assert f"stopped by SIGTERM; {len(stems)} of 7 images" in error and "--resume" in error and error.count("\n") == 1
    assert 2 <= len(stems) < 7
    assert {path.name.split(".")[0].split("_")[0] for path in out.iterdir()} == {*stems, "predict"}
    # Killed in the middle of an image: one file is missing, of another there is a half.
    (out / "0_overlay.png").unlink()
    with pytest.raises(KeyboardInterrupt), writing.written_whole(out / "5.png") as temporary:
        monkeypatch.setattr(writing, "_remove", lambda path: None)
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    monkeypatch.undo()
    assert len([path for path in out.iterdir() if path.name.startswith(".")]) == 1
    before = on_disk(out)
    assert run_predict(tiny_run, [gallery], out, *flags) == 2
    assert f"--output {out} holds a prediction that is not finished: add --resume" in capsys.readouterr().err
    for other in (["--probabilities"], [*flags, "--average-flips"], [*flags, "--format", "png"]):
        assert run_predict(tiny_run, [gallery], out, *other, "--resume") == 2
        error = capsys.readouterr().err
        assert f"--output {out} holds a prediction with" in error and error.count("\n") == 1
    assert on_disk(out) == before
    assert run_predict(tiny_run, [gallery], out, *flags, "--resume") == 0
    there = len(stems) - 1
    assert f"wrote masks of {7 - there} images to {out}; {there} were there" in capsys.readouterr().out
    same = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == same


def test_images_that_are_done_are_not_read_again(tiny_run, gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "waiting", lambda picture: 1)
    stems = written_until(3, monkeypatch, terminate)
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 143
    read, done = [], len(stems)
    monkeypatch.setattr(folders, "read_image", lambda path, data: read.append(path.stem) or read_image(path, data))
    assert run_predict(tiny_run, [gallery], tmp_path / "out", "--resume") == 0
    assert read == [str(i) for i in range(done, 7)] and stems == [str(i) for i in range(7)]


def test_mended_images_are_predicted_by_resuming(tiny_run, gallery, tmp_path, capsys):
    images, out = shutil.copytree(gallery, tmp_path / "in"), tmp_path / "out"
    (images / "2.png").write_bytes(b"\x89PNG")
    (images / "scan.nii").touch()
    assert run_predict(tiny_run, [images], out) == 3
    assert "--resume predicts them too" in capsys.readouterr().err
    shutil.copy(gallery / "2.png", images)
    (images / "scan.nii").unlink()
    (images / "3.png").write_bytes(b"\x89PNG")  # whose mask is there
    assert run_predict(tiny_run, [images], out, "--resume") == 0
    assert "wrote masks of 1 images" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [f"{i}.png" for i in range(7)]
    assert run_predict(tiny_run, [images], out, "--resume") == 2  # that one is finished
    assert "exists already" in capsys.readouterr().err
    assert run_predict(tiny_run, [gallery], tmp_path / "new", "--resume") == 0  # nothing to go on with


def test_what_another_network_has_written_is_written_again(tiny_run, gallery, tmp_path, capsys):
    images, out = shutil.copytree(gallery, tmp_path / "in"), tmp_path / "out"
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (images / "2.png").write_bytes(b"\x89PNG")
    assert run_predict(run, [images], out) == 3
    before = on_disk(out)
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"threshold": 0.2', '"threshold": 0.6'))
    assert run_predict(run, [images], tmp_path / "other") == 3
    capsys.readouterr()
    for _ in range(2):  # what is of this network stays
        assert run_predict(run, [images], out, "--resume") == 3
    output, error = capsys.readouterr()
    assert error.count("note: 6 files were cut off or changed, or are of another network: they are written again") == 1
    assert "wrote masks of 6 images" in output and "wrote masks of 0 images to" in output and "6 were there" in output
    for path in out.glob("*.png"):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    assert any(before[path] != path.read_bytes() for path in out.glob("*.png"))
    (run / "config.json").write_text(config)
    (run / "threshold.json").write_text("{}")
    assert run_predict(run, [images], out, "--resume") == 3
    assert "6 files" in capsys.readouterr().err
    (out / "predict.jsonl").write_text("[")
    assert run_predict(run, [images], out, "--resume") == 2
    assert "predict.jsonl" in capsys.readouterr().err


def test_a_mask_that_was_cut_off_or_changed_is_written_again(tiny_run, gallery, whole, tmp_path, capsys):
    """What was changed is kept under another name: it may be somebody's work."""
    images, out = shutil.copytree(gallery, tmp_path / "in"), tmp_path / "out"
    (images / "2.png").write_bytes(b"\x89PNG")
    assert run_predict(tiny_run, [images], out, *FLAGS) == 3
    changed = np.full((32, 32), 255, np.uint8)
    (out / "0.png").unlink()
    Image.fromarray(changed).save(out / "0.png")
    (out / "1_overlay.png").write_bytes((out / "1_overlay.png").read_bytes()[:99])
    shutil.copy(gallery / "2.png", images)
    assert run_predict(tiny_run, [images], out, *FLAGS, "--resume") == 0
    output, error = capsys.readouterr()
    assert "wrote masks of 3 images" in output and "kept as they were: 0.png.before, 1_overlay.png.before" in error
    np.testing.assert_array_equal(np.array(Image.open(out / "0.png.before")), changed)
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_shards_together_write_what_one_prediction_does(tiny_run, gallery, tmp_path, capsys):
    images, out = shutil.copytree(gallery, tmp_path / "in"), tmp_path / "out"
    save_nifti(images / "scan.nii.gz", np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3), np.eye(3), [0] * 3)
    flags = ["--instances"]
    assert run_predict(tiny_run, [images], tmp_path / "one", *flags) == 0
    for shard in ("0/9", "1/9", "2/9", "0/9"):
        resume = ["--resume"] if (out / f"predict_{shard[0]}_of_9.jsonl").exists() else []
        assert run_predict(tiny_run, [images], out, *flags, "--shard", shard, *resume) == 0
    assert sorted(path.name for path in out.glob("predict*")) == [f"predict_{i}_of_9.jsonl" for i in range(3)]
    assert not (out / "objects.csv").exists()
    for shard, words in (("0/9", "add --resume"), ("1/4", "shards 9, but now it is 4")):
        assert run_predict(tiny_run, [images], out, *flags, "--shard", shard) == 2
        assert words in capsys.readouterr().err
    shutil.copy(images / "0.png", images / "more.png")  # then every shard would have other images
    assert run_predict(tiny_run, [images], out, *flags, "--shard", "3/9") == 2
    assert "collection '10 images" in capsys.readouterr().err
    (images / "more.png").unlink()
    assert run_predict(tiny_run, [images], out, *flags, "--resume") == 0
    assert "wrote masks of 7 images" in capsys.readouterr().out  # of 10, the slices of the volume among them
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()
    }


def test_a_shard_without_images_is_no_error(tiny_run, gallery, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(gallery / "0.png", tmp_path / "in")
    (tmp_path / "in" / "bad.nii").touch()
    assert run_predict(tiny_run, [tmp_path / "in"], tmp_path / "out", "--shard", "1/2") == 0
    output, error = capsys.readouterr()
    assert "wrote masks of 0 images" in output and not error  # the first shard names what cannot be used
    assert run_predict(tiny_run, [tmp_path / "in"], tmp_path / "out", "--shard", "0/2") == 3
    assert "bad.nii" in capsys.readouterr().err


def test_a_prediction_goes_on_in_one_process(tiny_run, gallery, tmp_path, capsys):
    out = tmp_path / "out"
    with unfinished.begun(out, {}), pytest.raises(UserError) as caught, unfinished.begun(out, {}):
        pass
    sentence(caught, f"--output {out} is in use by another prediction")


def test_a_full_disk_is_one_sentence(tiny_run, gallery, tmp_path, capsys, monkeypatch):
    save, saved = Image.Image.save, []

    def full(self, path, **options):
        saved.append(path)
        if len(saved) > 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert run_predict(tiny_run, [gallery], tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "is not writable (No space left on device): mend that and add --resume, or" in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png", "predict.jsonl"]
    monkeypatch.undo()
    assert run_predict(tiny_run, [gallery], tmp_path / "out", "--resume") == 0


def test_names_that_cannot_be_printed_are_shown_by_their_codes(tmp_path):
    other, named = "a\x1b[2J.txt", "b\x1b.png"
    for name in (other, named):
        (tmp_path / name).write_bytes(b"")
    assert unused(tmp_path, {}, [f"{tmp_path} holds {named!r}: rename it."]) == [repr(other)]


def test_a_colour_image_becomes_what_the_network_takes(tiny_run, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    gray = np.rint(colours @ [0.299, 0.587, 0.114]).astype(np.uint8)
    for name, pixels in (("colours", colours), ("gray", gray)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
        flags = ["--images", str(tmp_path / name), "--output", str(tmp_path / "of" / name), "--channels", "gray"]
        assert predict(["--run", str(tiny_run), *flags]) == 0
    assert (tmp_path / "of/gray/a.png").read_bytes() == (tmp_path / "of/colours/a.png").read_bytes()


def test_a_mask_that_belongs_to_no_object_is_told_of_unless_thresholds_were_chosen(tmp_path, gallery, capsys):
    run = untrained_run(tmp_path / "run")  # whose probabilities seldom reach the seed threshold
    assert run_predict(run, [gallery / "0.png"], tmp_path / "a", "--instances") == 0
    mask, objects = (np.asarray(Image.open(tmp_path / "a" / name)) for name in ("0.png", "0_instances.png"))
    lost = 100 * np.mean(objects[mask > 0] == 0)
    assert lost > 50
    told = f"note: {lost:.0f} % of the mask belongs to no object: choose thresholds by evaluate --scores instances "
    assert f"{told}--choose-thresholds\n" in capsys.readouterr().err
    assert run_predict(run, [gallery / "0.png"], tmp_path / "b") == 0
    write_separation(run, Separation())
    assert run_predict(run, [gallery / "0.png"], tmp_path / "c", "--instances") == 0
    assert "no object" not in capsys.readouterr().err
