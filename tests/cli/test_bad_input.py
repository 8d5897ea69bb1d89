"""A user's mistake: one sentence that names it, exit code 2, nothing changed on disk."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from conftest import on_disk, refused
from PIL import Image

from unet_lowlevel.cli import compare, cross_validate, evaluate, export, phantoms, predict, train

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


TRAINING = [
    ("no data folder", None, "--data nowhere", ["--data nowhere", "is not a folder"]),
    ("no masks folder", lambda p: shutil.rmtree(p / "data" / "masks"), "--data data", ["data", "masks"]),
    ("empty folder", lambda p: [f.unlink() for f in (p / "data" / "images").iterdir()], "--data data", ["no image"]),
    ("unpaired image", lambda p: image(p, "masks").unlink(), "--data data", ["patient-000_slice-00.png", "no mask"]),
    ("unpaired mask", lambda p: image(p).unlink(), "--data data", ["patient-000_slice-00.png", "no image"]),
    ("mask of another size", lambda p: save(image(p, "masks"), GRAY * 0), "--data data", ["32x32", "8x8"]),
    (
        "gray mask",
        lambda p: save(image(p, "masks"), np.resize(GRAY, (32, 32))),
        "--data data",
        ["64 distinct values", "0, 1, 2", "nearest neighbour"],
    ),
    ("broken file", lambda p: image(p).write_bytes(b"\x89PNG"), "--data data", ["slice-00.png", "not readable"]),
    ("empty file", lambda p: image(p).write_bytes(b""), "--data data", ["slice-00.png", "empty"]),
    ("NaN", nan_image, "--data data", ["slice-00.tif", "NaN"]),
    ("channels", lambda p: save(image(p), np.zeros((32, 32, 3), np.uint8)), "--data data", ["11 with 1", "1 with 3"]),
    ("run exists", None, "--data data --run run", ["run is not empty", "--resume"]),
    ("run is a file", lambda p: (p / "file").touch(), "--data data --run file", ["file is a file"]),
    ("folder of something else", None, "--data data --run data", ["data is not empty", "another name"]),
    ("resume what", None, "--resume", ["--resume needs --run"]),
    ("resume nothing", None, "--resume --run nowhere", ["--run nowhere does not exist"]),
    ("resume no run", None, "--resume --run data", ["data is no run folder"]),
    ("resume with settings", None, "--resume --run run --depth 3", ["--depth does not go with --resume"]),
    ("unknown flag", None, "--epoch 3", ["--epoch is no flag", "--epochs"]),
    ("unknown preset", None, "--preset papr", ["--preset is 'papr'", "paper"]),
    ("wrong number", None, "--depth many", ["--depth is 'many'", "whole number"]),
    ("number too small", None, "--batch-size 0", ["--batch-size is 0", "at least 1"]),
    ("even kernel", None, "--kernel-size 4", ["--kernel-size is 4", "odd"]),
    ("unknown choice", None, "--loss dyce", ["--loss is 'dyce'", "dice"]),
    ("no config file", None, "--config nowhere.json", ["nowhere.json does not exist"]),
    ("broken config", lambda p: (p / "c.json").write_text("{"), "--config c.json", ["c.json", "JSON"]),
    (
        "unknown setting",
        lambda p: (p / "c.json").write_text('{"model": {"deepth": 3}}'),
        "--config c.json",
        ["c.json", "model.deepth"],
    ),
    ("group without match", None, "--data data --group-regex x", ["--group-regex", "'x'", "patient-000_slice-00"]),
    ("too many folds", None, "--data data --folds 50", ["--folds is 50", "12"]),
    ("fold too large", None, "--data data --folds 3 --fold 3", ["--fold 3", "--folds 3"]),
    ("no validation list", None, "--data data --validation-list nowhere", ["--validation-list nowhere"]),
    ("crop of a valid network", None, "--data data --preset paper --crop-size 570", ["570", "572"]),
    ("images without masks", None, "--images data/images", ["--images and --masks"]),
    ("channels by flag", None, "--data data --in-channels 3", ["--in-channels is 3", "1 channel"]),
    ("weights of classes", None, "--data data --class-weights 1,2,3", ["--class-weights has 3", "2 classes"]),
    ("range not given", None, "--data data --normalization range", ["--normalization-range"]),
]

PREDICTION = [
    ("no such run", None, "--run nowhere --images data/images --output out", ["--run nowhere does not exist"]),
    ("no run", None, "--run data --images data/images --output out", ["data is no run folder"]),
    ("no images", None, "--run run --images nowhere --output out", ["--images nowhere does not exist"]),
    (
        "broken files only",
        lambda p: [(p / name).write_bytes(b"x") for name in ("a.png", "b.png")],
        "--run run --images a.png b.png --output out",
        ["a.png", "not readable", "other 1 cannot"],
    ),
    (
        "channels",
        lambda p: save(p / "rgb.png", np.zeros((8, 8, 3), np.uint8)),
        "--run run --images rgb.png --output out",
        ["rgb.png has 3 channels", "1"],
    ),
    ("would overwrite", None, "--run run --images data/images --output data/images", ["exists already"]),
    ("tile size", None, "--run run --images data/images --output out --tile-size 0", ["--tile-size is 0", "1024"]),
    (
        "one stem twice",
        lambda p: save(p / "patient-000_slice-00.bmp", GRAY),
        "--run run --images data/images patient-000_slice-00.bmp --output out",
        ["one name"],
    ),
    (
        "output is a file",
        lambda p: (p / "out").touch(),
        "--run run --images data/images --output out",
        ["--output out"],
    ),
    ("no weights", lambda p: shutil.rmtree(p / "run/best"), "--run run --images data/images --output o", ["best"]),
    ("missing flag", None, "--run run --images data/images", ["--output"]),
]

PREDICTION_BY_KERAS = [
    ("no model", None, "--run run --images data/images --output out --model no.keras", ["no.keras does not exist"]),
    ("no Keras file", None, "--run run --images data/images --output out --model run", ["run is no .keras file"]),
    (
        "broken model",
        lambda p: (p / "m.keras").write_bytes(b"x" * 100),
        "--run run --images data/images --output out --model m.keras",
        ["m.keras cannot be read as a Keras model"],
    ),
]

EXPORT = [
    ("no such run", None, "--run nowhere --output m.keras", ["--run nowhere does not exist"]),
    ("no Keras name", None, "--run run --output model.h5", ["--output is model.h5", ".keras"]),
    ("exists", lambda p: (p / "m.keras").touch(), "--run run --output m.keras", ["m.keras exists already"]),
    ("below a file", lambda p: (p / "file").touch(), "--run run --output file/m.keras", ["--output file/m.keras"]),
]

COMPARISON = [
    ("folder in use", None, "--output data", ["--output data is not empty", "another name"]),
    ("a file", lambda p: (p / "out").touch(), "--output out", ["--output out is a file"]),
    ("patience", None, "--output out --patience 3", ["--patience", "the same steps"]),
    ("averages", None, "--output out --ema-decay 0.9", ["--ema-decay is 0.9", "Keras"]),
    ("bad data", None, "--output out --data nowhere", ["lowlevel training", "--data nowhere is not a folder"]),
]

CROSS_VALIDATION = [
    ("one fold", None, "--data data --folds 0", ["--folds is 0", "at least 2"]),
    ("too many folds", None, "--data data --folds 50", ["--folds is 50", "12"]),
    ("a fold", None, "--data data --fold 1", ["--fold is no flag"]),
    ("a list", None, "--data data --validation-list x", ["--validation-list is no flag"]),
    ("folder in use", None, "--data data --run run", ["--run run is the run folder of one training"]),
    ("resume what", None, "--resume", ["--resume needs --run"]),
    ("resume no cross-validation", None, "--resume --run run", ["run is no cross-validation"]),
    (
        "one name for two",
        lambda p: (
            [save(p / "data" / k / "a_probability.png", np.zeros((9, 9), np.uint8)) for k in ("images", "masks")]
            + [save(p / "data" / k / "a.png", np.zeros((9, 9), np.uint8)) for k in ("images", "masks")]
        ),
        "--data data --run new",
        ["a_probability.png", "rename"],
    ),
]

EVALUATION = [
    ("no such run", None, "--run nowhere --output out", ["--run nowhere does not exist"]),
    (
        "held-out images missing",
        lambda p: [f.unlink() for k in ("images", "masks") for f in (p / "data" / k).glob("*slice-00*")],
        "--run run --data data --output out",
        ["--split validation", "--split all"],
    ),
    ("results exist", lambda p: (p / "metrics.json").touch(), "--run run --data data --output .", ["exists already"]),
    ("unknown split", None, "--run run --split test --output out", ["split", "'test'"]),
    ("pictures", None, "--run run --output out --pictures -1", ["--pictures is -1"]),
]

PHANTOMS = [
    ("folder in use", None, "--output data", ["data already holds something"]),
    ("no slices", None, "--output out --count 0", ["--count is 0"]),
]

CASES = [
    (command, *case)
    for command, cases in (
        (train, TRAINING),
        (predict, PREDICTION),
        (predict_by_keras, PREDICTION_BY_KERAS),
        (export, EXPORT),
        (compare, COMPARISON),
        (cross_validate, CROSS_VALIDATION),
        (evaluate, EVALUATION),
        (phantoms, PHANTOMS),
    )
    for case in cases
]


def test_keras_cannot_average_weights(place, capsys):
    before = on_disk(place)
    assert train.main(["--data", "data", "--ema-decay", "0.9"], "keras") == 2
    assert "--ema-decay is 0.9" in capsys.readouterr().err
    assert on_disk(place) == before


@pytest.mark.parametrize(
    ("command", "prepare", "flags", "words"),
    [(command, *case) for command, _, *case in CASES],
    ids=[f"{command.__name__.split('.')[-1]}: {name}" for command, name, *_ in CASES],
)
def test_one_sentence_and_nothing_changed(command, prepare, flags, words, place, capfd):
    if prepare:
        prepare(place)
    refused(command, flags.split() if isinstance(flags, str) else flags, words, place, capfd)


def test_debug_shows_the_traceback(place, capsys):
    assert train.main(["--data", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
