"""Input that is strange but legal: it is trained on and predicted, and the masks have its names and sizes."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.data.files import read_image

RANDOM = np.random.default_rng(0)
SMALL = ["--threshold", "0.1", "--epochs", "1", "--base-channels", "2", "--convolutions-per-block", "1"]


def gray(*size):
    return RANDOM.integers(0, 256, size, dtype=np.uint8)


# The name of the file, what it holds, and the format where the name says another.
IMAGES = [
    ("1x1.png", gray(1, 1), None),
    ("1x1_of_16_bits.tif", np.array([[65535]], np.uint16), None),
    ("1x10000.png", gray(1, 10000), None),
    ("10000x1.bmp", gray(10000, 1), None),
    ("2x3.gif", gray(2, 3), None),
    ("constant.png", np.full((20, 30), 7, np.uint8), None),
    ("black.jpg", np.zeros((20, 30), np.uint8), None),
    ("white.tif", np.full((20, 30), 65535, np.uint16), None),
    ("negative.tif", gray(20, 30).astype(np.int16) - 1000, None),
    ("tiny values.tif", gray(20, 30) * np.float32(1e-30), None),
    ("huge values.tif", gray(20, 30) * np.float32(1e34), None),
    ("one bright pixel.tif", np.eye(1, 600, 7, dtype=np.float32).reshape(20, 30) * np.float32(3e38), None),
    ("bits.png", gray(20, 30) > 99, None),
    ("UPPER.PNG", gray(20, 30), None),
    ("Mixed.TiFf", gray(20, 30), None),
    ("upper.JPEG", gray(20, 30), None),
    ("png_called.jpg", gray(20, 30), "PNG"),
    ("jpeg_called.tif", gray(20, 30), "JPEG"),
    ("bmp_called.gif", gray(20, 30), "BMP"),
    ("  name with  spaces .png", gray(20, 30), None),
    ("-leading-dash.png", gray(20, 30), None),
    ("--output.png", gray(20, 30), None),
    ("two.dots..and.more.png", gray(20, 30), None),
    ("$(touch owned);&|'\"%s{}.png", gray(20, 30), None),
    ("Lungenflügel_肺_🫁.png", gray(20, 30), None),
    ("decomposed_u\u0308.png", gray(20, 30), None),
    ("a" * 200 + ".png", gray(20, 30), None),
]
IDS = [name if len(name) < 100 else "long" for name, *_ in IMAGES]


def stem(name):
    return name.rpartition(".")[0].replace("u\u0308", "ü")


def write(folder, name, array, form):
    folder.mkdir(parents=True, exist_ok=True)
    if form is None and name.lower().endswith((".tif", ".tiff")):
        tifffile.imwrite(folder / name, array)
    else:
        Image.fromarray(array).save(folder / name, form)


@pytest.fixture(scope="module")
def predicted(tiny_run, tmp_path_factory):
    """The folder of what is predicted of all of them."""
    place = tmp_path_factory.mktemp("strange")
    for image in IMAGES:
        write(place / "images", *image)
    assert predict(["--run", str(tiny_run), "--images", str(place / "images"), "--output", str(place / "out")]) == 0
    return place


@pytest.mark.parametrize(("name", "array", "form"), IMAGES, ids=IDS)
def test_masks_have_the_name_and_the_size(name, array, form, predicted):
    mask = read_image(predicted / "out" / f"{stem(name)}.png")
    assert mask.shape == (*array.shape, 1) and mask.dtype == np.uint8
    assert np.isin(mask, (0, 255)).all()


def test_nothing_else_is_written(predicted):
    assert len(list((predicted / "out").iterdir())) == len(IMAGES)
    assert sorted(path.name for path in predicted.iterdir()) == ["images", "out"]


@pytest.mark.parametrize("name", ["-leading-dash.png", "--output.png"])
def test_files_that_look_like_flags_are_named_from_their_folder(name, tiny_run, tmp_path, monkeypatch):
    write(tmp_path, name, gray(20, 30), None)
    monkeypatch.chdir(tmp_path)
    assert predict(["--run", str(tiny_run), "--images", f"./{name}", "--output=-out"]) == 0
    assert [path.name for path in (tmp_path / "-out").iterdir()] == [name]


def test_strange_names_of_folders(phantoms, tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ü \n$x"
    folder.symlink_to(phantoms)
    flags = ["--run", str(tiny_run), "--images", str(folder / "images"), "--output", "my masks\n肺"]
    assert predict(flags) == 0
    assert len(list((tmp_path / "my masks\n肺").iterdir())) == 12
    assert train(["--data", folder.name, "--run=-my run\n", *SMALL, "--depth=2", "--pictures=0"]) == 0
    assert evaluate(["--run=-my run\n", "--output", "ü"]) == 0


@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["memory", "stream"])
def test_all_of_them_are_trained_on(stream, tmp_path, capsys):
    for name, array, form in IMAGES:
        write(tmp_path / "data" / "images", name, array, form)
        mask = (np.arange(array.size).reshape(array.shape) % 3 == 0).astype(np.uint8) * 255
        write(tmp_path / "data" / "masks", f"{stem(name)}.PNG", mask, None)
    flags = ["--data", str(tmp_path / "data"), "--run", str(tmp_path / "run"), "--crop-size", "32", *SMALL]
    assert train([*flags, "--depth", "3", "--batch-size", "5", *stream]) == 0
    flags = ["--run", str(tmp_path / "run"), "--split", "all", "--output", str(tmp_path / "scores"), "--pictures", "3"]
    assert evaluate(flags) == 0
    assert len((tmp_path / "scores" / "per_image.csv").read_text().splitlines()) >= 1 + len(IMAGES)


@pytest.mark.parametrize("size", [(1, 1), (1, 10000), (3, 2)])
def test_networks_of_images_of_one_strange_size(size, tmp_path, capsys):
    for name in "abc":
        write(tmp_path / "images", f"{name}.png", gray(*size), None)
        write(tmp_path / "masks", f"{name}.png", np.full(size, 255 * (name == "a"), np.uint8), None)
    flags = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), *SMALL]
    assert train([*flags, "--depth", "3", "--pictures", "1"]) == 0
    flags = ["--run", str(tmp_path / "run"), "--images", str(tmp_path / "images"), "--output", str(tmp_path / "out")]
    assert predict([*flags, "--overlays", "--probabilities"]) == 0
    assert read_image(tmp_path / "out" / "a_probability.png").shape == (*size, 1)
