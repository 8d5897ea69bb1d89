"""Running out of memory: training ends with what to lower, prediction goes on with smaller tiles."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY
from kill_and_resume import assert_same_training, history
from low_memory import memory_information
from PIL import Image

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.data.files import find_pairs, read_image
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders
from unet_lowlevel.inference.compiled_network import CompiledNetwork
from unet_lowlevel.inference.evaluation import evaluate_pairs
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.steps import EvaluationStep
from unet_lowlevel.training.trainer import check_validation, image_too_large, step_too_large

EXHAUSTED = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def failing(original, call, error=EXHAUSTED):
    """`original`, but that it raises at its so-manieth call, counted from 1, and at all after it."""
    calls = 0

    def function(*arguments):
        nonlocal calls
        calls += 1
        if calls >= call:
            raise error
        return original(*arguments)

    return function


def only_error(capsys):
    """The one sentence on stderr."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and error.endswith(".\n")
    return error


def test_training_says_what_to_lower_and_keeps_what_was_saved(tiny_run, phantoms, tmp_path, monkeypatch, capsys):
    """Twice in the second epoch, of 3 steps and 3 images to validate; then it comes to the same as `tiny_run`."""
    run = tmp_path / "run"
    flags = ["--data", str(phantoms), "--ema-decay", "0.5", *TINY]
    # The fifth step belongs to the second epoch; resumed, the second image does.
    for kind, error, call in [(TrainStep, EXHAUSTED, 5), (EvaluationStep, MemoryError(), 2)]:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "__call__", failing(kind.__call__, call, error))
            assert train(["--run", str(run), *flags]) == 2
        message = only_error(capsys)
        assert f"the checkpoints in {run} are as they were" in message
        if kind is TrainStep:
            assert "--batch-size 4 and --crop-size 32: start another --run with --batch-size 2 or" in message
        else:
            assert "validation of patient-" in message and "32 x 32 pixels" in message
            assert "--validation-list" in message
        assert len(history(run)) == 1
        flags = ["--resume"]
    assert train(["--run", str(run), "--resume"]) == 0
    assert_same_training(run, tiny_run)


@pytest.mark.parametrize("implementation", ["lowlevel", "highlevel", "keras"])
@pytest.mark.parametrize("part", ["window", "normalized"])
def test_all_trainings_say_the_same_when_images_cannot_be_had(
    implementation, part, phantoms, tmp_path, monkeypatch, capsys
):
    """Out of the input pipeline TensorFlow brings a MemoryError as one of its own."""
    monkeypatch.setattr(Sample, part, failing(getattr(Sample, part), 6, MemoryError()))
    run = tmp_path / "run"
    assert train(["--run", str(run), "--data", str(phantoms), *TINY, "--pictures", "0"], implementation) == 2
    message = only_error(capsys)
    if part == "window":  # of the second batch
        kept = "nothing was saved yet"
        expected = step_too_large(
            resolve(flags={"batch_size": 4, "crop_size": 32}), kept, can_recompute=implementation == "lowlevel"
        )
        assert message == f"error: {expected}\n"
    else:  # of the third image of the second epoch
        assert message.startswith("error: The validation of patient-")
        assert f"the checkpoints in {run} are as they were" in message


@pytest.mark.parametrize(
    ("flags", "can_recompute", "expected"),
    [
        ({}, True, "--batch-size 2 or a smaller --crop-size or --recompute"),
        ({}, False, "--batch-size 2 or a smaller --crop-size"),
        ({"batch_size": 3, "recompute": True}, True, "--batch-size 1 or a smaller --crop-size"),
        ({"batch_size": 1}, True, "a smaller --crop-size or --recompute"),
    ],
)
def test_only_what_can_be_lowered_is_named(flags, can_recompute, expected):
    config = resolve(flags={"crop_size": 64} | flags)
    message = step_too_large(config, "nothing was saved yet", can_recompute=can_recompute)
    assert f"start another --run with {expected}, or free some memory; nothing was saved yet." in message


def test_an_image_too_large_is_named_with_its_size():
    sample = Sample("slide", np.zeros((3, 5, 1), np.uint8), np.zeros((3, 5), np.uint8))
    message = image_too_large(sample, "nothing was saved yet")
    assert message.startswith("The validation of slide") and "3 x 5 pixels" in message


def little_memory(monkeypatch, pixels):
    """From here on the network raises what TensorFlow does, for more than so many pixels at once; gives the sizes."""
    original, computed = CompiledNetwork.__init__, []

    def limited(function):
        def compute(images, *more):
            if np.prod(images.shape[:3]) > pixels:
                raise EXHAUSTED
            computed.append(tuple(images.shape[:3]))
            return function(images, *more)

        return compute

    def create(self, *arguments):
        original(self, *arguments)
        self.whole, self.tile = limited(self.whole), limited(self.tile)

    monkeypatch.setattr(CompiledNetwork, "__init__", create)
    return computed


def run_predict(run, gallery, output):
    return predict(["--run", str(run), "--images", str(gallery), "--output", str(output), "--probabilities"])


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A folder of images: four small ones of one size and two large ones."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "gallery"
    folder.mkdir()
    for i, size in enumerate([(150, 140)] * 4 + [(300, 310), (310, 300)]):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tiny_run, gallery, tmp_path_factory):
    """What is predicted of them with enough memory."""
    output = tmp_path_factory.mktemp("out") / "whole"
    assert run_predict(tiny_run, gallery, output) == 0
    return output


def same_masks(one, other, count=6):
    """Probabilities differ by no more than rounding; masks only where they are the threshold but for that."""
    assert len(list(one.glob("*.png"))) == len(list(other.glob("*.png"))) == 2 * count
    for i in range(count):
        a, b = (read_image(folder / f"{i}_probability.png").astype(int) for folder in (one, other))
        np.testing.assert_allclose(a, b, rtol=0, atol=1)
        decided = np.abs(a - round(0.2 * 65535)) > 2
        np.testing.assert_array_equal(read_image(one / f"{i}.png")[decided], read_image(other / f"{i}.png")[decided])


def test_with_enough_memory_nothing_is_said(tiny_run, gallery, tmp_path, capsys):
    assert run_predict(tiny_run, gallery, tmp_path / "whole") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize(("pixels", "side", "smaller"), [(90000, 310, 155), (10000, 150, 75)])
def test_prediction_goes_on_with_smaller_tiles(
    pixels, side, smaller, at_once, tiny_run, gallery, whole, tmp_path, monkeypatch, capsys
):
    """Too little memory for a large image; for anything but tiles. One note, also if several images are computed."""
    monkeypatch.setattr(folders, "images_at_once", lambda count: at_once)
    little_memory(monkeypatch, pixels)
    assert run_predict(tiny_run, gallery, tmp_path / "tiled") == 0
    same_masks(whole, tmp_path / "tiled")
    notes = capsys.readouterr().err.splitlines()
    assert notes == [f"note: memory ran out for {side} x {side} pixels at once: going on as with --tile-size {smaller}"]


def test_an_image_that_fails_midway_begins_anew(tiny_run, monkeypatch, capsys):
    image = np.random.default_rng(0).integers(0, 255, (300, 310, 1), np.uint8)
    predictor = load(tiny_run, tile_size=200)
    expected = predictor.probabilities(image)
    network, calls = predictor.networks[0], []
    tile = network.tile

    def fail_once(window, core):
        calls.append(window.shape)
        if len(calls) == 3:
            raise EXHAUSTED
        return tile(window, core)

    network.tile = fail_once
    tiles = list(predictor.tiles(predictor.working_images(image)))
    assert len(calls) > 3 + 4 and calls[3] != calls[2] and len(tiles) == len(calls) - 1
    assert predictor.tile_size == 100 and capsys.readouterr().err.count("note: ") == 1
    np.testing.assert_allclose(predictor.probabilities(image), expected, rtol=0, atol=1e-5)


def test_what_another_thread_has_lowered_is_not_lowered_again(tiny_run, monkeypatch, capsys):
    image = np.random.default_rng(0).integers(0, 255, (300, 310, 1), np.uint8)
    predictor = load(tiny_run, tile_size=200)
    network = predictor.networks[0]
    tile = network.tile

    def fail(*_):
        predictor.tile_size, network.tile = 100, tile
        raise EXHAUSTED

    network.tile = fail
    predictor.probabilities(image)
    assert predictor.tile_size == 100 and capsys.readouterr().err == ""


def test_without_room_for_the_smallest_tile_it_is_said(tiny_run, gallery, tmp_path, monkeypatch, capsys):
    little_memory(monkeypatch, 1000)
    assert run_predict(tiny_run, gallery, tmp_path / "out") == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert [note.rpartition(" ")[2] for note in notes] == ["75", "64"]
    assert error.startswith("error: An image of 150 x 140 pixels ran out of memory even with --tile-size 64: ")
    assert list((tmp_path / "out").iterdir()) == []


def test_evaluation_goes_on_with_smaller_tiles(tiny_run, phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unet_lowlevel.inference.predictor.smallest_tile_size", lambda config: 8)
    predictor = load(tiny_run)
    pairs = find_pairs(predictor.config.data)
    expected = evaluate_pairs(predictor, pairs, tmp_path / "whole")
    little_memory(monkeypatch, 1000)  # the images have 1024 pixels
    found = evaluate_pairs(load(tiny_run), pairs, tmp_path / "tiled")
    assert found["dice"] == pytest.approx(expected["dice"], abs=1e-3)
    assert capsys.readouterr().err.count("note: ") == 1


def test_other_errors_are_not_taken_for_it(tiny_run, monkeypatch):
    predictor = load(tiny_run)

    def broken(images):
        raise tf.errors.InternalError(None, None, "broken")

    predictor.networks[0].whole = broken
    with pytest.raises(tf.errors.InternalError):
        predictor.probabilities(np.zeros((20, 20, 1), np.uint8))
    predictor.networks[0].whole = failing(None, 1)
    with pytest.raises(UserError, match="even with --tile-size 20"):
        predictor.probabilities(np.zeros((20, 20, 1), np.uint8))


@pytest.mark.parametrize("implementation", ["lowlevel", "keras"])
def test_what_is_certain_to_run_out_is_refused_before_the_training(
    implementation, phantoms, tmp_path, monkeypatch, capsys
):
    """32 x 32 pixels of 6 x 2 channels of 4 bytes are 48 KiB; the samples themselves take 24 KiB."""
    run = tmp_path / "run"
    flags = ["--run", str(run), "--data", str(phantoms), *TINY, "--epochs", "1", "--no-check"]
    memory_information(monkeypatch, tmp_path, 47)
    assert train(flags, implementation) == 2
    message = only_error(capsys)
    assert "32 x 32 pixels" in message and "nothing was written" in message and not run.exists()
    memory_information(monkeypatch, tmp_path, 49)
    assert train(flags, implementation) == 0


def test_enlarged_probabilities_need_memory_too(monkeypatch, tmp_path):
    """48 KiB as above, and 4 bytes for each of 64 x 64 pixels as stored."""
    config = resolve(flags={"in_channels": 1, "base_channels": 2, "depth": 2, "resolution": 0.5})
    image, label, truth = (np.zeros(size, np.uint8) for size in ((32, 32, 1), (32, 32), (64, 64)))
    memory_information(monkeypatch, tmp_path, 63)
    check_validation(config, [Sample("a", image, label)])
    with pytest.raises(UserError, match="lower --resolution"):
        check_validation(config, [Sample("a", image, label, original_label=truth)])
    memory_information(monkeypatch, tmp_path, 65)
    check_validation(config, [Sample("a", image, label, original_label=truth)])


def test_tiles_are_no_larger_than_what_memory_is_certain_to_lack(tiny_run, tmp_path, monkeypatch, capsys):
    image = np.random.default_rng(0).integers(0, 255, (300, 310, 1), np.uint8)
    predictor = load(tiny_run)
    expected = predictor.probabilities(image)
    memory_information(monkeypatch, tmp_path, 310 * 300 * 32 // 1024 - 1)
    np.testing.assert_allclose(predictor.probabilities(image), expected, rtol=0, atol=1e-5)
    assert predictor.tile_size == 155 and capsys.readouterr().err.count("note: ") == 1
