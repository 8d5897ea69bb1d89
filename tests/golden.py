"""Holds a checkout to what another one computes, bit for bit: for a change that must not change any number.

    python tests/golden.py --checkout OLD --write golden.json
    python tests/golden.py --checkout NEW --compare golden.json

Six configurations are trained for 20 steps, evaluated and used to predict, through the scripts of the checkout. What is
compared are the weights that are kept, those of the newest checkpoint's network, history.csv without its times, every
mask and every score. Bits are those of one machine: write and compare on the same.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TIMES = ("seconds", "images_per_second")
SHORT = ["--epochs", "2", "--steps-per-epoch", "10", "--seed", "3"]
PATIENTS = ["--data", "DATA/phantoms", "--group-regex", r"patient-\d+"]
# {configuration: flags of training}
CONFIGURATIONS = {
    "default": PATIENTS,
    "original": [*PATIENTS, "--preset", "original"],
    "paper": [*PATIENTS, "--preset", "paper", "--base-channels", "8", "--depth", "3", "--crop-size", "0"],
    "bfloat16": [*PATIENTS, "--precision", "bfloat16", "--ema-decay", "0.9", "--clip-norm", "0.5"],
    "classes": [
        *("--data", "DATA/cells", "--classes", "3", "--weight-map", "--elastic", "10", "--rotation", "20"),
        *("--depth", "3", "--dropout-rate", "0.1"),
    ],
    "streamed": [*PATIENTS, "--stream", "--recompute", "--depth", "4", "--optimizer", "sgd", "--nesterov"],
}
SCORES = ["--scores", "instances,surfaces,boundaries", "--bootstrap", "20"]


def write_cells(folder: Path) -> None:
    """Images [64, 80] of discs of two classes, some of which touch, with class masks and instance labels."""
    from skimage import io

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :80]
    for kind in ("images", "masks", "instances"):
        (folder / kind).mkdir(parents=True)
    for index in range(10):
        mask, instances = np.zeros((2, 64, 80), np.uint8)
        for number in range(1, 9):
            row, column, radius = rng.uniform(5, 59), rng.uniform(5, 75), rng.uniform(5, 11)
            disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            mask[disc], instances[disc] = 1 + number % 2, number
        image = (60 + 70 * mask + rng.normal(0, 20, mask.shape)).clip(0, 255).astype(np.uint8)
        for kind, pixels in (("images", image), ("masks", mask), ("instances", instances)):
            io.imsave(folder / kind / f"cells-{index}.png", pixels, check_contrast=False)


def variables(folder: Path) -> dict[str, np.ndarray]:
    """{name: value} of the kept weights."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder))
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("variables/")]
    return {name.removesuffix(suffix).replace(".S", "/"): reader.get_tensor(name) for name in names}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def facts(checkout: Path, data: Path, work: Path, name: str, more: list[str]) -> dict:
    """What one configuration comes to."""
    run = work / name
    environment = os.environ | {"PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def command(script: str, *flags: str) -> None:
        line = [sys.executable, checkout / "scripts" / f"{script}.py", *flags]
        code = subprocess.run(line, env=environment, cwd=work).returncode
        if code and (script, code) != ("train_lowlevel", 1):  # so few steps may have taught to find nothing
            raise subprocess.CalledProcessError(code, line)

    flags = [flag.replace("DATA", str(data)) for flag in CONFIGURATIONS[name]]
    command("train_lowlevel", "--run", str(run), *flags, *SHORT, *more)
    with (run / "history.csv").open() as file:
        history = [{key: row[key] for key in row if key not in TIMES} for row in csv.DictReader(file)]
    images = data / ("cells" if name == "classes" else "phantoms") / "images"
    command("evaluate_lowlevel", "--run", str(run), "--output", str(work / f"{name}-scores"), *SCORES)
    command(
        *("predict_lowlevel", "--run", str(run), "--images", str(images), "--output", str(work / f"{name}-masks")),
        *("--probabilities", "--instances", "--overlays"),
    )
    command(
        *("predict_lowlevel", "--run", str(run), "--images", str(images), "--output", str(work / f"{name}-flips")),
        *("--probabilities", "--average-flips", "--tile-size", "48"),
    )
    files = sorted([*(work / f"{name}-masks").iterdir(), *(work / f"{name}-flips").iterdir()])
    return {
        "weights": {key: digest(value.tobytes()) for key, value in sorted(variables(run / "best").items())},
        "history": history,
        "scores": json.loads((work / f"{name}-scores" / "metrics.json").read_text()),
        "per_image": digest((work / f"{name}-scores" / "per_image.csv").read_bytes()),
        "predictions": {f"{path.parent.name}/{path.name}": digest(path.read_bytes()) for path in files},
    }


def differences(old, new, place: str = "") -> list[str]:
    """Where two results differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [text for key in keys for text in differences(old.get(key), new.get(key), f"{place}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [text for i, pair in pairs for text in differences(*pair, f"{place}/{i}")]
    return [] if old == new else [f"{place}: {old} became {new}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="folder whose scripts are run")
    parser.add_argument("--write", type=Path, help="file for the results")
    parser.add_argument("--compare", type=Path, help="file of results to compare with")
    parser.add_argument("--only", choices=CONFIGURATIONS, nargs="+", default=list(CONFIGURATIONS))
    parser.add_argument("--keep", type=Path, help="folder that keeps the run folders")
    arguments, more = parser.parse_known_args()

    with tempfile.TemporaryDirectory() as folder:
        work = arguments.keep or Path(folder)
        data = work / "data"
        write_cells(data / "cells")
        make = [sys.executable, arguments.checkout / "scripts" / "make_phantoms.py", "--output", data / "phantoms"]
        size = ["--count", "24", "--height", "64", "--width", "80", "--slices-per-patient", "4"]
        subprocess.run([*make, *size], check=True, env=os.environ | {"PYTHONPATH": str(arguments.checkout)})
        results = {
            name: facts(arguments.checkout.resolve(), data.resolve(), work.resolve(), name, more)
            for name in arguments.only
        }
    if arguments.write:
        arguments.write.write_text(json.dumps(results, indent=1) + "\n")
    if not arguments.compare:
        return 0
    expected = json.loads(arguments.compare.read_text())
    found = differences({name: expected[name] for name in results}, results)
    print("\n".join(found) or f"{', '.join(results)}: not a bit has changed")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
