"""Trained networks that predict: files and arrays, one network or the mean of several, fast or plain."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from conftest import sentence
from PIL import Image
from untrained import untrained_run

import unet_lowlevel
from unet_lowlevel import run_folder
from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.config import DataConfig
from unet_lowlevel.core.fast import FoldedUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data import resolution, samples
from unet_lowlevel.data.files import list_images, read_image
from unet_lowlevel.data.resolution import resized_image, resized_values, working_size
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import predictor as predictor_module
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.separation import Separation, write_separation
from unet_lowlevel.training.checkpoints import Series, by_name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three that differ in all that runs of one data may differ in."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        untrained_run(folder / "first", seed=1, threshold=0.3, validation=("b", "c")),
        untrained_run(folder / "deeper", seed=2, depth=4, normalization="minmax", validation=("c", "d")),
        untrained_run(folder / "valid", seed=3, depth=2, padding="valid", threshold=0.9, validation=("c",)),
    ]


@pytest.fixture(scope="module")
def alone(runs):
    """Each of them, loaded alone."""
    return [load(run) for run in runs]


@pytest.fixture(scope="module")
def together(runs):
    """All of them in one."""
    return load(runs)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (70, 41, 1), dtype=np.uint8)


def by_hand(alone, image):
    return np.mean([predictor.probabilities(image) for predictor in alone], 0)


# Files and arrays.


KINDS = ("uint8", "uint16", "float64", "bool")


def pixels_of(kind, channels):
    """An image of numbers of this kind [H, W, C], of a size that no other kind has."""
    size = 30 + 2 * KINDS.index(kind), 41
    pixels = np.random.default_rng(0).integers(0, {"uint16": 60000, "bool": 2}.get(kind, 256), (*size, channels))
    # Fractions that float32 has, too: as such they are read from a file.
    return (pixels / 8 - 7).astype(kind) if kind == "float64" else pixels.astype(kind)


def write(pixels, path):
    """Writes the image as its kind of number is written, and returns where."""
    gray, pixels = pixels.shape[2] == 1, np.squeeze(pixels)
    if pixels.dtype == np.float64 or (pixels.dtype == np.uint16 and not gray):
        path = path.with_suffix(".tif")
        tifffile.imwrite(path, pixels, photometric="minisblack" if gray else "rgb")
    else:
        path = path.with_suffix(".png")
        if pixels.dtype == bool and not gray:  # a file has one bit for a pixel, or numbers
            pixels = pixels.astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module", params=["gray", "colour"])
def predicted(request, tmp_path_factory):
    """A run, files of all kinds for it, and what the command has written of them."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = {"threshold": 0.45} if request.param == "gray" else {"in_channels": 3, "classes": 3}
    run = untrained_run(folder / "run", **flags)
    write_separation(run, Separation(0.4, 0.6, 3) if request.param == "gray" else Separation(0.3, 0.4, 3))
    channels = flags.get("in_channels", 1)
    files = {kind: write(pixels_of(kind, channels), folder / kind) for kind in KINDS}
    flags = ["--images", *map(str, files.values()), "--output", str(folder / "out"), "--probabilities", "--instances"]
    assert predict(["--run", str(run), *flags]) == 0
    return run, files, folder / "out"


@pytest.fixture(scope="module")
def predictor(predicted):
    return unet_lowlevel.load(predicted[0])


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_arrays_give_what_the_command_writes(kind, predicted, predictor):
    _, files, output = predicted
    classes, pixels = predictor.config.model.classes, pixels_of(kind, predictor.config.model.in_channels)
    expected = {
        path.name: read_image(path)[..., 0] for path in output.glob(f"{kind}*.png") if "colour" not in path.name
    }
    assert len(expected) == 2 + classes
    images = [str(files[kind]), files[kind], pixels, *([pixels[..., 0]] if pixels.shape[-1] == 1 else [])]
    images += [pixels.tolist(), np.asfortranarray(pixels)]
    for image in images:
        found = predictor.predict(image)
        assert found.mask.dtype == np.uint8 and found.mask.shape == pixels.shape[:2]
        np.testing.assert_array_equal(found.mask * (255 if classes == 1 else 1), expected[f"{kind}.png"])
        assert found.probabilities.dtype == np.float32 and found.probabilities.shape == (*found.mask.shape, classes)
        for k in range(classes):
            written = expected[f"{kind}_probability.png" if classes == 1 else f"{kind}_probability_{k}.png"]
            np.testing.assert_array_equal(np.rint(found.probabilities[..., k] * 65535), written)
        instances = found.instances()
        assert instances.dtype == np.int32 and instances.max() > 1
        np.testing.assert_array_equal(instances, expected[f"{kind}_instances.png"])
    assert 0 < np.count_nonzero(found.mask) < found.mask.size


@pytest.mark.parametrize("average", ["none", "flips", "rotations"])
def test_the_kind_of_numbers_does_not_matter(average, runs):
    predictor = load(runs[0], average=average)
    pixels = np.random.default_rng(0).integers(0, 100, (20, 21))
    expected = predictor.predict(pixels.astype(np.uint8)).probabilities
    for kind in ("float16", "float32", "float64", "longdouble", "int8", "int16", "int64", "uint64", ">u2", ">f4"):
        np.testing.assert_array_equal(predictor.predict(pixels.astype(kind)).probabilities, expected, err_msg=kind)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros(5), ["shape (5,)", "[H, W] or [H, W, C]"]),
        (np.zeros((1, 4, 5, 1)), ["shape (1, 4, 5, 1)", "one image"]),
        (np.zeros((0, 5)), ["shape (0, 5)"]),
        (np.zeros((4, 5, 0)), ["shape (4, 5, 0)"]),
        ([], ["shape (0,)"]),
        (7, ["shape ()"]),
        (None, ["NoneType", "file's name or an array of numbers"]),
        (object(), ["image is object"]),
        (np.full((4, 5), None), ["of object"]),
        (np.full((4, 5), "x"), ["<U1"]),
        (b"image.png", ["|S9"]),
        (np.zeros((4, 5), complex), ["complex128"]),
        (np.zeros((4, 5), "datetime64[s]"), ["datetime64"]),
        (np.full((4, 5), np.nan), ["NaN"]),
        (np.array([[0, -np.inf]]), ["infinite"]),
        (np.zeros((4, 5, 2), np.uint8), ["image has 2 channels", "trained on 1", "convert"]),
        (np.zeros((4, 5, 3), bool), ["image has 3 channels"]),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(image, words, alone):
    with pytest.raises(ValueError) as caught:
        alone[0].predict(image)
    sentence(caught, *words)


def test_gray_images_are_not_those_of_a_network_of_colours(predictor):
    channels = predictor.config.model.in_channels
    with pytest.raises(ValueError) as caught:
        predictor.predict(np.zeros((4, 5, 4 - channels), np.uint8))
    sentence(caught, f"image has {4 - channels} channels", f"trained on {channels}")
    if channels == 3:
        with pytest.raises(ValueError) as caught:
            predictor.predict(np.zeros((4, 5)))
        sentence(caught, "image has 1 channels")


def test_files_that_do_not_fit_are_refused_by_name(alone, tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "colour.png")
    for name in (tmp_path / "colour.png", str(tmp_path / "colour.png")):
        with pytest.raises(ValueError) as caught:
            alone[0].predict(name)
        sentence(caught, tmp_path / "colour.png", "3 channels", "trained on 1")
    with pytest.raises(UserError) as caught:
        alone[0].predict(tmp_path / "nothing.png")
    sentence(caught, tmp_path / "nothing.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError) as caught:
        alone[0].predict(str(tmp_path / "torn.png"))
    sentence(caught, "torn.png")


def test_a_predictor_of_networks_without_a_run_has_default_thresholds():
    config = unet_lowlevel.Config.of(in_channels=1, base_channels=2, depth=2)
    predictor = Predictor([UNet(config.model)], [config])
    assert predictor.separation == Separation() and predictor.split == {"training": [], "validation": []}
    assert predictor.predict(np.zeros((5, 6))).instances().shape == (5, 6)


@pytest.mark.parametrize(("threshold", "labels"), [(0.3, [1, 1, 1]), (0.5, [0, 1, 1]), (0.6, [0, 0, 1])])
def test_threshold_of_the_run_decides(threshold, labels):
    config = unet_lowlevel.Config.of(in_channels=1, base_channels=2, depth=2, threshold=threshold)
    predictor = Predictor([UNet(config.model)], [config])
    assert predictor.labels(np.array([[[0.4], [0.5], [0.6]]], np.float32)).tolist() == [labels]


# Loading.


def test_average_is_one_of_three_words(runs):
    for average in ("flip", "Flips", None, True):
        with pytest.raises(ValueError) as caught:
            load(runs[0], average=average)
        sentence(caught, f"average is {average!r}", "none, flips, rotations")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError) as caught:
        load([])
    sentence(caught, "runs is empty")
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    sentence(caught, f"--run {tmp_path}")


@pytest.mark.parametrize("tile_size", [2048, 96])
@pytest.mark.parametrize("which", range(3))
def test_plain_networks_predict_the_same(which, tile_size, runs, alone, image):
    """The book's own network, whole and in tiles, and the one that batch normalization is folded into."""
    plain = load(runs[which], plain=True, tile_size=tile_size)
    assert type(plain.networks[0].model) is UNet and type(alone[which].networks[0].model) is FoldedUNet
    image = np.tile(image, (3, 4, 1))
    assert (len(list(plain.tiles(plain.working_images(image)))) == 1) == (tile_size == 2048)
    expected = alone[which].probabilities(image)
    np.testing.assert_allclose(plain.probabilities(image), expected, rtol=0, atol=1e-5)


def test_plain_predictions_by_the_command(tiny_run, phantoms, tmp_path):
    image = sorted((phantoms / "images").iterdir())[0]
    flags = ["--images", str(image), "--output", str(tmp_path), "--probabilities", "--plain"]
    assert predict(["--run", str(tiny_run), *flags]) == 0
    found = read_image(tmp_path / f"{image.stem}_probability.png")[..., 0] / 65535
    np.testing.assert_allclose(found, load(tiny_run).predict(image).probabilities[..., 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("flags", [{"in_channels": 3}, {"classes": 2}])
def test_networks_of_other_data_are_refused(flags, runs, tmp_path):
    other = untrained_run(tmp_path / "other", **flags)
    with pytest.raises(UserError) as caught:
        load([*runs, other])
    sentence(caught, f"--run {runs[0]}", f"--run {other}", next(iter(flags.values())))


# Several networks.


@pytest.mark.parametrize("tile_size", [2048, 96])
def test_probabilities_are_the_mean_of_the_runs(tile_size, runs, alone, image):
    image = np.tile(image, (3, 4, 1))
    predictor = load(runs, tile_size=tile_size)
    assert (len(list(predictor.tiles(predictor.working_images(image)))) > 1) == (tile_size == 96)
    found = predictor.probabilities(image)
    np.testing.assert_allclose(found, by_hand(alone, image), rtol=0, atol=1e-5)
    assert np.abs(found - alone[0].probabilities(image)).max() > 0.01


def test_a_run_twice_is_the_run(runs, alone, image):
    expected = alone[0].probabilities(image)
    np.testing.assert_allclose(load([runs[0], runs[0]]).probabilities(image), expected, rtol=0, atol=1e-5)


def test_views_of_every_network_are_averaged(runs, image):
    expected = np.mean([load(run, average="flips").probabilities(image) for run in runs], 0)
    np.testing.assert_allclose(load(runs, average="flips").probabilities(image), expected, rtol=0, atol=1e-5)


def test_threshold_of_the_first_decides(runs, together):
    probabilities = np.array([[[0.2], [0.5], [0.95]]], np.float32)
    assert together.labels(probabilities).tolist() == [[0, 1, 1]]
    assert load(runs[::-1]).labels(probabilities).tolist() == [[0, 0, 1]]


def test_held_out_is_what_no_run_has_seen(together, runs):
    assert together.split["validation"] == ["c"]
    seen = {stem for run in runs for stem in json.loads((run / "split.json").read_text())["training"]}
    assert together.split["training"] == sorted(seen) == ["a"]


def test_objects_are_told_from_each_other_as_in_the_first(tmp_path, runs):
    first = untrained_run(tmp_path / "first")
    write_separation(first, Separation(0.2, 0.3, 4))
    assert load([first, runs[0]]).separation == Separation(0.2, 0.3, 4)
    assert load([runs[0], first]).separation == Separation()


def test_equal_normalizations_are_computed_once(together, image, monkeypatch):
    computed = []
    monkeypatch.setattr(
        predictor_module, "normalization", lambda *given: (computed.append(given), samples.normalization(*given))[1]
    )
    (working,) = together.working_images(image)
    first, deeper, valid = working.normalizations
    assert working.pixels is image  # at resolution 1 nothing is copied
    assert first is valid and first != deeper and len(computed) == 2
    assert deeper.scale == float(image.max()) - float(image.min())


def test_predict_takes_several_runs(runs, alone, phantoms, tmp_path):
    names, output = list(map(str, runs)), tmp_path / "out"
    flags = ["--images", str(phantoms / "images"), "--output", str(output), "--probabilities", "--overlays"]
    assert predict(["--run", *names, *flags]) == 0
    for stem, path in list_images(phantoms / "images").items():
        expected = by_hand(alone, read_image(path))
        found = read_image(output / f"{stem}_probability.png")
        np.testing.assert_allclose(found / 65535, expected, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(read_image(output / f"{stem}.png") > 0, found >= 0.3 * 65535)


# Networks that work on shrunk images.


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory):
    """{resolution or image size: run} of the same network."""
    folder = tmp_path_factory.mktemp("shrunk")
    runs = {share: untrained_run(folder / str(share), seed=1, resolution=share) for share in (1.0, 0.5, 0.37)}
    return runs | {48: untrained_run(folder / "48", seed=1, image_size=48)}


@pytest.mark.parametrize("average", ["none", "flips"])
@pytest.mark.parametrize("share", [0.5, 0.37, 48])
def test_the_image_is_resized_and_its_probabilities_back(share, average, shrunk, image):
    size = (48, 48) if share == 48 else working_size(image.shape[:2], DataConfig(resolution=share))
    expected = load(shrunk[1.0], average=average).probabilities(resized_image(image, size))
    expected = resized_values(expected, image.shape[:2])
    found = load(shrunk[share], average=average).predict(image)
    assert found.probabilities.dtype == np.float32 and found.mask.shape == image.shape[:2]
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.mask, found.probabilities[..., 0] >= 0.5)


def test_a_shrunk_image_in_tiles_has_the_same_probabilities(shrunk, image, monkeypatch):
    """In strips of few rows; before them comes an empty part for each tile, so that a signal is heard."""
    image = np.tile(image, (3, 4, 1))
    expected = load(shrunk[0.37]).probabilities(image)
    tiled = load(shrunk[0.37], tile_size=48)
    monkeypatch.setattr(resolution, "STRIP", 10 * image.shape[1])
    parts = [part.shape[:2] for *_, part in tiled.tiles(tiled.working_images(image))]
    assert parts[:-21] == [(0, 0)] * len(parts[:-21]) and len(parts) >= 21 + 4
    assert parts[-21:] == [(10, image.shape[1])] * 21
    np.testing.assert_allclose(tiled.probabilities(image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("average", "tile_size"), [("none", 2048), ("none", 48), ("flips", 2048)])
def test_networks_of_several_sizes_are_averaged_at_the_size_of_the_image(average, tile_size, shrunk, image):
    image = np.tile(image, (2, 3, 1))
    shares = [0.37, 1.0, 0.5, 0.37, 48]
    expected = np.mean([load(shrunk[share], average=average).probabilities(image) for share in shares], 0)
    found = load([shrunk[share] for share in shares], average=average, tile_size=tile_size).probabilities(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_run_from_before_there_were_resolutions_predicts_as_before(shrunk, image, tmp_path):
    run = shutil.copytree(shrunk[1.0], tmp_path / "old")
    settings = json.loads((run / "config.json").read_text())
    del settings["data"]["resolution"]
    (run / "config.json").write_text(json.dumps(settings))
    np.testing.assert_array_equal(load(run).probabilities(image), load(shrunk[1.0]).probabilities(image))


@pytest.fixture
def spoiled(tmp_path):
    """A run whose training diverged, and whose weights were saved all the same."""
    run = untrained_run(tmp_path / "spoiled")
    model = UNet(run_folder.read(run)[0].model)
    model.output.bias.assign([np.nan])
    Series(by_name(model), run / "best", 1).save(1)
    return run


@pytest.mark.parametrize("flags", [{}, {"plain": True}, {"tile_size": 16}, {"average": "flips"}])
def test_probabilities_that_are_nan_are_an_error(flags, spoiled, runs):
    image = np.random.default_rng(0).normal(size=(40, 50))
    for predictor in (load(spoiled, **flags), load([runs[0], spoiled], **flags)):
        with pytest.raises(UserError) as caught:
            predictor.predict(image)
        sentence(caught, f"{spoiled / 'best'} gives probabilities that are NaN", "train anew")


def test_no_command_writes_what_is_nan(spoiled, phantoms, tmp_path, capsys):
    output, run = tmp_path / "output", ["--run", str(spoiled)]
    for main, flags in (
        (predict, ["--images", str(phantoms / "images"), "--probabilities", "--instances"]),
        (evaluate, ["--data", str(phantoms), "--split", "all", "--scores", "instances"]),
    ):
        assert main([*run, *flags, "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{spoiled / 'best'} gives probabilities that are NaN" in error
        assert not output.exists() or not list(output.iterdir())
