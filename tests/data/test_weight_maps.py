"""Weight maps against float64 loops over all pixels, and squares whose distances can be counted."""

import csv
import math
import time

import numpy as np
import pytest
from conftest import TINY, sentence
from image_files import write_pairs
from numpy_reference import components

from unet_lowlevel.cli.train import main
from unet_lowlevel.config import IGNORED
from unet_lowlevel.data import files, storage
from unet_lowlevel.data.formats.writing import write_image
from unet_lowlevel.data.pipeline import TrainingBatches, class_frequencies, one_batch
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.weight_maps import class_balance, separation, separation_border
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve


def separation_by_loops(instances, w0, sigma):
    """Equation 2's second term: every pixel of the background against every pixel of every object, in float64."""
    objects = [np.argwhere(instances == value).tolist() for value in np.unique(instances) if value]
    result = np.zeros(instances.shape)
    if len(objects) > 1:
        for y, x in np.argwhere(instances == 0):
            nearest = sorted(min(math.hypot(y - row, x - column) for row, column in pixels) for pixels in objects)
            result[y, x] = w0 * math.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    return result


def assert_map(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "objects", "sigma"), [((12, 17), 2, 5.0), ((15, 9), 5, 0.7), ((20, 20), 9, 1.5)])
def test_separation_is_the_equation(shape, objects, sigma):
    """At small sigma the crops around the objects do not reach over the whole image."""
    random = np.random.default_rng(objects)
    instances = np.zeros(shape, np.int32)
    for number in range(1, objects + 1):
        y, x = random.integers(0, shape[0] - 2), random.integers(0, shape[1] - 2)
        instances[y : y + random.integers(1, 4), x : x + random.integers(1, 4)] = number
    assert_map(separation(instances, 10.0, sigma), separation_by_loops(instances, 10.0, sigma))
    # Sparse numbers in another order are the same objects, and so is any kind of whole number.
    renamed = np.array([0, *random.integers(1, 2**40, objects)])[instances]
    np.testing.assert_array_equal(separation(renamed, 10.0, sigma), separation(instances, 10.0, sigma))


def test_two_squares_by_hand():
    """Columns 0-2 and 7-8: between them d1 + d2 is 5 in every column, behind them 1 + 7; in a square is nothing."""
    instances = np.zeros((3, 10), np.uint8)
    instances[:, :3], instances[:, 7:9] = 1, 2
    found = separation(instances, 10.0, 5.0)
    assert_map(found[:, 3:7], np.full((3, 4), 10 * math.exp(-0.5)))
    assert_map(found[1], [0, 0, 0, *[10 * math.exp(-0.5)] * 4, 0, 0, 10 * math.exp(-64 / 50)])


def border_by_loops(instances, label):
    result = np.zeros(instances.shape, bool)
    for y, x in np.argwhere(instances > 0):
        for row, column in np.argwhere(instances > 0):
            near = abs(y - row) + abs(x - column) == 1
            if near and instances[y, x] != instances[row, column] and label[y, x] == label[row, column]:
                result[y, x] = True
    return result


@pytest.mark.parametrize("shape", [(9, 12), (1, 8), (8, 1), (1, 1)])
def test_border_is_where_another_object_of_the_class_is_a_neighbour(shape):
    random = np.random.default_rng(3)
    for _ in range(5):
        instances = random.integers(0, 4, shape) * random.integers(0, 2, shape)
        label = np.where(instances > 0, random.integers(1, 3, shape), 0).astype(np.uint8)
        np.testing.assert_array_equal(separation_border(instances, label), border_by_loops(instances, label))


@pytest.mark.parametrize("turned", [False, True])
def test_what_touches_at_corners_loses_nothing(turned, tmp_path):
    """A diagonal of one-pixel objects and two squares that share a corner: all is learned, what lies between weighs."""
    mask = np.diag(np.repeat(np.uint8(255), 12))
    mask[1:3, 7:9] = mask[3:5, 9:11] = 255
    mask = mask[:, ::-1] if turned else mask
    write_pairs(tmp_path, (mask, mask), (mask, mask))
    sample, _ = gathered(tmp_path, lambda s: s)[0]
    assert sample.label.sum() == 20
    np.testing.assert_array_equal(sample.target, sample.label)
    objects = components(sample.label)
    assert objects.max() == 14
    assert_map(sample.weights, separation_by_loops(objects, 10.0, 5.0))
    corner = sample.weights[2, 2 if turned else 9]  # it has an edge to either square
    assert corner == pytest.approx(10 * math.exp(-4 / 50))


def test_what_is_learned_falls_into_the_objects_again():
    """On random objects: the components by edges of what the border leaves each lie in one object."""
    random = np.random.default_rng(5)
    for _ in range(5):
        instances = np.repeat(np.repeat(random.integers(0, 4, (4, 5)), 4, 0), 4, 1)
        instances = np.where(random.uniform(size=instances.shape) < 0.1, np.roll(instances, 1, 0), instances)
        left = (instances > 0) & ~separation_border(instances, instances > 0)
        numbers = components(left)
        assert left.any() and len(np.unique(instances[left])) == 3
        for number in range(1, numbers.max() + 1):
            assert len(np.unique(instances[numbers == number])) == 1


def test_border_parts_what_touches_and_nothing_else():
    instances = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0], [0, 3, 0, 4, 4, 4]])
    found = separation_border(instances, instances > 0)
    np.testing.assert_array_equal(found, [[0, 0, 1, 1, 0, 0]] * 2 + [[0] * 6] * 2)
    assert not separation_border(instances, np.where(instances == 2, 2, instances > 0)).any()  # the class parts them


def test_a_thin_border_has_the_whole_weight_nearly():
    instances = np.repeat([[1, 1, 0, 2, 2]], 4, axis=0)
    found = separation(instances, 10.0, 5.0)
    assert_map(found, np.repeat([[0, 0, 10 * math.exp(-4 / 50), 0, 0]], 4, axis=0))
    assert separation(instances, 0.0, 5.0).max() == 0


@pytest.mark.parametrize("value", [0, 1, 7])
def test_fewer_than_two_objects_need_no_separation(value):
    """Nothing, one object, one object all over."""
    instances = np.zeros((9, 9), np.int32)
    instances[2:4, 3:6] = value
    for image in (instances, np.full((5, 4), value)):
        assert not separation(image, 10.0, 5.0).any()


def test_objects_out_of_reach_have_no_weight():
    instances = np.zeros((5, 80), np.int32)
    instances[:, 0], instances[:, 79], instances[:, 60] = 1, 2, 3
    found = separation(instances, 10.0, 2.0)
    assert not found[:, :40].any() and found.max() < 1e-6
    assert np.isfinite(found).all()


def test_hundreds_of_objects_take_no_time():
    instances = np.zeros((512, 512), np.int32)
    for number in range(400):
        y, x = (25 * part for part in divmod(number, 20))
        instances[y : y + 18, x : x + 18] = number + 1
    start = time.perf_counter()
    found = separation(instances, 10.0, 5.0)
    assert time.perf_counter() - start < 3  # 0.3 s on one core that does nothing else
    assert found[9, 21] == pytest.approx(10 * math.exp(-(8**2) / 50), rel=1e-5)


def test_classes_together_weigh_the_same():
    np.testing.assert_allclose(class_balance(np.array([0.8, 0.2])), [0.625, 2.5])
    np.testing.assert_allclose(class_balance(np.array([0.5, 0.0, 0.25, 0.25])), [2 / 3, 0, 4 / 3, 4 / 3])
    np.testing.assert_allclose(class_balance(np.array([1.0, 0.0])), [1, 0])
    shares = np.random.default_rng(0).dirichlet(np.ones(5))
    assert (shares * class_balance(shares)).sum() == pytest.approx(1)
    np.testing.assert_allclose(shares * class_balance(shares), 0.2)


def two_objects(count=4, size=(40, 44)):
    """Random images with two rectangles close to each other, 0 and 255 in the mask."""
    random, pairs = np.random.default_rng(1), []
    for i in range(count):
        mask = np.zeros(size, np.uint8)
        mask[5 + i : 20, 4:15] = mask[8:30, 18 + i : 35] = 255
        pairs.append((random.integers(0, 256, size, dtype=np.uint8), mask))
    return pairs


WEIGHTED = {"weight_map": True, "depth": 2, "base_channels": 2, "crop_size": 16, "batch_size": 2, "in_channels": 1}


def gathered(tmp_path, keep, **flags):
    pairs = files.find_pairs(resolve(flags={"data": str(tmp_path)}).data)
    return storage.gather(pairs, resolve(flags=WEIGHTED | flags), keep)


def test_each_sample_has_its_map_and_batches_the_whole_equation(tmp_path):
    write_pairs(tmp_path, *two_objects())
    samples, _ = gathered(tmp_path, lambda sample: sample)
    config = resolve(flags=WEIGHTED | {"augment": False, "crop_size": 64, "batch_size": 4})
    for sample in samples:
        assert sample.weights.shape == sample.size and sample.weights.max() > 3
        assert_map(sample.weights, separation(np.where(np.arange(44) < 16, 1, 2) * sample.label, 10.0, 5.0))
        np.testing.assert_array_equal(sample.target, sample.label)
    (batch,) = TrainingBatches(samples, config).of_epoch(1)
    _, labels, weights, index = (part.numpy() for part in batch)
    share = class_frequencies(samples, 1)
    for i, number in enumerate(index):
        middle = weights[i, 12:52, 10:54]  # the rest is mirrored
        expected = samples[number].weights + np.where(samples[number].label, 0.5 / share[1], 0.5 / share[0])
        np.testing.assert_allclose(middle, expected, rtol=1e-5)
        np.testing.assert_array_equal(labels[i, 12:52, 10:54], samples[number].label)


def test_weights_are_deformed_with_the_mask():
    """The weights of the samples are their labels: whatever happens to both, they stay the same."""
    random = np.random.default_rng(2)
    samples = []
    for i in range(4):
        label = random.integers(0, 5, (40, 44), dtype=np.uint8)
        samples.append(Sample(f"s{i}", label[..., None], label, weights=label.astype(np.float32)))
    flags = {"elastic": 5.0, "rotation": 20.0, "scaling": 0.2, "shear": 10.0, "classes": 5, "loss": "cross_entropy"}
    config = resolve(flags=WEIGHTED | flags)
    balance = class_balance(class_frequencies(samples, 5))
    for _, labels, weights, _ in TrainingBatches(samples, config).of_epoch(1):
        np.testing.assert_allclose(weights, labels.numpy() + balance[labels.numpy()], rtol=1e-6)
    settings, batch = one_batch(config, samples)
    for sample in batch:
        np.testing.assert_array_equal(sample.weights, sample.label)
    assert len(next(TrainingBatches(batch, settings).of_epoch(1))) == 4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_deformed_batches_from_files_are_those_from_memory(tmp_path, interpolation):
    write_pairs(tmp_path, *two_objects())
    flags = {"elastic": 10.0, "rotation": 30.0, "scaling": 0.2, "shear": 10.0, "interpolation": interpolation}
    config = resolve(flags=WEIGHTED | flags)
    expected, fingerprint = gathered(tmp_path, lambda sample: sample)
    with storage.on_disk(tmp_path / "run") as keep:
        samples, same = gathered(tmp_path, keep)
        assert same == fingerprint and isinstance(samples[0].weights, np.memmap)
        assert len(list((tmp_path / "run" / "decoded").iterdir())) == 16
        of_both = [TrainingBatches(kept, config) for kept in (expected, samples)]
        for epoch, first in ((1, 0), (2, 1)):
            batches = [list(of_one.of_epoch(epoch, first)) for of_one in of_both]
            assert len(batches[0]) == 2 - first
            for one, other in zip(*batches, strict=True):
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_array_equal(a, b)
    whole = list(of_both[0].of_epoch(2))
    for a, b in zip(whole[1], batches[0][0], strict=True):  # begun within the epoch
        np.testing.assert_array_equal(a, b)


def test_memory_and_fingerprint_know_the_weights(tmp_path):
    write_pairs(tmp_path, *two_objects())
    plain = gathered(tmp_path, lambda sample: sample, weight_map=False)
    weighted, wide = (gathered(tmp_path, lambda s: s, weight_map_sigma=sigma) for sigma in (5.0, 6.0))
    assert len({plain[1], weighted[1], wide[1]}) == 3
    assert plain[0][0].weights is None
    assert storage.bytes_of(weighted[0][0]) == (1 + 1 + 1 + 4) * 1760


def test_instance_labels_say_what_the_objects_are(tmp_path):
    """Two touching halves of one component: a border that only instance labels know, which the network learns."""
    mask = np.full((8, 10), 255, np.uint8)
    write_pairs(tmp_path, (mask, mask), (mask, mask))
    assert not gathered(tmp_path, lambda s: s)[0][0].weights.any()
    (tmp_path / "instances").mkdir()
    for stem in "ab":
        write_image(tmp_path / "instances" / f"{stem}.png", np.repeat([[1] * 5 + [2] * 5], 8, 0).astype(np.uint8))
    sample, _ = gathered(tmp_path, lambda s: s)[0]
    parted = np.repeat([[1, 1, 1, 1, 0, 0, 1, 1, 1, 1]], 8, 0)
    np.testing.assert_array_equal(sample.target, parted)
    assert sample.label.all()  # what is scored
    assert_map(sample.weights, separation(np.where(np.arange(10) < 5, 1, 2) * parted, 10.0, 5.0))
    assert sample.weights[0, 4] == pytest.approx(10 * math.exp(-9 / 50))
    for training in (sample, storage.StoredSample(sample, tmp_path, "a")):
        _, target, weights = training.window(np.arange(2, 5), np.arange(3, 7))
        np.testing.assert_array_equal(target, parted[:3, 3:7])
        np.testing.assert_array_equal(weights, sample.weights[:3, 3:7])
    (tmp_path / "instances" / "b.png").unlink()
    write_image(tmp_path / "instances" / "b.png", np.ones((8, 9), np.uint8))
    with pytest.raises(UserError) as caught:
        gathered(tmp_path, lambda s: s)
    sentence(caught, tmp_path / "images" / "b.png", "8x10", tmp_path / "instances" / "b.png", "8x9")


def test_training_streamed_and_resumed_is_the_same_training(phantoms, tmp_path):
    """With every deformation and weight maps: from memory, and in two halves from files."""
    flags = ["--data", str(phantoms), *TINY, "--weight-map", "--elastic", "3", "--rotation", "10", "--shear", "5"]
    flags += ["--scaling", "0.1", "--schedule", "constant"]
    rows = {}
    for name, more in (("memory", []), ("halves", ["--stream", "--epochs", "1"])):
        assert main(["--run", str(tmp_path / name), *flags, *more]) == 0
        if name == "halves":
            assert main(["--run", str(tmp_path / name), "--resume", "--epochs", "2"]) == 0
        with (tmp_path / name / "history.csv").open() as file:
            rows[name] = [
                {key: value for key, value in row.items() if "second" not in key} for row in csv.DictReader(file)
            ]
    assert len(rows["memory"]) == 2 and rows["memory"] == rows["halves"]


def test_pixels_without_a_label_have_no_border_no_weight_and_no_part_in_the_balance(tmp_path):
    """Two objects touch in the labelled upper half; in the lower half nobody knows."""
    label = np.zeros((16, 16), np.uint8)
    label[4:, 2:13] = 1
    label[8:] = 254
    numbers = np.where(np.arange(16) < 8, 1, 2) * (label > 0)
    write_pairs(tmp_path, (label, label))
    (tmp_path / "instances").mkdir()
    write_image(tmp_path / "instances" / "a.png", numbers.astype(np.uint8))
    (sample,), _ = gathered(tmp_path, lambda sample: sample, ignore_value=[254])
    expected = np.where(label == 254, IGNORED, label)
    expected[4:8, 7:9] = 0  # the border
    np.testing.assert_array_equal(sample.target, expected)
    config = resolve(flags=WEIGHTED | {"augment": False, "batch_size": 1, "ignore_value": [254]})
    ((_, labels, weights, _),) = TrainingBatches([sample], config).of_epoch(1)
    np.testing.assert_array_equal(labels[0], expected)
    np.testing.assert_allclose(class_frequencies([sample], 1), [84 / 128, 44 / 128])
    np.testing.assert_allclose(weights[0][:4, 0] - sample.weights[:4, 0], 128 / 84 / 2, rtol=1e-6)
    assert not weights[0][8:].numpy().any()
