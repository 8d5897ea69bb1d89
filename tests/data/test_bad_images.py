"""Files that are no usable images: one sentence, and from the commands exit code 2; nothing changed."""

import contextlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import on_disk, refused
from PIL import Image
from refusals import SHADES as GRAY
from refusals import refuses, to_predict, to_train, two_pairs

from unet_lowlevel import run_folder
from unet_lowlevel.cli import evaluate, predict, train
from unet_lowlevel.config import Config, DataConfig
from unet_lowlevel.data import splits
from unet_lowlevel.data.formats.writing import make_output
from unet_lowlevel.inference import evaluation, folders, predictor  # noqa: F401  (before privileges are dropped)
from unet_lowlevel.settings import resolve

STEM = "patient-000_slice-00"
KINDS = ("png", "jpg", "bmp", "gif", "tif")


def encoded(kind: str, array: np.ndarray = GRAY) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    if kind == "tif":
        tifffile.imwrite(buffer, array)
    else:
        Image.fromarray(array).save(buffer, {"jpg": "JPEG"}.get(kind, kind))
    return buffer.getvalue()


def zero_sized(kind: str) -> bytes:
    """An image file whose header says that it is 0 pixels wide."""
    data = bytearray(encoded(kind))
    if kind == "png":
        data[16:20] = bytes(4)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "bmp":
        data[18:22] = bytes(4)
    elif kind == "gif":
        data[6:8] = bytes(2)
        place = data.index(b"\x2c\0\0\0\0\x20\0")
        data[place + 5 : place + 7] = bytes(2)
    elif kind == "jpg":
        place = data.index(b"\xff\xc0")
        data[place + 7 : place + 9] = bytes(2)
    else:
        width = rb"\x00\x01[\x03\x04]\x00\x01\x00\x00\x00\x20\x00\x00\x00"  # tag, kind, number and value
        place = re.search(width, data).start()
        data[place + 8 : place + 12] = bytes(4)
    return bytes(data)


FAULTS = {
    "truncated": lambda kind: encoded(kind)[: 2 * len(encoded(kind)) // 3],
    "header only": lambda kind: encoded(kind)[:20],
    "empty": lambda kind: b"",
    "a text": lambda kind: b"%PDF-1.7 or whatever else was given this name",
    "0 pixels wide": zero_sized,
}
BROKEN = [(fault, kind) for fault in FAULTS for kind in KINDS]


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """A current folder with two good pairs in data/."""
    monkeypatch.chdir(tmp_path)
    return two_pairs(tmp_path)


def put(place, kind: str, suffix: str, content, stem: str = "a") -> str:
    """Replaces a file of data/images or data/masks by one with `content`, an array as TIFF; returns its name."""
    path = place / "data" / kind / f"{stem}.{suffix}"
    path.with_suffix(".png").unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        channels = {2: {"planarconfig": "contig"}, 3: {"photometric": "rgb"}}.get(content.shape[-1], {})
        tifffile.imwrite(path, content, **{"photometric": "minisblack"} | channels)
    return path.name


def test_the_data_that_is_broken_below_is_good(pairs):
    assert [sample.image.shape for sample in to_train()] == [(32, 32, 1)] * 2
    assert [image.shape for image in to_predict("data/images")] == [(32, 32, 1)] * 2


@pytest.mark.parametrize(("fault", "suffix"), BROKEN)
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_broken_files_to_train_on(kind, fault, suffix, pairs):
    name = put(pairs, kind, suffix, FAULTS[fault](suffix))
    refuses(to_train, [name, "replace it"], pairs)


@pytest.mark.parametrize(("fault", "suffix"), BROKEN)
def test_broken_files_to_predict(fault, suffix, pairs):
    (pairs / f"new.{suffix}").write_bytes(FAULTS[fault](suffix))
    refuses(lambda: to_predict(f"new.{suffix}"), [f"new.{suffix}", "replace it"], pairs)


TRAIN = (train, "--data data")
PREDICT = (predict, "--run run --images data/images/{name} --output out")
EVALUATE = (evaluate, "--run run --data data --split all --output out")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    ("command", "flags", "kind"),
    [(*TRAIN, "images"), (*TRAIN, "masks"), (*PREDICT, "images"), (*EVALUATE, "images"), (*EVALUATE, "masks")],
    ids=["train", "train, mask", "predict", "evaluate", "evaluate, mask"],
)
def test_broken_files_from_the_command_line(command, flags, kind, suffix, place, capfd):
    name = put(place, kind, suffix, FAULTS["truncated"](suffix), STEM)
    refused(command, flags.format(name=name).split(), [name, "replace it"], place, capfd)


FLOAT = GRAY.astype(np.float32)
MASK = GRAY > 99


def with_pixel(value, array=FLOAT):
    array = array.copy()
    array[3, 4] = value
    return array


BAD_VALUES = [
    ("NaN", "images", with_pixel(np.nan), ["1 values", "NaN"]),
    ("infinity", "images", with_pixel(np.inf), ["1 values", "infinite"]),
    ("minus infinity", "images", with_pixel(-np.inf), ["1 values", "infinite"]),
    ("NaN only", "images", FLOAT * np.nan, ["1024 values", "NaN"]),
    ("beyond float32", "images", with_pixel(1e300, FLOAT.astype(np.float64)), ["1 values", "infinite in float32"]),
    ("beyond 24 bits", "images", with_pixel(2**24 + 1, GRAY.astype(np.int32)), ["int32", "save it as uint16"]),
    ("64 bits", "images", with_pixel(-(2**63), GRAY.astype(np.int64)), ["int64", "save it as uint16"]),
    ("complex", "images", FLOAT.astype(np.complex64), ["complex64"]),
    ("two channels", "images", np.stack([GRAY] * 2, -1), ["channels", "--channels gray"]),
    ("colours", "images", np.stack([GRAY] * 3, -1), ["1 with 1", "1 with 3", "--channels gray"]),
    ("stack among images", "images", np.stack([GRAY] * 4), ["(slice 0)", "no mask"]),
    ("other height", "images", GRAY[:31], ["31x32", "32x32"]),
    ("NaN", "masks", with_pixel(np.nan, MASK.astype(np.float32)), ["1 values", "NaN"]),
    ("negative", "masks", -MASK.astype(np.int16), ["-1", "0 and 255"]),
    ("fractions", "masks", MASK.astype(np.float32) / 2, ["0.5", "0 and 255"]),
    ("constant", "masks", np.full_like(GRAY, 7), ["7", "0 and 255"]),
    ("12 bits", "masks", MASK.astype(np.uint16) * 4095, ["4095", "0 and 255"]),
    ("gray edges", "masks", GRAY, ["distinct values", "nearest neighbour"]),
    ("colours", "masks", np.stack([GRAY, GRAY.T, GRAY], -1), ["distinct colours", "--mask-colors"]),
    ("turned", "masks", np.zeros((64, 16), np.uint8), ["32x32", "64x16"]),
]


@pytest.mark.parametrize(
    ("kind", "array", "words"), [row[1:] for row in BAD_VALUES], ids=[row[0] for row in BAD_VALUES]
)
def test_values_that_mean_nothing(kind, array, words, pairs):
    put(pairs, kind, "tif", array)
    refuses(to_train, ["a.tif", *words], pairs)


def animation() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GRAY).save(buffer, "gif", save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    return buffer.getvalue()


BAD_NAMES = {
    "newline": ("a\nb.png", [r"a\nb.png", "rename it"]),
    "escape": ("a\x1b[2Jb.png", ["x1b", "rename it"]),
    "no UTF-8": (os.fsdecode(b"a\xff.png"), ["udcff", "rename it"]),
    "turns the line around": ("a\u202egnp.png", ["u202e", "rename it"]),
    "one stem twice": (f"{STEM}.TIF", [f"{STEM}.png", f"{STEM}.TIF", "one file for each stem"]),
    "another case": (f"{STEM.upper()}.png", [STEM.upper(), "no mask"]),
}


@pytest.mark.parametrize(("name", "words"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_bad_names(name, words, place, capfd):
    (place / "data" / "images" / name).write_bytes(encoded("png"))
    refused(train, ["--data", "data"], words, place, capfd)
    if "rename it" in words:
        (place / "new").mkdir()
        (place / "data" / "images" / name).rename(place / "new" / name)
        refused(predict, ["--run", "run", "--images", "new", "--output", "out"], words, place, capfd)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("target", ["itself", "nowhere", "pipe"])
def test_links_and_pipes_are_no_images(target, suffix, pairs):
    os.mkfifo(pairs / "pipe")
    path = pairs / "data" / "images" / f"a.{suffix}"
    path.with_suffix(".png").unlink()
    path.symlink_to(path.name if target == "itself" else pairs / target)
    refuses(to_train, [path.name, "not readable as an image"], pairs)
    words = [path.name, "not readable as an image" if target == "pipe" else "does not exist"]
    refuses(lambda: to_predict(str(path)), words, pairs)


def loop(place):
    (place / "loop").symlink_to("loop")


def new_run(name: str):
    """Makes a run folder as a training does."""
    with run_folder.taken(Path(name)):
        run_folder.create(Path(name), Config(), ["a"], ["b"], "")


STEMS = ["a", "b"]
PLACES = [
    ("data", lambda: to_train("loop"), ["--data loop is not a folder"]),
    ("images", lambda: to_train("", images="loop", masks="data/masks"), ["loop", "name a folder"]),
    ("run", lambda: new_run("loop/run"), ["loop/run", "Too many levels"]),
    ("resumed run", lambda: run_folder.read(Path("loop")), ["--run loop does not exist"]),
    ("config", lambda: resolve(file="loop"), ["loop is not readable", "Too many levels"]),
    (
        "list",
        lambda: splits.split(STEMS, DataConfig(validation_list="loop"), 0),
        ["--validation-list loop", "Too many"],
    ),
    ("images to predict", lambda: to_predict("loop"), ["--images loop does not exist"]),
    ("output", lambda: make_output(Path("loop")), ["--output loop cannot be made"]),
]


@pytest.mark.parametrize(("work", "words"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_loops(work, words, pairs):
    loop(pairs)
    refuses(work, words, pairs)


def test_masks_in_masks(pairs):
    (pairs / "data" / "masks" / "again").symlink_to(".")
    refuses(to_train, ["no image in data/images for"], pairs)


def test_a_folder_called_image(pairs):
    (pairs / "new.png").mkdir()
    refuses(lambda: to_predict("new.png"), ["new.png holds no image"], pairs)


def test_animations(pairs):
    (pairs / "new.gif").write_bytes(animation())
    refuses(lambda: to_predict("new.gif"), ["new.gif", "2 pages"], pairs)


# Some of the same, and what is only found out as the system refuses it, which the door makes a sentence of.
DOORS = [
    ("data is a loop", train, loop, "--data loop", ["--data loop is not a folder"]),
    ("resumed run is a loop", train, loop, "--resume --run loop", ["--run loop does not exist"]),
    ("into a loop", predict, loop, "--run run --images data/images --output loop", ["--output loop cannot be made"]),
    ("evaluate into a loop", evaluate, loop, "--run run --data data --output loop", ["loop", "cannot be used"]),
    ("name too long", predict, None, f"--run run --images {'a' * 300}.png --output out", ["aaa", "too long"]),
    ("output too long", predict, None, f"--run run --images data/images --output {'a' * 300}", ["aaa", "too long"]),
    ("run too long", train, None, f"--data data --run {'a' * 300}", ["aaa", "too long"]),
    ("leading dash", predict, None, "--run run --images -a.png --output out", ["--images", "see --help"]),
    ("no UTF-8", train, None, os.fsdecode(b"--data \xff"), ["udcff", "rename"]),
    ("no UTF-8", predict, None, os.fsdecode(b"--run run --images data/images --output \xff"), ["udcff", "rename"]),
    (
        "a pipe",
        predict,
        lambda p: os.mkfifo(p / "new.png"),
        "--run run --images new.png --output out",
        ["new.png", "not readable as an image"],
    ),
]


@pytest.mark.parametrize(
    ("command", "prepare", "flags", "words"), [row[1:] for row in DOORS], ids=[row[0] for row in DOORS]
)
def test_places_that_lead_nowhere_from_the_command_line(command, prepare, flags, words, place, capfd):
    if prepare:
        prepare(place)
    refused(command, flags.split(), words, place, capfd)


@contextlib.contextmanager
def nobody():
    """Without root's right to read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextlib.contextmanager
def lock(place, locked: str):
    """Nobody may look into `locked`, or, where that is the current folder, write there, which else everybody may."""
    Image.init()
    place.chmod(0o777)  # the folders above may be closed: the current one can be entered all the same
    (place / locked).chmod(0o555 if locked == "." else 0)
    try:
        with nobody():
            yield
    finally:
        (place / locked).chmod(0o755)


IMAGE = f"data/images/{STEM}.png"
LOCKED = [
    ("image", IMAGE, to_train, [f"{STEM}.png", "Permission denied"]),
    ("mask", f"data/masks/{STEM}.png", to_train, [f"{STEM}.png", "Permission denied"]),
    ("images", "data/images", to_train, ["data/images", "Permission denied"]),
    ("masks", "data/masks", to_train, ["data/masks", "Permission denied"]),
    ("config", "run/config.json", lambda: resolve(file="run/config.json"), ["run/config.json", "Permission denied"]),
    ("list", "run/split.json", lambda: splits.split(STEMS, DataConfig(validation_list="run/split.json"), 0),
     ["split.json", "Permission"]),
    ("place of the run", ".", lambda: new_run("new"), ["new", "Permission denied"]),
    ("split", "run/split.json", lambda: run_folder.read(Path("run")), ["run/split.json", "Permission denied"]),
    ("image to predict", IMAGE, lambda: to_predict(IMAGE), [STEM, "Permission denied"]),
    ("place of the masks", ".", lambda: make_output(Path("out")), ["--output out cannot be made", "Permission denied"]),
]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("locked", "work", "words"), [row[1:] for row in LOCKED], ids=[row[0] for row in LOCKED])
def test_what_may_not_be_read_or_written(locked, work, words, place):
    def work_of_nobody():
        with lock(place, locked):
            work()

    refuses(work_of_nobody, words, place)


PREDICTION = "--run run --images data/images --output out"
LOCKED_DOORS = [
    ("image", train, IMAGE, "--data data", [f"{STEM}.png", "Permission denied"]),
    ("data", train, "data", "--data data", ["data/images", "Permission denied"]),
    ("config", train, "run/config.json", "--config run/config.json", ["run/config.json", "Permission denied"]),
    ("run", predict, "run", PREDICTION, ["run/config.json", "Permission denied"]),
    ("weights", predict, "run/best", PREDICTION, ["run/best/checkpoint", "Permission denied"]),
    ("images to predict", predict, "data/images", PREDICTION, ["data/images", "Permission denied"]),
    ("place of the masks", predict, ".", PREDICTION, ["--output out cannot be made", "Permission denied"]),
    ("place of the scores", evaluate, ".", "--run run --data data --output out", ["out", "Permission denied"]),
]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(
    ("command", "locked", "flags", "words"), [row[1:] for row in LOCKED_DOORS], ids=[row[0] for row in LOCKED_DOORS]
)
def test_what_may_not_be_read_or_written_from_the_command_line(command, locked, flags, words, place, capfd):
    before = on_disk(place)
    with lock(place, locked):
        code = command.main(flags.split())
    output, error = capfd.readouterr()
    assert (code, output, error.count("\n")) == (2, "", 1) and error.startswith("error: ") and error[-2] in ".?"
    for word in words:
        assert word in error
    assert on_disk(place) == before
