"""Averages over views of an image: every view is what it says, and tiles give what the whole image gives."""

import functools
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from skimage.transform import rotate
from untrained import untrained_run

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.config import AugmentationConfig
from unet_lowlevel.data.augmentation import flip_and_turn
from unet_lowlevel.data.files import read_image
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.views import ASIS, FLIPS, ROTATIONS, Rotation, trained_flips

VIEWS = {"flips": FLIPS, "rotations": ROTATIONS}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Loads a network of one of three kinds, with `average` and `tile_size`; every predictor is compiled once."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "same": untrained_run(folder / "same"),
        "valid": untrained_run(folder / "valid", padding="valid", kernel_size=3),
        "classes": untrained_run(folder / "classes", classes=3, in_channels=2, normalization="minmax"),
    }

    @functools.cache
    def loaded(kind, average="none", tile_size=2048):
        return load(runs[kind], average=average, tile_size=tile_size)

    return loaded


def picture(height, width, channels=1):
    """Smooth, so that it survives interpolation, and alike from no two sides."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.21 * y + 0.1 * c) + np.cos(0.17 * x + 0.003 * x * y) for c in range(channels)]
    return np.rint(60 * (np.stack(waves, -1) + 2)).astype(np.uint8)


def by_numpy(image, turns, mirrored):
    return np.rot90(np.flip(image, 1) if mirrored else image, turns)


def back_by_numpy(found, turns, mirrored):
    found = np.rot90(found, -turns)
    return np.flip(found, 1) if mirrored else found


SYMMETRIES = list(itertools.product(range(4), (False, True)))


def test_flips_are_the_eight_symmetries_of_the_square():
    image = picture(5, 7, 2)
    expected = {by_numpy(image, *symmetry).tobytes() for symmetry in SYMMETRIES}
    assert len(expected) == 8 and {view.of(image).tobytes() for view in FLIPS} == expected


@pytest.mark.parametrize("view", FLIPS)
def test_flips_of_a_part_and_back(view):
    image, size = picture(9, 14, 2), (9, 14)
    for rows, columns in [(slice(0, 9), slice(0, 14)), (slice(2, 5), slice(7, 14)), (slice(8, 9), slice(3, 4))]:
        found = view.of(image)[view.part(rows, columns, size)]
        np.testing.assert_array_equal(view.back(found, rows, columns, size), image[rows, columns])


@pytest.mark.parametrize("kind", ["same", "valid", "classes"])
@pytest.mark.parametrize("size", [(24, 24), (33, 50), (1, 7), (30, 21)])
def test_average_over_flips_is_the_mean_of_turned_predictions(kind, size, loaded):
    """The oracle turns images and probabilities with NumPy, and has them predicted one by one."""
    predictor = loaded(kind)
    image = picture(*size, predictor.config.model.in_channels)
    each = [back_by_numpy(predictor.probabilities(by_numpy(image, *s)), *s) for s in SYMMETRIES]
    assert np.ptp(each, axis=0).max() > 1e-3  # the network is not symmetrical already
    found = loaded(kind, "flips").probabilities(image)
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=0, atol=1e-5)


def test_average_over_flips_turns_with_the_image(loaded):
    predictor = loaded("same", "flips")
    image = picture(25, 38)
    found = predictor.probabilities(image)
    for symmetry in SYMMETRIES:
        turned = predictor.probabilities(by_numpy(image, *symmetry))
        np.testing.assert_allclose(back_by_numpy(turned, *symmetry), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize(("kind", "tile_size"), [("same", 80), ("valid", 80), ("classes", 72)])
def test_tiles_average_to_what_the_whole_image_does(views, kind, tile_size, loaded):
    whole, tiled = (loaded(kind, views, size) for size in (2048, tile_size))
    image = picture(131, 117, whole.config.model.in_channels)
    tiles = list(tiled.tiles(tiled.working_images(image)))
    assert len(list(whole.tiles(whole.working_images(image)))) == 1 and len(tiles) > 3
    np.testing.assert_allclose(tiled.probabilities(image), whole.probabilities(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("views", VIEWS)
def test_no_window_is_larger_than_a_tile(views, loaded, monkeypatch):
    predictor, seen = loaded("same", views, 128), []
    network = predictor.networks[0]
    tile = network.tile

    def noted(window, core):
        seen.append(max(window.shape[1:3]))
        return tile(window, core)

    monkeypatch.setattr(network, "tile", noted)
    predictor.probabilities(picture(300, 200))
    assert len(seen) > 4 * len(VIEWS[views]) and max(seen) <= 128 + 4


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_are_exact(turns):
    image, size, view = picture(11, 16, 2), (11, 16), Rotation(turns * math.pi / 2)
    turned = view.of(image)
    expected = np.rot90(image, turns)
    assert turned.shape == expected.shape
    np.testing.assert_allclose(turned[: turned.shape[0], : turned.shape[1]], expected, rtol=0, atol=1e-4)
    rows, columns = slice(2, 9), slice(5, 16)
    found = turned[view.part(rows, columns, size)]
    np.testing.assert_allclose(view.back(found, rows, columns, size), image[rows, columns], rtol=0, atol=1e-4)


def whole_view(view, image):
    turned = view.of(image)
    return turned[: turned.shape[0], : turned.shape[1]]


@pytest.mark.parametrize("view", ROTATIONS[1:])
def test_rotations_keep_the_image_to_its_corners(view):
    """Of a plane, which interpolation keeps; but for the outermost pixels, where the mirrored one begins."""
    size = (40, 57)
    image = (np.add.outer(3 * np.arange(40), 2 * np.arange(57))[..., np.newaxis]).astype(np.uint8)
    found = whole_view(view, image)
    assert found.shape[0] <= 72 and found.shape[1] <= 72
    back = view.back(found, slice(0, 40), slice(0, 57), size)
    np.testing.assert_allclose(back[2:-2, 2:-2], image[2:-2, 2:-2], rtol=0, atol=1e-3)
    assert np.abs(back - image).max() < 5
    for rows, columns in [(slice(0, 3), slice(50, 57)), (slice(13, 40), slice(20, 21))]:
        part = view.of(image)[view.part(rows, columns, size)]
        np.testing.assert_allclose(view.back(part, rows, columns, size), back[rows, columns], rtol=0, atol=1e-4)


def test_rotations_agree_with_scikit_image():
    """Which has its own interpolation, and counts its angles counterclockwise, too; beyond the image it is mirrored."""
    image = picture(43, 43)
    found = whole_view(ROTATIONS[1], image)
    assert found.shape == (61, 61, 1)
    mirrored = np.pad(image[..., 0].astype(float), 40, mode="reflect")
    expected = rotate(mirrored, 360 / 7, order=1, preserve_range=True)[31:92, 31:92]
    np.testing.assert_allclose(found[..., 0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (20, 31)])
@pytest.mark.parametrize("view", ROTATIONS)
def test_a_constant_image_stays_constant(view, size):
    image = np.full((*size, 1), 37, np.uint8)
    found = whole_view(view, image)
    np.testing.assert_allclose(found, 37, rtol=1e-6)
    np.testing.assert_allclose(view.back(found, slice(0, size[0]), slice(0, size[1]), size), 37, rtol=1e-6)


def test_rotation_by_nothing_changes_nothing(loaded):
    image = picture(33, 50)
    np.testing.assert_array_equal(whole_view(ROTATIONS[0], image), image)
    alone = loaded("same")
    rotated = Predictor([alone.networks[0].model], [alone.config], views=[Rotation(0.0)])
    np.testing.assert_allclose(rotated.probabilities(image), alone.probabilities(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["same", "valid", "classes"])
def test_average_over_rotations_is_the_mean_of_rotated_predictions(kind, loaded):
    assert [round(math.degrees(view.angle) * 7) for view in ROTATIONS] == [360 * i for i in range(7)]
    predictor = loaded(kind)
    image = picture(33, 50, predictor.config.model.in_channels)
    (normalize,), total = predictor.working_images(image)[0].normalizations, 0
    for view in ROTATIONS:
        found = predictor.networks[0].of_image(normalize, whole_view(view, image))
        total = total + view.back(found, slice(0, 33), slice(0, 50), (33, 50))
    found = loaded(kind, "rotations").probabilities(image)
    np.testing.assert_allclose(found, total / 7, rtol=0, atol=1e-5)
    assert found.min() >= 0 and found.max() <= 1
    if kind == "classes":
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("views", VIEWS)
def test_predict_averages(views, tiny_run, phantoms, tmp_path):
    paths = sorted((phantoms / "images").iterdir())[:2]
    flags = ["--images", *map(str, paths), "--output", str(tmp_path / "out"), "--probabilities", "--tile-size", "24"]
    assert predict(["--run", str(tiny_run), f"--average-{views}", *flags]) == 0
    predictor = load(tiny_run, average=views)
    for path in paths:
        expected = predictor.probabilities(read_image(path))[..., 0]
        found = read_image(tmp_path / "out" / f"{path.stem}_probability.png")[..., 0]
        np.testing.assert_allclose(found / 65535, expected, rtol=0, atol=2e-5)


def test_one_kind_of_average_at_a_time(tiny_run, phantoms, tmp_path, capsys):
    flags = ["--images", str(phantoms / "images"), "--output", str(tmp_path / "out")]
    assert predict(["--run", str(tiny_run), "--average-flips", "--average-rotations", *flags]) == 2
    error = capsys.readouterr().err
    assert "--average-rotations" in error and "--average-flips" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"flips": False}, {"quarter_turns": False}, {"flips": False, "quarter_turns": False}),
        *({"quarter_turns": False, "flip_axes": axes} for axes in ("left_right", "up_down")),
    ],
)
def test_averages_over_the_views_that_augmentation_makes(changes):
    """As many seeds as show every view: what `flip_and_turn` makes of an image is what the flips make of it."""
    config = AugmentationConfig(**changes)
    image = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    made = {
        flip_and_turn(tf.constant(image), tf.constant(image[..., 0]), config, [seed, 0])[0].numpy().tobytes()
        for seed in range(99)
    }
    assert {flip.of(image).tobytes() for flip in trained_flips(config)} == made


def test_a_run_says_whether_views_are_averaged(tmp_path):
    alone, averaged = (untrained_run(tmp_path / name, average_flips=name == "flips") for name in ("none", "flips"))
    assert load(alone).views == ASIS and load(averaged).views == FLIPS
    assert load([averaged, alone]).views == FLIPS and load([alone, averaged]).views == ASIS
    assert load(averaged, average="none").views == ASIS and load(averaged, average="rotations").views == ROTATIONS


def test_without_augmentation_all_views_are_averaged():
    assert trained_flips(AugmentationConfig(augment=False)) == FLIPS
