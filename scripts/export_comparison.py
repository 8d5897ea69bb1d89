"""The forms of `export` beside the run, on its held-out images: sizes, differences, times."""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from unet_lowlevel.cli.arguments import Parser, check_runs, run_command, run_named
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.data.splits import pairs_of
from unet_lowlevel.errors import UserError
from unet_lowlevel.export import QUANTIZED
from unet_lowlevel.machine import quiet, start_tensorflow
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.packages import optional_package
from unet_lowlevel.terminal import say, show_path


def written(run: Path, predictor, folder: Path) -> dict[str, tuple[str, Path]]:
    """Every form of the run and its `predictor`: {what: (--format, path)}."""
    from unet_lowlevel.export.litert import read_some, write_litert
    from unet_lowlevel.export.onnx_file import write_onnx
    from unet_lowlevel.export.saved_model import write_saved_model
    from unet_lowlevel.inference.predictor import load

    found = {"SavedModel": ("saved_model", folder / "saved_model"), "ONNX": ("onnx", folder / "run.onnx")}
    write_saved_model(predictor, found["SavedModel"][1])
    plain = load(run, plain=True, precision="float32").networks[0].model
    write_onnx(plain, predictor, found["ONNX"][1])
    pairs = pairs_of(find_pairs(predictor.config.data), predictor.split, "training")
    images = read_some([pair.image for pair in pairs], predictor.config)
    for kind in QUANTIZED:
        name = f"LiteRT, {'float32' if kind == 'none' else kind}"
        found[name] = "litert", folder / f"{kind}.tflite"
        write_litert(predictor, found[name][1], kind, images)
    return found


def dice(label: np.ndarray, mask: np.ndarray, classes: int) -> float:
    """Mean Dice of the foreground classes."""
    from unet_lowlevel.scoring.counts import class_scores, confusion_counts

    counts = confusion_counts(label[np.newaxis].astype(np.int32), mask[np.newaxis].astype(np.int32), max(classes, 2))
    return float(np.mean(class_scores(counts.numpy()[0])["dice"][1:]))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Exports a run in every form, predicts its held-out images by each, in turn, and prints a table.",
        "compare-exports",
    )
    parser.add_argument("--run", type=run_named, required=True, metavar="DIR", help="run folder that training wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    return run_command(compare, parser, argv)


def compare(arguments: argparse.Namespace) -> None:
    run = Path(arguments.run)
    check_runs(arguments.run)
    if not arguments.output.parent.is_dir():
        raise UserError(f"--output {arguments.output} lies in no folder that exists: make it, or name another file.")
    for package in ("onnx", "onnxruntime", "ai_edge_litert"):
        optional_package(package, "this comparison", "export")
    start_tensorflow()
    from unet_lowlevel.export.parity import OPENED, difference
    from unet_lowlevel.inference.predictor import load

    predictor = load(run, precision="float32")
    classes = predictor.config.model.classes
    pairs = pairs_of(find_pairs(predictor.config.data), predictor.split, "validation")
    rows: dict[str, dict[str, list]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            forms = written(run, predictor, Path(folder))
        sizes = {
            what: sum(file.stat().st_size for file in [path, *path.rglob("*")]) for what, (_, path) in forms.items()
        }
        with quiet():
            opened = {what: OPENED[form](path) for what, (form, path) in forms.items()}
        for sample in decoded(pairs, predictor.config):
            images = sample.image[np.newaxis].astype(np.float32)
            for _ in range(2):  # the first one prepares for a new size
                start = time.perf_counter()
                expected = predictor.predict(sample.image)
                seconds = {"predict": time.perf_counter() - start}
                found = {}
                for what, predict in opened.items():
                    start = time.perf_counter()
                    found[what] = predict(images)
                    seconds[what] = time.perf_counter() - start
            for what in ("predict", *opened):
                mask = found[what]["mask"][0] if what in found else expected.mask
                far, differing = difference(found[what], expected) if what in found else (0.0, 0.0)
                row = rows.setdefault(what, {"far": [], "differing": [], "dice": [], "milliseconds": []})
                row["far"].append(far)
                row["differing"].append(differing)
                row["dice"].append(dice(sample.label, mask, classes))
                row["milliseconds"].append(round(1000 * seconds[what], 2))
    arguments.output.write_text(json.dumps({"bytes": sizes, "images": rows}, indent=1) + "\n")
    lines = []
    for what, row in rows.items():
        size = f"{sizes[what] / 1e6:.1f}" if what in sizes else ""
        cells = [what, size, f"{max(row['far']):.1e}", f"{100 * np.mean(row['differing']):.2g} %"]
        cells += [f"{np.mean(row['dice']):.4f}", f"{statistics.median(row['milliseconds']):.0f}"]
        lines.append(cells)
    head = ["form", "MB", "largest difference of a probability", "pixels of another class", "mean Dice", "milliseconds"]
    say(markdown_table(head, lines))
    say(f"wrote {show_path(arguments.output)}")
