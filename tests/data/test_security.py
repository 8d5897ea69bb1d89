"""Files of strangers are data: nothing in them is run, nothing is written outside of --output, and no small file can
take all the memory."""

import ast
import contextlib
import io
import json
import resource
import shutil
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from conftest import on_disk, refused
from PIL import Image
from refusals import refuses, to_predict, to_train, two_pairs

from unet_lowlevel.cli import evaluate, predict, train
from unet_lowlevel.data.files import read_image
from unet_lowlevel.reference.weights import read_keras

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "setup.py", *(path for part in ("unet_lowlevel", "scripts") for path in (ROOT / part).rglob("*.py"))]
predict_by_keras = SimpleNamespace(main=lambda argv: predict.main(argv, by_keras=True))

RUNS_CODE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "runpy", "code", "imp"}
BUILTINS = {"eval", "exec", "compile", "__import__", "execfile"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "unsafe_load", "enable_unsafe_deserialization"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_be_run(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(alias.name for alias in node.names)]
        assert not RUNS_CODE & {part for name in names for part in name.split(".")}, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in SHELLS, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in BUILTINS, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Call):
            words = {word.arg: word.value for word in node.keywords}
            for name in ("allow_pickle", "shell", "safe_mode"):
                assert name not in words, f"{path.name}:{node.lineno}: leave {name} as it is"
            # np.load takes no pickles unless it is told to; torch.load takes them unless it is told not to.
            assert ast.unparse(node.func) not in ("torch.load", "Unpickler"), f"{path.name}:{node.lineno}"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(height: int, width: int, rows: bytes, bits: int = 8) -> bytes:
    """A gray PNG of any claim and content."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """What zlib makes of so many zeros: one piece of it again and again, which takes no time to make."""
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)  # after which nothing before it is known
    rest = packer.compress(bytes(size % 2**20)) + packer.flush()
    return b"\x78\xda" + piece * (size // 2**20) + rest + struct.pack(">HH", size % 65521, 1)  # header, Adler-32


def test_zeros_are_what_zlib_makes_of_them():
    assert zlib.decompress(zeros(3 * 2**20 + 1234)) == bytes(3 * 2**20 + 1234)
    assert zlib.decompress(zeros(99)) == bytes(99)


def tiff(height: int, width: int, *, samples: int = 1, tile: int = 0) -> bytes:
    """A gray TIFF with zlib that claims a size; its one strip or tile holds next to nothing."""
    buffer = io.BytesIO()
    small = np.zeros((16, 16, samples) if samples > 1 else (16, 16), np.uint8)
    options = {"tile": (16, 16)} if tile else {"rowsperstrip": 16}
    tifffile.imwrite(buffer, small, compression="zlib", photometric="minisblack", planarconfig="contig", **options)
    data = bytearray(buffer.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    claims = {256: width, 257: height, 278: height, 322: tile, 323: tile}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, place)
        if claims.get(tag):
            struct.pack_into("<HII", data, place + 2, 4, 1, claims[tag])
    return bytes(data)


def lzw(height: int, width: int) -> bytes:
    """The same with LZW, which Pillow decodes."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(buffer, "tiff", compression="tiff_lzw")
    return buffer.getvalue()


def gif(height: int, width: int, screen: int) -> bytes:
    """A GIF whose screen is small, but whose first picture claims a size."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(buffer, "gif")
    data = bytearray(buffer.getvalue())
    struct.pack_into("<HH", data, 6, screen, screen)
    struct.pack_into("<HH", data, data.index(b"\x2c\0\0\0\0\x10\0\x10\0") + 5, width, height)
    return bytes(data)


def jpeg(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(buffer, "jpeg")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def bmp(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(buffer, "bmp")
    data = bytearray(buffer.getvalue())
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)


BOMBS = {
    "claim.png": (lambda: png(100_000, 100_000, zlib.compress(b"\0" * 9)), "100000x100000"),
    "one_bit.png": (lambda: png(30_000, 30_000, zeros(30_000 * 3751), bits=1), "30000x30000"),
    "gray.png": (lambda: png(30_000, 30_000, zeros(30_000 * 30_001)), "30000x30000"),
    "claim.tif": (lambda: tiff(100_000, 100_000), "100000x100000"),
    "tiles.tif": (lambda: tiff(64, 64, tile=2**20), "1048576x1048576"),
    "channels.tif": (lambda: tiff(20_000, 20_000, samples=50), "50 channels"),
    "claim.gif": (lambda: gif(60_000, 60_000, screen=60_000), "3600 megapixels"),
    "small_screen.gif": (lambda: gif(60_000, 60_000, screen=1), "3600 megapixels"),
    "claim.jpg": (lambda: jpeg(60_000, 60_000), "60000x60000"),
    "claim.bmp": (lambda: bmp(60_000, 60_000), "60000x60000"),
}


@pytest.fixture(scope="module", params=BOMBS)
def bomb(request, tmp_path_factory):
    """A file and what is said of it."""
    content, words = BOMBS[request.param]
    path = tmp_path_factory.mktemp("bombs") / request.param
    path.write_bytes(content())
    assert path.stat().st_size < 2e6
    return path, words


class Peak:
    """How far the memory of this process rises within a `with`."""

    def __enter__(self):
        self.bytes, self.ended = 0, threading.Event()
        self.start, self.thread = self.resident(), threading.Thread(target=self.watch)
        self.thread.start()
        return self

    @staticmethod
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def watch(self):
        while not self.ended.wait(0.002):
            self.bytes = max(self.bytes, self.resident() - self.start)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


on_linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by Linux")


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """A current folder with two good pairs in data/."""
    monkeypatch.chdir(tmp_path)
    return two_pairs(tmp_path)


@contextlib.contextmanager
def in_place_of(stored: Path, path: Path):
    """`path` lies in the place of `stored`, under its own suffix."""
    bomb, kept = stored.with_suffix(path.suffix), stored.rename(stored.parents[2] / "kept.png")
    shutil.copy(path, bomb)
    yield
    bomb.unlink()
    kept.rename(stored)


@on_linux
def test_bombs_are_refused_quickly_and_before_they_take_memory(bomb, pairs):
    path, words = bomb
    shutil.copy(path, pairs / path.name)
    start = time.perf_counter()
    with Peak() as peak:
        words = [words, "--max-megapixels 500", "trusted"]
        refuses(lambda: to_predict(path.name), [path.name, *words], pairs)
        for kind in ("images", "masks"):
            with in_place_of(pairs / "data" / kind / "a.png", path):
                refuses(to_train, [f"data/{kind}/a{path.suffix}", *words], pairs)
    assert peak.bytes < 2**28  # the smallest of them would take 400 MB
    assert time.perf_counter() - start < 30


@on_linux
@pytest.mark.parametrize("name", ["gray.png", "claim.tif"])
def test_bombs_are_refused_from_the_command_line(name, place, capfd):
    content, words = BOMBS[name]
    path = place / name
    path.write_bytes(content())
    stem = "patient-000_slice-00"
    to_predict = ["--run", "run", "--images", name, "--output", "out"]
    start = time.perf_counter()
    with Peak() as peak:
        refused(predict, to_predict, [name, words, "--max-megapixels 500", "trusted"], place, capfd)
        for kind in ("images", "masks"):
            with in_place_of(place / "data" / kind / f"{stem}.png", path):
                refused(train, ["--data", "data"], [stem, words, "--max-megapixels 500"], place, capfd)
                flags = ["--run", "run", "--data", "data", "--split", "all", "--output", "out"]
                refused(evaluate, flags, [stem, words, "--max-megapixels 500"], place, capfd)
    assert peak.bytes < 2**28
    assert time.perf_counter() - start < 30


LARGE = {
    "a.png": lambda path: path.write_bytes(png(1000, 2000, zeros(1000 * 2001))),
    "a.tif": lambda path: tifffile.imwrite(path, np.zeros((1000, 2000), np.uint8), compression="zlib"),
    "b.tif": lambda path: path.write_bytes(lzw(1000, 2000)),
    "a.gif": lambda path: Image.fromarray(np.zeros((1000, 2000), np.uint8)).save(path),
    "a.jpg": lambda path: Image.fromarray(np.zeros((1000, 2000), np.uint8)).save(path),
    "a.bmp": lambda path: Image.fromarray(np.zeros((1000, 2000), np.uint8)).save(path),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_setting_that_is_named_allows_what_it_refuses(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LARGE[name](tmp_path / name)
    words = [name, "1000x2000", "2 megapixels", "--max-megapixels 1.9"]
    refuses(lambda: to_predict(name, max_megapixels=1.9), words, tmp_path)
    assert [image.shape for image in to_predict(name, max_megapixels=2.0)] == [(1000, 2000, 1)]


def test_what_lies_uncompressed_in_its_file_is_not_limited(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((1000, 2000), np.uint8))
    assert [image.shape for image in to_predict(tmp_path / "a.tif", max_megapixels=1.0)] == [(1000, 2000, 1)]


def test_the_flag_allows_what_it_refuses(place, capfd):
    LARGE["a.png"](place / "a.png")
    tifffile.imwrite(place / "b.tif", np.zeros((1000, 2100), np.uint8))
    flags = ["--run", "run", "--images", "a.png", "--output", "out", "--max-megapixels"]
    refused(predict, [*flags, "1.9"], ["a.png", "1000x2000", "2 megapixels", "--max-megapixels 1.9"], place, capfd)
    flags.insert(4, "b.tif")
    assert predict.main([*flags, "2"]) == 0
    assert read_image(place / "out" / "a.png").shape == (1000, 2000, 1)
    assert read_image(place / "out" / "b.png").shape == (1000, 2100, 1)


NAMES = ["...png", "....png", "..png", ".. .png", "~.png", "~root.png", "a\\..\\..\\b.png", "C:b.png", "%2e%2e%2fa.png"]


def test_no_name_of_an_image_leaves_the_output(place):
    """A name holds no separator, and what looks like one elsewhere is none here."""
    for name in NAMES:
        shutil.copy(place / "data" / "images" / "patient-000_slice-00.png", place / name)
    before = on_disk(place)
    assert predict.main(["--run", "run", "--images", *NAMES, "--output", "out/masks", "--overlays"]) == 0
    new = [path for path in on_disk(place) if path not in before]
    assert len(new) == 2 + 2 * len(NAMES) and all(path.is_relative_to(place / "out") for path in new)
    for name in NAMES:
        assert (place / "out" / "masks" / name).is_file()


@pytest.mark.parametrize("folder", ["..", ".", "data/../data/images/.", "link"])
def test_no_name_of_a_folder_leaves_the_output(folder, place, monkeypatch):
    (place / "link").symlink_to("data/images")
    if folder in ("..", "."):
        monkeypatch.chdir(place / "data" / "images")
        if folder == "..":
            (place / "data" / "images" / "sub").mkdir()
            monkeypatch.chdir(place / "data" / "images" / "sub")
    before = on_disk(place)
    flags = ["--run", str(place / "run"), "--images", folder, "--output", str(place / "out")]
    assert predict.main(flags) == 0
    new = [path for path in on_disk(place) if path not in before]
    assert len(new) == 13 and all(path.is_relative_to(place / "out") for path in new)


def test_links_in_the_output_are_not_written_through(place, capfd):
    """Neither those with the name of a mask, nor with the names that are there for a moment only."""
    (place / "mine").write_text("mine")
    (place / "out").mkdir()
    link = place / "out" / "patient-000_slice-00.png"
    link.symlink_to(place / "mine")
    refused(predict, ["--run", "run", "--images", "data/images", "--output", "out"], ["exists already"], place, capfd)
    link.unlink()
    for name in ("per_image.csv", "metrics.json"):
        (place / "out" / f".{name}.tmp").symlink_to(place / "mine")
    assert evaluate.main(["--run", "run", "--data", "data", "--output", "out"]) == 0
    assert (place / "mine").read_text() == "mine"
    assert not (place / "out" / "metrics.json").is_symlink()


def with_split(place, *stems):
    split = json.loads((place / "run" / "split.json").read_text())
    (place / "run" / "split.json").write_text(json.dumps(split | {"validation": list(stems)}))


HOSTILE_STEMS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    "a\0b",
    "a\nerror: done",
    "\ud800",
    "x" * 10**6,
    "{0.__class__}",
]


@pytest.mark.parametrize("stem", HOSTILE_STEMS, ids=lambda stem: repr(stem[:12]))
def test_stems_of_a_hostile_split_name_no_files(stem, place, capfd):
    with_split(place, stem)
    refused(evaluate, ["--run", "run", "--data", "data", "--output", "out"], ["--split validation"], place, capfd)
    refused(train, ["--run", "run", "--resume", "--epochs", "3"], ["split.json names"], place, capfd)


def with_settings(place, section, **values):
    content = json.loads((place / "run" / "config.json").read_text())
    content[section] |= values
    (place / "run" / "config.json").write_text(json.dumps(content))


def test_an_expression_of_a_stranger_is_never_tried(place):
    """Who is in which part stands in split.json: --group-regex is for the training that makes it."""
    with_settings(place, "data", group_regex="(" * 50 + "a*" + ")*" * 50 + "b")
    for path in sorted((place / "data").rglob("*slice*")):
        path.rename(path.with_name(path.name.replace("patient", "a" * 100)))
    assert predict.main(["--run", "run", "--images", "data/images", "--output", "out"]) == 0
    assert evaluate.main(["--run", "run", "--data", "data", "--split", "all", "--output", "out"]) == 0


CODE = [
    "__import__('os').system('touch owned')",
    "$(touch owned)",
    "`touch owned`",
    "{{config.__class__}}",
    "!!python/x",
]


@pytest.mark.parametrize("text", CODE)
def test_settings_of_a_stranger_are_text(text, place, capfd):
    words = ["config.json", "touch owned" if "owned" in text else text[:3]]
    with_settings(place, "run", versions={"tensorflow": text})
    with_settings(place, "data", data=text)
    refused(evaluate, ["--run", "run", "--output", "out"], ["is not a folder"], place, capfd)
    with_settings(place, "model", activation=text)
    refused(predict, ["--run", "run", "--images", "data/images", "--output", "out"], words, place, capfd)
    assert not (place / "owned").exists()


def test_a_resumed_training_neither_deletes_nor_writes_elsewhere(place, capfd):
    mine = place / "mine"
    shutil.copytree(place / "run" / "checkpoints", mine)
    note = place / "run" / "checkpoints" / "checkpoint"
    kept = note.read_text()
    newest = Path(tf.train.latest_checkpoint(str(mine)))
    note.write_text(f'{kept}all_model_checkpoint_paths: "{newest}"\n')
    resume = ["--run", "run", "--resume", "--epochs", "3"]
    refused(train, resume, ["elsewhere"], place, capfd)
    note.write_text(kept)
    for name in ("train", "checkpoints/.hidden"):
        (place / "run" / name).rename(place / "aside") if (place / "run" / name).exists() else None
        (place / "run" / name).symlink_to(mine)
        refused(train, resume, [f"run/{name} is a link"], place, capfd)
        (place / "run" / name).unlink()
        if (place / "aside").exists():
            (place / "aside").rename(place / "run" / name)
    assert train.main(resume) == 0


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    """A harmless .keras file of a layer that a stranger might have put code into."""
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    inputs = tf.keras.Input((None, None, 1))
    tf.keras.Model(inputs, tf.keras.layers.Lambda(lambda x: x, output_shape=(None, None, 1))(inputs)).save(path)
    return path


def with_function(source: Path, target: Path, function: dict | None) -> None:
    """Copies a .keras file; the function of its Lambda layer becomes `function`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json" and function:
                content = json.loads(data)
                (layer,) = (item for item in content["config"]["layers"] if item["class_name"] == "Lambda")
                layer["config"] |= {"function": function, "arguments": {"command": "touch owned"}}
                data = json.dumps(content).encode()
            new.writestr(name, data)


FUNCTIONS = {
    "lambda": None,
    "os.system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
    "eval": {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
    "unlocking": {
        "module": "keras.config",
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
        "registered_name": "function",
    },
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_code_in_a_keras_file_is_not_run(function, keras_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_function(keras_file, tmp_path / "m.keras", function)
    refuses(lambda: read_keras(Path("m.keras")), ["m.keras cannot be read as a Keras model"], tmp_path)
    assert not (tmp_path / "owned").exists()


def test_code_in_a_keras_file_is_not_run_from_the_command_line(keras_file, place, capfd):
    with_function(keras_file, place / "m.keras", FUNCTIONS["os.system"])
    flags = ["--run", "run", "--images", "data/images", "--output", "out", "--model", "m.keras"]
    refused(predict_by_keras, flags, ["m.keras cannot be read as a Keras model"], place, capfd)
    assert not (place / "owned").exists()


def test_the_same_file_without_code_is_read(tmp_path):
    inputs = tf.keras.Input((None, None, 1))
    tf.keras.Model(inputs, tf.keras.layers.Activation("relu")(inputs)).save(tmp_path / "m.keras")
    assert len(read_keras(tmp_path / "m.keras").layers) == 2
