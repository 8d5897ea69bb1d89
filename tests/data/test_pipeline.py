"""Batches: every image once an epoch, images with their own labels, all decided by seed and epoch."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from unet_lowlevel.config import IGNORED
from unet_lowlevel.data import augmentation, pipeline
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies, one_batch, resolve_crop_size
from unet_lowlevel.data.samples import Normalization, Sample, with_normalization
from unet_lowlevel.data.storage import on_disk
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve


def numbered_samples(count, height=8, width=8):
    """Samples whose every pixel, in image and label, is the sample's number: a mix-up would show."""
    return [
        Sample(f"s{i}", np.full((height, width, 1), i, np.float32), np.full((height, width), i, np.uint8))
        for i in range(count)
    ]


def config(**flags):
    return resolve(flags={"crop_size": 8, "depth": 2, "augment": False, **flags})


def epoch_order(batches, epoch):
    return np.concatenate([index.numpy() for _, _, index in batches.of_epoch(epoch)]).tolist()


def test_an_epoch_holds_every_image_once_with_its_label():
    batches = TrainingBatches(numbered_samples(10), config(batch_size=4))
    sizes, seen = [], []
    for images, labels, index in batches.of_epoch(1):
        sizes.append(len(index))
        for image, label, i in zip(images.numpy(), labels.numpy(), index.numpy(), strict=True):
            assert (image == i).all() and (label == i).all()
        seen += index.numpy().tolist()
    assert sizes == [4, 4, 2] and sorted(seen) == list(range(10))
    assert batches.steps_per_epoch == 3


def test_the_label_follows_the_image_through_all_changes():
    rng = np.random.default_rng(0)
    samples = []
    for i in range(6):
        label = (rng.random((20, 30)) > 0.5).astype(np.uint8)
        samples.append(Sample(f"s{i}", label[..., np.newaxis].astype(np.float32), label))
    flags = {"augment": True, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}
    for images, labels, _ in TrainingBatches(samples, config(**flags)).of_epoch(1):
        np.testing.assert_array_equal(images.numpy()[..., 0], labels.numpy())


def test_order_is_a_function_of_seed_and_epoch():
    batches = TrainingBatches(numbered_samples(20), config())
    first, second = epoch_order(batches, 1), epoch_order(batches, 2)
    assert first != second and first != list(range(20))
    anew = TrainingBatches(numbered_samples(20), config())
    assert epoch_order(anew, 2) == second and epoch_order(batches, 1) == first
    assert epoch_order(TrainingBatches(numbered_samples(20), config(seed=1)), 1) != first


UNCHANGED = {"flips": False, "quarter_turns": False, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}


@pytest.mark.parametrize(
    ("side", "flags"),
    [
        pytest.param(20, {}, id="crop"),
        pytest.param(8, {"flips": True, "quarter_turns": True}, id="flips"),
        pytest.param(8, {"brightness": 0.5}, id="gray values"),
        pytest.param(8, {"rotation": 40.0}, id="deformation"),
        pytest.param(8, {"rotation": 40.0, "deformation_probability": 0.7}, id="some deformations"),
        pytest.param(8, {"blur": 1.0}, id="blur"),
        pytest.param(8, {"blur": 1.0, "blur_probability": 0.7}, id="some blur"),
        pytest.param(8, {"low_resolution": 3.0}, id="low resolution"),
    ],
)
def test_augmented_pixels_are_a_function_of_seed_epoch_and_position(side, flags):
    """Of equal images, so that nothing else can make a difference."""
    pixels = np.random.default_rng(0).normal(size=(side, side, 1)).astype(np.float32)
    samples = [Sample(f"s{i}", pixels, np.zeros((side, side), np.uint8)) for i in range(9)]

    def augmented(epoch, seed):
        settings = config(augment=True, batch_size=9, seed=seed, **UNCHANGED | flags)
        ((images, _, _),) = TrainingBatches(samples, settings).of_epoch(epoch)
        return images.numpy()

    first = augmented(1, 0)
    np.testing.assert_array_equal(augmented(1, 0), first)
    assert len({image.tobytes() for image in first}) > 3  # a square has eight symmetries
    for other in (augmented(2, 0), augmented(1, 1)):
        assert not np.array_equal(other, first)


THREADS = """
import sys
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[1]))
from unet_lowlevel.data.pipeline import TrainingBatches
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.settings import resolve
pixels = np.random.default_rng(0).normal(size=(40, 50, 3)).astype(np.float32)
samples = [Sample(f"s{i}", pixels, np.zeros((40, 50), np.uint8)) for i in range(12)]
settings = resolve("strong_augmentation", None, {"crop_size": 32, "depth": 2, "elastic": 5.0, "blur_probability": 0.7})
for images, *_ in TrainingBatches(samples, settings).of_epoch(1):
    sys.stdout.buffer.write(images.numpy().tobytes())
"""


@pytest.mark.slow
def test_threads_do_not_change_a_bit():
    once, twice = (
        subprocess.run([sys.executable, "-c", THREADS, count], check=True, capture_output=True).stdout for count in "12"
    )
    assert len(once) == 12 * 32 * 32 * 3 * 4 and once == twice


def test_no_two_draws_have_the_same_seed(monkeypatch):
    """Those of an image, of two images, of two passes of an epoch, of two epochs, of two seeds."""
    seeds = []

    def spied(draw, position):
        def spy(*arguments):
            tf.numpy_function(lambda seed: seeds.append(tuple(seed.tolist())), [arguments[position]], [])
            return draw(*arguments)

        return spy

    for place, name, position in (
        (tf.random.experimental, "stateless_shuffle", 1),
        (pipeline, "random_start", 3),
        (pipeline, "random_field", 2),
        (augmentation, "flip_and_turn", 3),
        (augmentation, "change_gray_values", 2),
    ):
        monkeypatch.setattr(place, name, spied(getattr(place, name), position))
    for seed in (0, 1):
        settings = config(augment=True, rotation=40.0, batch_size=3, steps_per_epoch=2, seed=seed)
        batches = TrainingBatches(numbered_samples(3), settings)
        for epoch in (1, 2):
            assert len(list(batches.of_epoch(epoch))) == 2
    assert len(seeds) == len(set(seeds)) == 2 * 2 * (2 + 4 * 6)


def test_passes_of_an_epoch_differ_in_their_order():
    order = epoch_order(TrainingBatches(numbered_samples(20), config(batch_size=4, steps_per_epoch=10)), 1)
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20)) and order[:20] != order[20:]


@pytest.mark.parametrize("flags", [{}, {"augment": True, "rotation": 45.0, **UNCHANGED}], ids=["crop", "rotation"])
def test_beyond_its_border_an_image_is_mirrored(flags, monkeypatch):
    """A crop larger than the image, as it is and turned by an eighth."""
    label = np.arange(25, dtype=np.uint8).reshape(5, 5)
    places = np.stack(np.mgrid[:9, :9]).astype(np.float32)
    if flags:
        places = np.tensordot([[0.5**0.5, -(0.5**0.5)], [0.5**0.5, 0.5**0.5]], places - 4, 1).astype(np.float32) + 4
        monkeypatch.setattr(pipeline, "random_field", lambda crop, changes, seed: tf.constant(places))
    settings = resolve(flags={"depth": 1, "crop_size": 9, "augment": False} | flags)
    samples = [Sample("s", label[..., np.newaxis].astype(np.float32), label)]
    ((images, labels, _),) = TrainingBatches(samples, settings).of_epoch(1)
    for found, order in ((images[0, ..., 0], 1), (labels[0], 0)):
        expected = ndimage.map_coordinates(label.astype(np.float64), places - 2, order=order, mode="mirror")
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("steps", "expected"), [(2, 8), (7, 28)])
def test_steps_per_epoch_takes_some_or_many_passes(steps, expected):
    batches = TrainingBatches(numbered_samples(10), config(batch_size=4, steps_per_epoch=steps))
    order = epoch_order(batches, 1)
    assert batches.steps_per_epoch == steps and len(order) == expected
    counts = np.bincount(order, minlength=10)
    assert counts.max() - counts.min() <= 1


def test_large_images_are_drawn_by_their_area():
    """Crops of 8 pixels: one fits into 8x8, three into 13x15 (3.05), and 4x4 is drawn as well."""
    samples = numbered_samples(1) + numbered_samples(1, 13, 15) + numbered_samples(1, 4, 4)
    batches = TrainingBatches(samples, config(batch_size=2, draw_by="area"))
    assert batches.steps_per_epoch == 3
    orders = [epoch_order(batches, epoch) for epoch in range(1, 5)]
    assert all(sorted(order) == [0, 1, 1, 1, 2] for order in orders) and len(set(map(tuple, orders))) > 1
    twice = epoch_order(TrainingBatches(samples, config(batch_size=2, draw_by="area", steps_per_epoch=5)), 1)
    assert twice[:5] == orders[0] and sorted(twice[5:]) == [0, 1, 1, 1, 2]
    valid = config(padding="valid", crop_size=28, draw_by="area")  # 16 pixels more than its output
    assert pipeline.draws_of_images(valid, [(24, 12), (12, 12), (36, 36)]) == [2, 1, 9]


@pytest.mark.parametrize(
    ("sizes", "flags", "expected"),
    [
        ([(128, 128)], {}, 128),
        ([(100, 90)], {}, 112),
        ([(512, 512), (40, 40)], {}, 256),
        ([(512, 512)], {"crop_size": 300}, 300),
        ([(512, 512)], {"padding": "valid"}, 444),
        ([(20, 20)], {"padding": "valid"}, 204),
        ([(512, 512)], {"padding": "valid", "crop_size": 572}, 572),
    ],
)
def test_automatic_crop_size_fits_images_and_network(sizes, flags, expected):
    assert resolve_crop_size(resolve(flags=flags), sizes) == expected


def test_impossible_crop_of_a_valid_network_is_refused():
    with pytest.raises(UserError, match="use 572"):
        resolve_crop_size(resolve("paper", flags={"crop_size": 570}), [])


def test_class_frequencies_by_hand():
    label = np.array([[0, 0, 0, 2]], np.uint8)
    np.testing.assert_allclose(class_frequencies([Sample("s", label, label)], 3), [0.75, 0, 0.25])
    np.testing.assert_allclose(class_frequencies([Sample("s", label * 0, label * 0)], 1), [1, 0])


class Watched:
    """Pixels that tell which of them were asked for, and that cannot be read as a whole."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.asked = pixels, pixels.shape, []

    def __getitem__(self, place):
        window = self.pixels[place]
        self.asked.append(window.shape[:2])
        return window


def test_only_the_window_of_the_crop_is_read_and_normalized():
    samples = numbered_samples(3, 50, 40)
    watched = [Sample(s.stem, Watched(s.image), Watched(s.label), Normalization(1.0, 4.0)) for s in samples]
    for images, labels, index in TrainingBatches(watched, config(batch_size=1)).of_epoch(1):
        assert (images.numpy() == (index.numpy() - 1) / 4).all() and (labels.numpy() == index.numpy()).all()
    for sample in watched:
        assert sample.image.asked == sample.label.asked == [(8, 8)]


@pytest.mark.parametrize("flags", [{}, {"padding": "valid", "crop_size": 20}, {"crop_size": 60, "augment": True}])
def test_batches_from_files_are_those_from_memory(tmp_path, flags):
    rng = np.random.default_rng(0)
    settings, samples = config(**flags), []
    for i, size in enumerate([(30, 25), (70, 80), (9, 64), (1, 3)]):
        label = rng.integers(0, 2, size, dtype=np.uint8)
        sample = Sample(f"s{i}", rng.integers(0, 65536, (*size, 2), dtype=np.uint16), label)
        samples.append(with_normalization(sample, settings.data))
    with on_disk(tmp_path / "run") as keep:
        stored = [keep(sample) for sample in samples]
        one, other = (TrainingBatches(kept, settings).of_epoch(2) for kept in (samples, stored))
        for expected, batch in zip(one, other, strict=True):
            for a, b in zip(expected, batch, strict=True):
                np.testing.assert_array_equal(a, b)
        for a, b in zip(one_batch(settings, samples)[1], one_batch(settings, stored)[1], strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.label, b.label)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_one_batch_is_the_same_batch_again_and_again(padding):
    settings = resolve(flags={"depth": 2, "padding": padding, "crop_size": 20, "batch_size": 3, "dropout_rate": 0.5})
    rng = np.random.default_rng(0)
    samples = [
        Sample(f"s{i}", rng.normal(size=(30, 25, 1)).astype(np.float32), np.zeros((30, 25), np.uint8)) for i in range(5)
    ]
    settings, batch = one_batch(settings, samples)
    assert [sample.stem for sample in batch] == ["s0", "s1", "s2"] and settings.model.dropout_rate == 0
    batches = TrainingBatches(batch, settings)
    seen: dict[int, np.ndarray] = {}
    for epoch in (1, 2):
        for images, _, index in batches.of_epoch(epoch):
            for image, i in zip(images.numpy(), index.numpy(), strict=True):
                np.testing.assert_array_equal(seen.setdefault(int(i), image), image)
    assert len(seen) == 3 and dataclasses.asdict(settings)["training"]["steps_per_epoch"] == 20


def test_frequencies_are_those_of_labelled_pixels():
    label = np.array([[0, 1, IGNORED, IGNORED], [0, 0, IGNORED, 2]], np.uint8)
    np.testing.assert_allclose(class_frequencies([Sample("a", label[..., None], label)], 4), [0.6, 0.2, 0.2, 0])


def test_one_batch_without_a_label_is_refused():
    label = np.full((24, 24), IGNORED, np.uint8)
    label[0] = 1
    with pytest.raises(UserError, match=r"--overfit-one-batch .* no pixel there has a label: make --crop-size or --b"):
        one_batch(config(), [Sample("a", label[..., None], label)])


def test_the_end_of_an_epoch_waits_for_no_tuning():
    image = np.zeros((8, 8), np.uint8)
    assert not TrainingBatches([Sample("a", image[..., None], image)], config()).dataset.options().autotune.enabled
