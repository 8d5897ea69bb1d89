"""Samples in files: the same as in memory, read by the window, gone in the end; one sentence when it is too much."""

import errno
import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, sentence
from image_files import BINARY, DEEP, GRAY, RGB, write_pairs
from low_memory import memory_information
from PIL import Image

from unet_lowlevel import machine
from unet_lowlevel.cli.train import main
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, storage
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.trainer import check_validation

STATUS = Path("/proc/self/status")
on_linux = pytest.mark.skipif(not STATUS.exists(), reason="no /proc")


def as_it_is(sample):
    return sample


def memory(kind):
    """MiB of this process: RssAnon now, or VmHWM, the peak with mapped files."""
    return next(int(line.split()[1]) / 1024 for line in STATUS.read_text().splitlines() if line.startswith(kind))


@pytest.mark.parametrize("normalization", ["standard", "minmax"])
@pytest.mark.parametrize("resolution", [1.0, 0.4])
def test_samples_in_files_are_those_in_memory(tmp_path, normalization, resolution):
    pairs = write_pairs(tmp_path, (GRAY, BINARY), (GRAY[:7].astype(np.uint16) * 257, BINARY[:7]), (GRAY, BINARY * 0))
    config = resolve(flags={"normalization": normalization, "resolution": resolution})
    expected, fingerprint = storage.gather(pairs, config, as_it_is)
    with storage.on_disk(tmp_path / "run") as keep:
        samples, same = storage.gather(pairs, config, keep)
        assert same == fingerprint and len(samples) == 3
        for one, other in zip(samples, expected, strict=True):
            assert isinstance(one.image, np.memmap) and isinstance(one.label, np.memmap)
            assert (one.stem, one.size, one.normalization) == (other.stem, other.size, other.normalization)
            assert one.image.dtype == other.image.dtype and one.label.dtype == np.uint8
            parts = [(part.image, part.label, part.truth, part.normalized()) for part in (one, other)]
            for a, b in zip(*parts, strict=True):
                np.testing.assert_array_equal(a, b)
            assert (one.original_label is None) == (other.original_label is None) == (resolution == 1)
        np.testing.assert_array_equal(class_frequencies(samples, 1), class_frequencies(expected, 1))
        with pytest.raises(ValueError, match="read-only"):
            samples[0].image[0, 0] = 1


def test_fingerprint_sees_everything(tmp_path):
    alternatives = [
        [(GRAY, BINARY), (RGB[..., 0], BINARY)],
        [(GRAY, BINARY)],
        [(RGB[..., 0], BINARY), (GRAY, BINARY)],
        [(GRAY.astype(np.uint16), BINARY), (RGB[..., 0], BINARY)],
        [(GRAY.reshape(30, 20), BINARY.reshape(30, 20)), (RGB[..., 0], BINARY)],
        [(GRAY ^ (np.arange(30) == 7), BINARY), (RGB[..., 0], BINARY)],
        [(GRAY, 1 - BINARY), (RGB[..., 0], BINARY)],
    ]
    seen = []
    for i, arrays in enumerate(alternatives):
        (tmp_path / str(i)).mkdir()
        pairs = write_pairs(tmp_path / str(i), *arrays)
        seen.append(storage.gather(pairs, resolve(), as_it_is)[1])
    pairs[1].image.rename(pairs[1].image.with_name("z.png"))
    pairs[1].masks[0].rename(pairs[1].masks[0].with_name("z.png"))
    seen.append(storage.gather(files.find_pairs(DataConfig(data=str(tmp_path / str(i)))), resolve(), as_it_is)[1])
    assert len(set(seen)) == len(seen) == 8
    by_hand = hashlib.sha256()
    for stem, image in (("a", GRAY), ("b", RGB[..., 0])):
        parts = repr(stem), "uint8 (20, 30, 1)", image.tobytes(), "uint8 (20, 30)", BINARY.tobytes()
        for part in parts:
            by_hand.update(part.encode() if isinstance(part, str) else part)
    assert seen[0] == by_hand.hexdigest()


def test_fingerprint_is_that_of_the_pixels_as_stored(tmp_path):
    """Whatever the resolution: rounding on another machine must not look like other data."""
    pairs = write_pairs(tmp_path, (GRAY, BINARY), (DEEP, BINARY))
    one, other = (storage.gather(pairs, resolve(flags={"resolution": r}), as_it_is)[1] for r in (1.0, 0.3))
    assert one == other


def holes(path, shape):
    """As `storage.stored`, of zeros that take no room."""
    np.memmap(path, np.uint8, "w+", shape=shape)
    return functools.partial(np.memmap, path, np.uint8, "r", shape=shape)


@on_linux
def test_of_a_huge_image_only_the_window_is_read(tmp_path):
    """A file of 1.2 GB, nearly all of it a hole; reading it whole would show in the peak of the memory."""
    side = 20000
    with storage.on_disk(tmp_path / "run") as keep:
        sample = keep(Sample("a", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8)))
        sample.size = (side, side)
        sample.maps["image"] = holes(tmp_path / "image", (side, side, 3))
        sample.maps["label"] = holes(tmp_path / "label", (side, side))
        image = np.memmap(tmp_path / "image", np.uint8, "r+", shape=(side, side, 3))
        image[19990:, 19980:] = np.arange(1, 201, dtype=np.uint8).reshape(10, 20, 1)
        np.memmap(tmp_path / "label", np.uint8, "r+", shape=(side, side))[19990:, 19980:] = 1
        del image
        config = resolve(flags={"crop_size": 64, "batch_size": 1, "steps_per_epoch": 20, "depth": 2, "in_channels": 3})
        batches = TrainingBatches([sample], config)
        next(iter(batches.of_epoch(1)))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmHWM")
        assert sum(len(index) for _, _, index in batches.of_epoch(2)) == 20
        pixels, label = sample.window(np.arange(side - 3, side), np.arange(side - 2, side))
        assert memory("VmHWM") - before < 150
    np.testing.assert_array_equal(pixels[..., 1], [[159, 160], [179, 180], [199, 200]])
    assert label.sum() == 6


@on_linux
def test_memory_stays_flat_over_many_images(tmp_path):
    """20 images and masks of 4 MB each: 160 MB, of which one pair at a time is in memory."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for i in range(20):
            array = np.zeros((2000, 2000), np.uint8)
            array[100 * i :] = 255
            Image.fromarray(array).save(tmp_path / kind / f"{i:02d}.png", compress_level=1)
    config = resolve(flags={"data": str(tmp_path), "crop_size": 64, "depth": 2, "in_channels": 1})
    with storage.on_disk(tmp_path / "run") as keep:
        pairs = files.find_pairs(config.data)
        storage.gather(pairs[:2], config, keep)  # what the decoders need for themselves
        before = memory("RssAnon")
        samples, _ = storage.gather(pairs, config, keep)
        assert memory("RssAnon") - before < 50
        assert class_frequencies(samples, 1)[0] == 0.475
        batches = TrainingBatches(samples, config)
        for epoch in (1, 2):
            assert sum(len(index) for _, _, index in batches.of_epoch(epoch)) == 20
        for sample in samples:
            tf.constant(sample.normalized())
        del sample
        assert memory("RssAnon") - before < 90  # the threads of the pipeline among it


@pytest.mark.parametrize("error", [None, UserError("no."), KeyboardInterrupt()])
def test_in_the_end_nothing_is_left(tmp_path, error):
    try:
        with storage.on_disk(tmp_path) as keep:
            keep(Sample("a", GRAY[..., None], BINARY))
            assert len(list((tmp_path / "decoded").iterdir())) == 2
            (tmp_path / "config.json").touch()
            if error:
                raise error
    except type(error or UserError) as caught:
        assert caught is error
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_a_killed_training_has_left_is_removed(tmp_path):
    left = tmp_path / "decoded" / "1.image"
    left.parent.mkdir()
    left.write_text("torn")
    with storage.on_disk(tmp_path):
        assert not left.exists() and left.parent.exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(phantoms, tmp_path, monkeypatch, capsys):
    write, calls = storage.stored, []

    def full(array, path):
        calls.append(path)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(array, path)

    monkeypatch.setattr(storage, "stored", full)
    run = tmp_path / "runs" / "one"
    assert main(["--run", str(run), "--data", str(phantoms), *TINY, "--stream"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --stream cannot write image 3") and error.count("\n") == 1
    for word in (str(run / "decoded"), "No space left on device", "--run on a larger disk"):
        assert word in error
    assert len(calls) == 6 and list(tmp_path.iterdir()) == []


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught, storage.on_disk(tmp_path / "file" / "run"):
        pass
    sentence(caught, f"--run {tmp_path / 'file' / 'run'}", "choose another place")
    assert (tmp_path / "file").exists()


def test_too_little_memory_is_said_before_it_is_full(phantoms, tmp_path, monkeypatch, capsys):
    """12 samples of 2 KiB each: too much for 10 KiB, which the third of them shows, and not for 100 KiB."""
    read = []
    original = storage.with_normalization
    monkeypatch.setattr(storage, "with_normalization", lambda *given: read.append(0) or original(*given))
    memory_information(monkeypatch, tmp_path, 10)
    flags = ["--run", str(tmp_path / "run"), "--data", str(phantoms), *TINY, "--no-check"]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and error.endswith("add --stream.\n")
    assert "12 images takes about 2.29e-05 GiB decoded, but 1.34e-05 GiB of memory are available" in error
    assert len(read) == 2 and not (tmp_path / "run").exists()
    memory_information(monkeypatch, tmp_path, 100)
    config = resolve(flags={"data": str(phantoms), "base_channels": 2, "depth": 2})
    with storage.in_memory(12) as keep:
        samples, _ = storage.gather(files.find_pairs(config.data), config, keep)
    assert len(samples) == 12 and len(read) == 14
    check_validation(config, samples)  # what else a training asks of the memory


def test_one_large_image_is_no_reason_to_refuse(tmp_path, monkeypatch):
    """A quarter of the memory has to be full before the rest is judged by what was read."""
    memory_information(monkeypatch, tmp_path, 1000)
    with storage.in_memory(1000) as keep:
        large = Sample("a", np.zeros((400, 400, 1), np.uint8), np.zeros((1, 1), np.uint8))
        assert keep(large) is large
        for _ in range(999):
            keep(Sample("b", np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2), np.uint8)))
    with storage.in_memory(1000) as keep, pytest.raises(UserError, match="add --stream"):
        keep(Sample("a", np.zeros((800, 800, 1), np.uint8), np.zeros((1, 1), np.uint8)))


@pytest.mark.parametrize("content", [None, "MemTotal: 5 kB\n"])
def test_where_the_system_does_not_tell_its_memory_nothing_is_refused(tmp_path, monkeypatch, content):
    file = tmp_path / "meminfo"
    monkeypatch.setattr(machine, "MEMORY_INFORMATION", file)
    if content:
        file.write_text(content)
    with storage.in_memory(10**15) as keep:
        keep(Sample("a", GRAY[..., None], BINARY))
