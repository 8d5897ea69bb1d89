"""Whatever a file, a settings file or a flag holds: it is understood, or refused in one sentence. Nothing else.

The examples are the same each time, but for numbers that Hypothesis takes from the modules it finds loaded.
UNET_FUZZ=50 tries fifty times as many, others each time.
"""

import contextlib
import io
import json
import os
import resource
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unet_lowlevel import run_folder
from unet_lowlevel import settings as cfg
from unet_lowlevel.cli import arguments
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, masks, splits
from unet_lowlevel.data.formats.volumes import Slice, open_volume
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.history import HISTORY, read_history, write_history

TIMES = int(os.environ.get("UNET_FUZZ", 1))


def examples(number: int):
    """So many examples; each may take ten seconds on a busy machine, where a thousandth is usual."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=10_000,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def outcome(function, *args):
    """What a function returns, or the sentence of its `UserError`; any other exception passes."""
    try:
        return function(*args), None
    except UserError as error:
        message = str(error)
        assert "\n" not in message and message.endswith((".", "?")) and len(message) < 3000, message
        return None, message


RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (12, 17), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (12, 17, 3), dtype=np.uint8)
BINARY = (GRAY > 99) * np.uint8(255)


def by_pillow(array, form, mode=None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def by_tifffile(array, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


STACK = np.stack([GRAY] * 3)
TURNED = Image.Exif()
TURNED[274] = 6
PYRAMID = io.BytesIO()
with tifffile.TiffWriter(PYRAMID) as file:
    for step in (1, 2, 4):
        file.write(GRAY[::step, ::step], photometric="minisblack", subfiletype=int(step > 1), metadata=None)
VALID = [
    by_pillow(GRAY, "png"),
    by_pillow(BINARY, "png"),
    by_pillow(RGB, "png"),
    by_pillow(RGB, "png", "P"),
    by_pillow(BINARY > 0, "png"),
    by_pillow(GRAY.astype(np.uint16) * 257, "png"),
    by_pillow(GRAY, "jpeg"),
    by_pillow(RGB, "jpeg", "CMYK"),
    by_pillow(RGB, "jpeg", progressive=True),
    by_pillow(GRAY, "bmp"),
    by_pillow(RGB, "bmp"),
    by_pillow(BINARY > 0, "bmp"),
    by_pillow(GRAY, "gif"),
    by_pillow(RGB, "gif", "P"),
    by_pillow(BINARY, "gif", save_all=True, append_images=[Image.fromarray(GRAY)]),
    by_tifffile(GRAY),
    by_tifffile(BINARY, byteorder=">"),
    by_tifffile(RGB, photometric="rgb"),
    by_tifffile(GRAY, compression="zlib", predictor=True),
    by_tifffile(RGB, photometric="rgb", tile=(16, 16), compression="zlib"),
    by_tifffile(GRAY.astype(np.float32), bigtiff=True),
    by_tifffile(GRAY.astype(np.int32)),
    by_tifffile(STACK, photometric="minisblack"),
    by_tifffile(STACK, imagej=True, metadata={"axes": "ZYX"}),
    by_tifffile(STACK, photometric="minisblack", ome=True, metadata={"axes": "ZYX"}),
    by_tifffile(STACK, photometric="minisblack", compression="zlib"),
    by_pillow(GRAY, "tiff", compression="tiff_lzw"),
    by_pillow(RGB, "tiff", compression="jpeg"),
    by_pillow(BINARY > 0, "tiff", compression="group4"),
    by_pillow(RGB, "tiff", "P"),
    by_pillow(GRAY, "tiff", compression="packbits"),
    by_pillow(RGB, "jpeg", exif=TURNED),
    by_pillow(RGB, "png", "P", exif=TURNED),
    by_tifffile(RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)], tile=(16, 16)),
    by_tifffile(GRAY.astype(np.int16), byteorder=">", compression="zlib", predictor=True),
    by_tifffile(GRAY, photometric="palette", colormap=np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))),
    by_pillow(RGB, "tiff", "CMYK", compression="tiff_lzw"),
    by_pillow(RGB, "tiff", "YCbCr"),
    PYRAMID.getvalue(),
]
if find_spec("imagecodecs"):
    VALID += [
        by_tifffile(GRAY.astype(np.int16), byteorder=">", compression="lzw"),
        by_tifffile(GRAY.astype(np.float32), compression="zstd", predictor=True),
        by_tifffile(RGB, photometric="rgb", compression="jpeg2000"),
        by_tifffile(GRAY // 16, bitspersample=4),
    ]
NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 10_000]


@st.composite
def mutations(draw, originals):
    """One of `originals` with some bytes flipped, cut out, put in, or replaced by numbers that lie at a limit."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 5))):
        # Headers lie at the start, or, of a TIFF, often at the end.
        place = draw(st.one_of(st.integers(0, min(len(data), 300)), st.integers(0, len(data))))
        match draw(st.sampled_from(["flip", "number", "cut", "insert", "end"])):
            case "flip":
                data[place : place + 1] = bytes(byte ^ draw(st.integers(1, 255)) for byte in data[place : place + 1])
            case "number":
                size, order = draw(st.sampled_from([2, 4])), draw(st.sampled_from(["little", "big"]))
                number = draw(st.sampled_from(NUMBERS)) % 256**size
                data[place : place + size] = number.to_bytes(size, order)
            case "cut":
                del data[place : place + draw(st.integers(1, 20))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=20))
            case "end":
                del data[place:]
    return bytes(data)


def read(path, data):
    """Reads a file in all ways that there are."""
    volume = open_volume(path)
    images = [path] if volume is None else [Slice(path, 0), Slice(path, volume.count - 1)]
    return [
        outcome(function, image, *args, data)
        for image in images
        for function, args in ((files.read_pixels, ()), (files.read_image, ()), (masks.read_mask, (1,)))
    ]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@examples(700)
@given(content=st.one_of(mutations(VALID), mutations(VALID), mutations(VALID), st.binary(max_size=200)))
def test_images(suffix, content, tmp_path, capfd, caplog):
    path = tmp_path / f"a.{suffix}"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, message = outcome(read, path, DataConfig(max_megapixels=1.0))
    for array, sentence in found or [(None, message)]:
        if sentence:
            assert str(path) in sentence
        else:
            assert array.size and array.dtype in (np.uint8, np.uint16, np.float32) and np.isfinite(array).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000  # KiB
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_mutated_files_are_read_as_they_are(tmp_path):
    """Else the test above might only ever see errors."""
    for i, content in enumerate(VALID):
        path = tmp_path / f"{i}.tif"
        path.write_bytes(content)
        assert i == 14 or read(path, DataConfig(max_megapixels=1.0))[0][1] is None


ANY_TEXT = st.text(max_size=12) | st.sampled_from(["", "a\nb", "\0", "\ud800", "../..", "x" * 5000])
ANY_NUMBER = st.integers() | st.floats() | st.sampled_from([2**63, -(10**400), 1e308, 0, -1, 1.5])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = list(cfg.settings())


@st.composite
def settings_files(draw):
    """{section: {setting: value}}, now and then of other sections, settings and kinds."""
    content = {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
        content.setdefault(cfg.settings()[name][0], {})[name] = draw(ANY_JSON | legal(name) | legal(name))
    if draw(st.integers(0, 9)) == 0:
        content[draw(ANY_TEXT | st.sampled_from(list(cfg.sections())))] = draw(ANY_JSON)
    return content


def legal(name):
    """A value within the limits of a setting."""
    item = cfg.settings()[name][1]
    limits = item.metadata
    least, most = limits["minimum"], limits["maximum"]
    real = st.floats(
        -1e6 if least is None else least,
        limits["below"] or (1e6 if most is None else most),
        exclude_max=limits["below"] is not None,
    )
    if cfg.is_list(item):
        return st.lists(real, max_size=3)
    if limits["choices"]:
        return st.sampled_from(limits["choices"])
    return {
        bool: st.booleans(),
        int: st.integers(least or 0, 2**63 - 1 if most is None else most),
        float: real,
        str: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    }[item.type]


@examples(400)
@given(content=settings_files() | ANY_JSON)
def test_settings(content):
    config, message = outcome(lambda: cfg.check(cfg.from_json(content, "c.json")))
    if message is None:
        again = cfg.from_json(json.loads(json.dumps(cfg.to_json(config), allow_nan=False)), "c.json")
        assert again == config


@pytest.mark.parametrize("name", NAMES)
@examples(10)
@given(data=st.data())
def test_legal_settings_are_legal_and_survive_their_file(name, data):
    value = data.draw(legal(name))
    config = cfg.apply(cfg.Config(), {name: value})
    assert cfg.from_json(json.loads(json.dumps(cfg.to_json(config), allow_nan=False)), "c.json") == config


FLAGS = [cfg.flag(name) for name in NAMES] + ["--no-augment", "--preset", "--config", "--epoch", "--"]
PRINTED = st.text(st.characters(exclude_characters="\0"), max_size=12)


@st.composite
def command_lines(draw):
    argv = []
    for flag in draw(st.lists(st.sampled_from(FLAGS), max_size=4)):
        value = draw(PRINTED | ANY_NUMBER.map(repr) | st.sampled_from(["nan", "1,2", "-1,4", "0:0,1:1", "x" * 9000]))
        argv += draw(st.sampled_from([[flag, value], [f"{flag}={value}"], [flag], [value]]))
    return [text for text in argv if not text.startswith(("-h", "--h", "--debug"))]


@examples(400)
@given(argv=command_lines())
def test_flags(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = arguments.Parser("A test.", "train")
    arguments.add_settings(parser)
    configs, printed = [], io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        code = arguments.run_command(lambda parsed: configs.append(arguments.resolved_config(parsed)), parser, argv)
    text = printed.getvalue()
    if code == 0:
        assert text == "" and cfg.check(configs[0]) == configs[0]
    else:
        assert code == 2 and text.startswith("error: ") and text.count("\n") == 1
        assert text[:-1].isprintable() and text[-2] in ".?"
        text.encode()


def run_files() -> dict[str, bytes]:
    config = cfg.resolve(flags={"in_channels": 1, "crop_size": 64, "class_weights": [1, 2]})
    row = {name: 0.25 for name in HISTORY}
    history = io.StringIO()
    history.write(",".join(HISTORY) + "\n")
    for epoch in range(1, 4):
        history.write(",".join(str(value) for value in (row | {"epoch": epoch, "step": 8 * epoch}).values()) + "\n")
    return {
        "config.json": json.dumps(cfg.to_json(config) | {"run": {"versions": {}}}, indent=1).encode(),
        "split.json": json.dumps({"training": ["a", "b"], "validation": ["ü"]}).encode(),
        "history.csv": history.getvalue().encode(),
    }


RUN = run_files()


@pytest.mark.parametrize("name", RUN)
@examples(250)
@given(data=st.data())
def test_run_folders(name, data, tmp_path):
    content = data.draw(mutations([RUN[name]]) | st.binary(max_size=60))
    for other in RUN:
        (tmp_path / other).write_bytes(content if other == name else RUN[other])
    found, _ = outcome(run_folder.read, tmp_path)
    if found:
        config, run, split = found
        assert cfg.check(config) == config and isinstance(run, dict)
        assert all(isinstance(stem, str) for part in ("training", "validation") for stem in split[part])
    if name == "history.csv":
        rows, _ = outcome(read_history, tmp_path / "history.csv")
        if rows:
            write_history(tmp_path / "again.csv", rows)
            np.testing.assert_equal(read_history(tmp_path / "again.csv"), rows)


STEMS = ["patient-00_a", "patient-00_b", "patient-01_a", "ü"]


@examples(250)
@given(content=mutations(["patient-00_a\r\npatient-00_b.png\n# no\nü\n".encode(), "\ufeffü\n\n".encode()]))
def test_validation_lists(content, tmp_path):
    (tmp_path / "list.txt").write_bytes(content)
    parts, message = outcome(splits.split, STEMS, DataConfig(validation_list=str(tmp_path / "list.txt")), 0)
    if message is None:
        assert sorted(parts[0] + parts[1]) == sorted(STEMS) and all(parts)


# Of short stems: an expression may be made to take for ever, and then Ctrl-C ends it.
EXPRESSIONS = st.text(st.sampled_from(r"()[]{}|?*+^$.\dwsbZ,:=!<>P-01a&~") | st.characters(), max_size=12)


@examples(500)
@given(regex=EXPRESSIONS | st.sampled_from(["a{999999999999}", "(" * 9999, "(?P<a>.)(?P<a>.)", "[[a]", r"\N{x}"]))
def test_group_expressions(regex):
    parts, message = outcome(splits.split, STEMS, DataConfig(group_regex=regex), 0)
    if message is None:
        assert sorted(parts[0] + parts[1]) == sorted(STEMS) and all(parts)
    else:
        assert "--group-regex" in message or not regex


@pytest.mark.parametrize("flag", ["mask_values", "mask_colors"])
@examples(250)
@given(data=st.data())
def test_meanings_of_masks(flag, data, tmp_path):
    key = st.sampled_from(["0", "255", "000000", "ffffff", "#FFFFFF", "nan", "1e999", "-1", " 0 ", "٣"]) | st.text(
        max_size=4
    )
    pair = st.builds("{}{}{}".format, key, st.sampled_from([":", ":", ":", "", "::"]), st.integers(-1, 3) | ANY_TEXT)
    text = data.draw(st.lists(pair, min_size=1, max_size=4).map(",".join))
    if not (tmp_path / "a.png").exists():
        (tmp_path / "a.png").write_bytes(by_pillow(BINARY, "png"))
    label, message = outcome(masks.read_mask, tmp_path / "a.png", 3, DataConfig(**{flag: text}))
    if message is None:
        assert label.shape == BINARY.shape and label.dtype == np.uint8 and label.max() < 3
    else:
        assert cfg.flag(flag) in message or not text.strip()
