"""A user's mistake: one sentence that names it, exit code 2, nothing changed on disk.

Each refusal is tested where it is raised; that commands make a sentence and an exit code of it, for a few of each.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from conftest import on_disk, refused, sentence
from PIL import Image

from unet_lowlevel import settings
from unet_lowlevel.cli import check, compare, cross_validate, evaluate, export, phantoms, predict, train
from unet_lowlevel.config import Config
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.formats.writing import check_new_output
from unet_lowlevel.data.phantoms.phantom import write_phantoms
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.cross_validation import cross_validate as cross_validation
from unet_lowlevel.inference.evaluation import evaluate as evaluation
from unet_lowlevel.inference.folders import predict_files
from unet_lowlevel.inference.images import find_images
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.reference.weights import read_keras
from unet_lowlevel.training.train import train as training

predict_by_keras = SimpleNamespace(__name__="predict_keras", main=lambda argv: predict.main(argv, by_keras=True))
GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def image(place, kind="images", index=0):
    return sorted((place / "data" / kind).iterdir())[index]


def save(path, array):
    Image.fromarray(array).save(path)


def nan_image(place):
    path = image(place)
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), np.full((32, 32), np.nan, np.float32))


def run_without_weights(place):
    (place / "torn").mkdir()
    for name in ("config.json", "split.json"):
        shutil.copy(place / "run" / name, place / "torn")


def two_of_one_name(place):
    for stem in ("a_probability", "a"):
        for kind in ("images", "masks"):
            save(place / "data" / kind / f"{stem}.png", np.zeros((9, 9), np.uint8))


def resolve(**flags):
    return functools.partial(settings.resolve, flags=flags)


def resolve_file(content=None):
    """Of c.json with this content."""
    if content is None:
        return functools.partial(settings.resolve, file="nowhere.json")

    def work():
        Path("c.json").write_text(content)
        try:
            settings.resolve(file="c.json")
        finally:
            Path("c.json").unlink()

    return work


def pairs(**flags):
    return lambda: find_pairs(Config.of(**flags).data)


def train_on(run="new", **flags):
    return lambda: training(Config.of(**flags), run)


def go_on(run):
    return lambda: training(Config(), run, resume=True)


def predict_of(*images, output="out"):
    """By the run: raises what is raised, or what is said of the first image when none can be used."""

    def work():
        done = predict_files(load("run"), find_images(images), Path(output))
        assert done.written == 0 and len(done.failures) == len(images)
        raise UserError(done.failures[0])

    return work


def validate(run="new", **flags):
    """As the command, whose default is five folds."""
    return lambda: cross_validation(Config.of(**{"data": "data", "folds": 5} | flags), run)


def evaluate_run(run="run", output="out", **options):
    return lambda: evaluation(run, output, changes={"data": "data"}, **options)


# What the mistake is, what prepares it in a copy of the data, what is called, and what the sentence says.
MISTAKES = {
    "train": [
        ("no data folder", None, pairs(data="nowhere"), ["--data nowhere", "is not a folder"]),
        ("no masks folder", lambda p: shutil.rmtree(p / "data" / "masks"), pairs(data="data"), ["data", "masks"]),
        (
            "empty folder",
            lambda p: [f.unlink() for f in (p / "data" / "images").iterdir()],
            pairs(data="data"),
            ["no image"],
        ),
        (
            "unpaired image",
            lambda p: image(p, "masks").unlink(),
            pairs(data="data"),
            ["patient-000_slice-00.png", "no mask"],
        ),
        ("unpaired mask", lambda p: image(p).unlink(), pairs(data="data"), ["patient-000_slice-00.png", "no image"]),
        (
            "mask of another size",
            lambda p: save(image(p, "masks"), GRAY * 0),
            train_on(data="data"),
            ["32x32", "8x8"],
        ),
        (
            "gray mask",
            lambda p: save(image(p, "masks"), np.resize(GRAY, (32, 32))),
            train_on(data="data"),
            ["64 distinct values", "0, 1, 2", "nearest neighbour"],
        ),
        (
            "broken file",
            lambda p: image(p).write_bytes(b"\x89PNG"),
            train_on(data="data"),
            ["slice-00.png", "not readable"],
        ),
        ("empty file", lambda p: image(p).write_bytes(b""), train_on(data="data"), ["slice-00.png", "empty"]),
        ("NaN", nan_image, train_on(data="data"), ["slice-00.tif", "NaN"]),
        (
            "channels",
            lambda p: save(image(p), np.zeros((32, 32, 3), np.uint8)),
            train_on(data="data"),
            ["11 with 1", "1 with 3"],
        ),
        ("run exists", None, train_on("run", data="data"), ["run is not empty", "--resume"]),
        ("run is a file", None, train_on("file", data="data"), ["file is a file"]),
        ("folder of something else", None, train_on("data", data="data"), ["data is not empty", "another name"]),
        ("resume nothing", None, go_on("nowhere"), ["--run nowhere does not exist"]),
        ("resume no run", None, go_on("data"), ["data is no run folder"]),
        (
            "unknown preset",
            None,
            functools.partial(settings.resolve, "papr"),
            ["--preset is 'papr'", "paper"],
        ),
        ("wrong number", None, resolve(depth="many"), ["--depth is 'many'", "whole number"]),
        ("number too small", None, resolve(batch_size=0), ["--batch-size is 0", "at least 1"]),
        ("even kernel", None, resolve(kernel_size=4), ["--kernel-size is 4", "odd"]),
        ("unknown choice", None, resolve(loss="dyce"), ["--loss is 'dyce'", "dice"]),
        ("no config file", None, resolve_file(), ["nowhere.json does not exist"]),
        ("broken config", None, resolve_file("{"), ["c.json", "JSON"]),
        ("unknown setting", None, resolve_file('{"model": {"deepth": 3}}'), ["c.json", "model.deepth"]),
        (
            "group without match",
            None,
            train_on(data="data", group_regex="x"),
            ["--group-regex", "'x'", "patient-000_slice-00"],
        ),
        ("too many folds", None, train_on(data="data", folds=50), ["--folds is 50", "12"]),
        ("fold too large", None, resolve(data="data", folds=3, fold=3), ["--fold 3", "--folds 3"]),
        (
            "no validation list",
            None,
            train_on(data="data", validation_list="nowhere"),
            ["--validation-list nowhere"],
        ),
        (
            "crop of a valid network",
            None,
            lambda: training(Config.of("paper", data="data", crop_size=570), "new"),
            ["570", "572"],
        ),
        ("images without masks", None, resolve(images="data/images"), ["--images and --masks"]),
        ("channels by flag", None, train_on(data="data", in_channels=3), ["--in-channels is 3", "1 channel"]),
        (
            "weights of classes",
            None,
            resolve(data="data", class_weights=[1, 2, 3]),
            ["--class-weights has 3", "2 classes"],
        ),
        ("range not given", None, resolve(data="data", normalization="range"), ["--normalization-range"]),
    ],
    "predict": [
        ("no such run", None, lambda: load("nowhere"), ["--run nowhere does not exist"]),
        ("no run", None, lambda: load("data"), ["data is no run folder"]),
        ("no images", None, predict_of("nowhere"), ["--images nowhere does not exist"]),
        (
            "broken files only",
            lambda p: [(p / name).write_bytes(b"x") for name in ("a.png", "b.png")],
            predict_of("a.png", "b.png"),
            ["a.png", "not readable"],
        ),
        (
            "channels",
            lambda p: save(p / "rgb.png", np.zeros((8, 8, 3), np.uint8)),
            predict_of("rgb.png"),
            ["rgb.png has 3 channels", "--channels gray"],
        ),
        ("would overwrite", None, predict_of("data/images", output="data/images"), ["exists already"]),
        (
            "one stem twice",
            lambda p: save(p / "patient-000_slice-00.bmp", GRAY),
            predict_of("data/images", "patient-000_slice-00.bmp"),
            ["one name"],
        ),
        ("output is a file", None, predict_of("data/images", output="file"), ["--output file"]),
        ("no weights", run_without_weights, lambda: load("torn"), ["best"]),
    ],
    "predict_keras": [
        ("no model", None, lambda: read_keras(Path("no.keras")), ["no.keras does not exist"]),
        ("no Keras file", None, lambda: read_keras(Path("run")), ["run is no .keras file"]),
        (
            "broken model",
            lambda p: (p / "m.keras").write_bytes(b"x" * 100),
            lambda: read_keras(Path("m.keras")),
            ["m.keras cannot be read as a Keras model"],
        ),
    ],
    "compare": [
        ("folder in use", None, lambda: check_new_output(Path("data")), ["--output data is not empty", "another name"]),
        ("a file", None, lambda: check_new_output(Path("file")), ["--output file is a file"]),
    ],
    "cross_validate": [
        ("one fold", None, validate(folds=0), ["--folds is 0", "at least 2"]),
        ("too many folds", None, validate(folds=50), ["--folds is 50", "12"]),
        ("folder in use", None, validate(run="run"), ["--run run is the run folder of one training"]),
        (
            "resume no cross-validation",
            None,
            lambda: cross_validation(Config.of(data="data", folds=5), "run", resume=True),
            ["run is no cross-validation"],
        ),
        ("one name for two", two_of_one_name, validate(), ["a_probability.png", "rename"]),
    ],
    "evaluate": [
        ("no such run", None, evaluate_run("nowhere"), ["--run nowhere does not exist"]),
        (
            "held-out images missing",
            lambda p: [f.unlink() for k in ("images", "masks") for f in (p / "data" / k).glob("*slice-00*")],
            evaluate_run(),
            ["--split validation", "--split all"],
        ),
        (
            "results exist",
            lambda p: (p / "metrics.json").touch(),
            evaluate_run(output="."),
            ["exists already"],
        ),
        (
            "unusable volume",
            lambda p: (p / "data" / "images" / "empty.nii").touch(),
            evaluate_run(split="all"),
            ["data/images/empty.nii", "the file is empty", "intact"],
        ),
        (
            "broken image",
            lambda p: max((p / "data" / "images").iterdir()).write_bytes(b"\x89PNG"),
            evaluate_run(split="all"),
            ["data/images/", "not readable", "intact"],
        ),
    ],
    "phantoms": [
        (
            "folder in use",
            None,
            lambda: write_phantoms(Path("data"), 12, (32, 32), 3, 0),
            ["data already holds something"],
        ),
    ],
}


@pytest.fixture(scope="module")
def ground(phantoms, tiny_run, tmp_path_factory):
    """A folder that nobody changes, with good data in data/, a finished run in run/ and a file."""
    folder = tmp_path_factory.mktemp("ground")
    shutil.copytree(phantoms, folder / "data")
    shutil.copytree(tiny_run, folder / "run")
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize(
    ("prepare", "work", "words"),
    [case for cases in MISTAKES.values() for _, *case in cases],
    ids=[f"{command}: {name}" for command, cases in MISTAKES.items() for name, *_ in cases],
)
def test_one_sentence_and_nothing_changed(prepare, work, words, ground, tmp_path, monkeypatch):
    place = ground
    if prepare:
        place = tmp_path
        shutil.copytree(ground / "data", place / "data")
        os.symlink(ground / "run", place / "run")
        prepare(place)
    monkeypatch.chdir(place)
    before = on_disk(place)
    with pytest.raises(UserError) as caught:
        work()
    message = sentence(caught, *words)
    assert message.isprintable() and len(message) < 2000
    assert on_disk(place) == before


# Of each command each kind of mistake: unknown flag, wrong value, missing folder, damaged file, output that exists; and
# whatever the command itself raises.
END_TO_END = [
    (train, "unknown flag", None, "--epoch 3", ["--epoch is no flag", "--epochs"]),
    (train, "wrong number", None, "--depth many", ["--depth is 'many'", "whole number"]),
    (train, "no data folder", None, "--data nowhere", ["--data nowhere", "is not a folder"]),
    (
        train,
        "broken file",
        lambda p: image(p).write_bytes(b"\x89PNG"),
        "--data data",
        ["slice-00.png", "not readable"],
    ),
    (train, "broken config", lambda p: (p / "c.json").write_text("{"), "--config c.json", ["c.json", "JSON"]),
    (train, "run exists", None, "--data data --run run", ["run is not empty", "--resume"]),
    (train, "run is a file", lambda p: (p / "file").touch(), "--data data --run file", ["file is a file"]),
    (train, "resume what", None, "--resume", ["--resume needs --run"]),
    (train, "resume nothing", None, "--resume --run nowhere", ["--run nowhere does not exist"]),
    (train, "resume no run", None, "--resume --run data", ["data is no run folder"]),
    (train, "resume with settings", None, "--resume --run run --depth 3", ["--depth does not go with --resume"]),
    (
        predict,
        "unknown flag",
        None,
        "--run run --images data/images --output out --probability",
        ["--probability is no flag", "--probabilities"],
    ),
    (predict, "missing flag", None, "--run run --images data/images", ["--output"]),
    (
        predict,
        "tile size",
        None,
        "--run run --images data/images --output out --tile-size 0",
        ["--tile-size is 0", "1024"],
    ),
    (predict, "no such run", None, "--run nowhere --images data/images --output out", ["--run nowhere does not exist"]),
    (predict, "no images", None, "--run run --images nowhere --output out", ["--images nowhere does not exist"]),
    (
        predict,
        "broken files only",
        lambda p: [(p / name).write_bytes(b"x") for name in ("a.png", "b.png")],
        "--run run --images a.png b.png --output out",
        ["a.png", "not readable", "other 1 cannot"],
    ),
    (
        predict,
        "channels",
        lambda p: save(p / "rgb.png", np.zeros((8, 8, 3), np.uint8)),
        "--run run --images rgb.png --output out",
        ["rgb.png has 3 channels", "--channels gray"],
    ),
    (predict, "would overwrite", None, "--run run --images data/images --output data/images", ["exists already"]),
    (
        predict,
        "output is a file",
        lambda p: (p / "out").touch(),
        "--run run --images data/images --output out",
        ["--output out"],
    ),
    (
        predict_by_keras,
        "unknown flag",
        None,
        "--run run --images data/images --output out --average-flips",
        ["--average-flips is no flag"],
    ),
    (
        predict_by_keras,
        "no model",
        None,
        "--run run --images data/images --output out --model no.keras",
        ["no.keras does not exist"],
    ),
    (
        predict_by_keras,
        "no Keras file",
        None,
        "--run run --images data/images --output out --model run",
        ["run is no .keras file"],
    ),
    (
        predict_by_keras,
        "broken model",
        lambda p: (p / "m.keras").write_bytes(b"x" * 100),
        "--run run --images data/images --output out --model m.keras",
        ["m.keras cannot be read as a Keras model"],
    ),
    (
        predict_by_keras,
        "would overwrite",
        None,
        "--run run --images data/images --output data/images",
        ["exists already"],
    ),
    (
        export,
        "unknown flag",
        None,
        "--run run --format keras --output m.keras --outputs n",
        ["--outputs is no flag", "--output"],
    ),
    (export, "no such run", None, "--run nowhere --format keras --output m.keras", ["--run nowhere does not exist"]),
    (export, "no Keras name", None, "--run run --format keras --output model.h5", ["--output is model.h5", ".keras"]),
    (
        export,
        "exists",
        lambda p: (p / "m.keras").touch(),
        "--run run --format keras --output m.keras",
        ["m.keras exists already"],
    ),
    (
        export,
        "below a file",
        lambda p: (p / "file").touch(),
        "--run run --format keras --output file/m.keras",
        ["--output file/m.keras"],
    ),
    (export, "no form", None, "--run run --format pb --output m.pb", ["--format", "'pb'", "saved_model"]),
    (export, "no ONNX name", None, "--run run --format onnx --output m.pb", ["--output is m.pb", ".onnx"]),
    (
        export,
        "bits of another form",
        None,
        "--run run --format onnx --quantize int8 --output m.onnx",
        ["--quantize does not go with --format onnx", "litert"],
    ),
    (
        export,
        "views of logits",
        None,
        "--run run --format keras --average-flips --output m.keras",
        ["--average-flips averages probabilities", "add --with-preprocessing"],
    ),
    (
        export,
        "preprocessing of another form",
        None,
        "--run run --format onnx --with-preprocessing --output m.onnx",
        ["--with-preprocessing does not go with --format onnx", "keras"],
    ),
    (export, "no author", None, "--run run --format bioimageio --output m.zip", ["--authors is not given"]),
    (
        export,
        "no SPDX licence",
        None,
        "--run run --format bioimageio --output m.zip --authors Ada --license free",
        ["--license is free", "CC-BY-4.0"],
    ),
    (
        export,
        "a card is there",
        lambda p: (p / "m.onnx_model_card.json").touch(),
        "--run run --format onnx --output m.onnx",
        ["m.onnx_model_card.json exists already"],
    ),
    (compare, "unknown flag", None, "--output out --resume", ["--resume is no flag"]),
    (compare, "wrong number", None, "--output out --depth many", ["--depth is 'many'", "whole number"]),
    (compare, "folder in use", None, "--output data", ["--output data is not empty", "another name"]),
    (compare, "patience", None, "--output out --patience 3", ["--patience", "the same steps"]),
    (compare, "averages", None, "--output out --ema-decay 0.9", ["--ema-decay is 0.9", "Keras"]),
    (
        compare,
        "broken config",
        lambda p: (p / "c.json").write_text("{"),
        "--output out --config c.json",
        ["c.json", "JSON"],
    ),
    (
        compare,
        "bad data",
        None,
        "--output out --data nowhere",
        ["lowlevel training", "--data nowhere is not a folder"],
    ),
    (cross_validate, "a fold", None, "--data data --fold 1", ["--fold is no flag"]),
    (cross_validate, "a list", None, "--data data --validation-list x", ["--validation-list is no flag"]),
    (cross_validate, "one fold", None, "--data data --folds 0", ["--folds is 0", "at least 2"]),
    (cross_validate, "no data folder", None, "--data nowhere --run new", ["--data nowhere is not a folder"]),
    (
        cross_validate,
        "broken file",
        lambda p: image(p).write_bytes(b"\x89PNG"),
        "--data data --run new",
        ["slice-00.png", "not readable"],
    ),
    (
        cross_validate,
        "folder in use",
        None,
        "--data data --run run",
        ["--run run is the run folder of one training"],
    ),
    (cross_validate, "resume what", None, "--resume", ["--resume needs --run"]),
    (cross_validate, "resume no cross-validation", None, "--resume --run run", ["run is no cross-validation"]),
    (evaluate, "unknown flag", None, "--run run --output out --epochs 3", ["--epochs is no flag"]),
    (evaluate, "unknown split", None, "--run run --split test --output out", ["split", "'test'"]),
    (evaluate, "pictures", None, "--run run --output out --pictures -1", ["--pictures is -1"]),
    (evaluate, "no such run", None, "--run nowhere --output out", ["--run nowhere does not exist"]),
    (
        evaluate,
        "broken file",
        lambda p: [f.write_bytes(b"\x89PNG") for f in (p / "data" / "images").iterdir()],
        "--run run --data data --output out",
        [".png", "not readable"],
    ),
    (
        evaluate,
        "results exist",
        lambda p: (p / "metrics.json").touch(),
        "--run run --data data --output .",
        ["exists already"],
    ),
    (phantoms, "unknown flag", None, "--output out --slices 3", ["--slices is no flag"]),
    (phantoms, "no slices", None, "--output out --count 0", ["--count is 0"]),
    (phantoms, "folder in use", None, "--output data", ["data already holds something"]),
    (check, "unknown flag", None, "--data data --epochs 3", ["--epochs is no flag"]),
    (check, "wrong number", None, "--data data --classes many", ["--classes is 'many'", "whole number"]),
    (check, "no data folder", None, "--data nowhere", ["--data nowhere", "is not a folder"]),
    (
        check,
        "sheet exists",
        lambda p: (p / "sheet.png").touch(),
        "--data data --sheet sheet.png",
        ["sheet.png exists already"],
    ),
]


@pytest.mark.parametrize(
    ("command", "prepare", "flags", "words"),
    [(command, *case) for command, _, *case in END_TO_END],
    ids=[f"{command.__name__.split('.')[-1]}: {name}" for command, name, *_ in END_TO_END],
)
def test_commands_end_with_exit_code_2(command, prepare, flags, words, place, capfd):
    if prepare:
        prepare(place)
    refused(command, flags.split(), words, place, capfd)


def test_keras_cannot_average_weights(place, capsys):
    before = on_disk(place)
    assert train.main(["--data", "data", "--ema-decay", "0.9"], "keras") == 2
    assert "--ema-decay is 0.9" in capsys.readouterr().err
    assert on_disk(place) == before


def test_an_unknown_split_is_no_key_error(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="split is 'test', but must be one of validation, training, all"):
        evaluation(tiny_run, tmp_path / "out", split="test")


def test_debug_shows_the_traceback(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--data", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


# {command: its flags}, each with a place that does not exist.
WRONG_PLACES = {
    "train --data": ["--data", "nowhere", "--run", "new"],
    "train --init": ["--data", "data", "--init", "nowhere", "--run", "new"],
    "train --resume": ["--resume", "--run", "nowhere"],
    "cross_validate --data": ["--data", "nowhere", "--run", "new"],
    "check --data": ["--data", "nowhere"],
    "pack --data": ["--data", "nowhere", "--output", "new"],
    "predict --run": ["--run", "nowhere", "--images", "data/images", "--output", "new"],
    "predict --images": ["--run", "run", "--images", "nowhere", "--output", "new"],
    "evaluate --run": ["--run", "nowhere", "--output", "new"],
    "evaluate --data": ["--run", "run", "--data", "nowhere", "--output", "new"],
    "export --run": ["--run", "nowhere", "--format", "onnx", "--output", "new.onnx"],
}
EARLY = """
import importlib, sys
for name, flags in {places}.items():
    command = importlib.import_module("unet_lowlevel.cli." + name.split()[0])
    assert command.main(flags) == 2, name
    assert "tensorflow" not in sys.modules, name
"""


def test_a_wrong_place_is_told_before_tensorflow_is_imported(phantoms, tiny_run, tmp_path):
    """TensorFlow takes seconds, and whoever has mistyped a name would wait for them."""
    for name, target in (("data", phantoms), ("run", tiny_run)):
        (tmp_path / name).symlink_to(target)
    code = EARLY.format(places=WRONG_PLACES)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == done.stderr.count("nowhere") == len(WRONG_PLACES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]
