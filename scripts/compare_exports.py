"""Compare the forms of `export` with the run on its held-out images: python scripts/compare_exports.py --help"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.data.splits import pairs_of
from unet_lowlevel.export import QUANTIZED
from unet_lowlevel.export.litert import read_some, write_litert
from unet_lowlevel.export.onnx_file import write_onnx
from unet_lowlevel.export.parity import OPENED, difference
from unet_lowlevel.export.saved_model import write_saved_model
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.scoring.counts import class_scores, confusion_counts


def written(run: Path, predictor: Predictor, folder: Path) -> dict[str, tuple[str, Path]]:
    """Every form of the run: {what: (--format, path)}."""
    found = {"SavedModel": ("saved_model", folder / "saved_model"), "ONNX": ("onnx", folder / "run.onnx")}
    write_saved_model(predictor, found["SavedModel"][1])
    plain = load(run, plain=True, precision="float32").networks[0].model
    write_onnx(plain, predictor.config, found["ONNX"][1])
    pairs = pairs_of(find_pairs(predictor.config.data), predictor.split, "training")
    images = read_some([pair.image for pair in pairs], predictor.config)
    for kind in QUANTIZED:
        name = f"LiteRT, {'float32' if kind == 'none' else kind}"
        found[name] = "litert", folder / f"{kind}.tflite"
        write_litert(predictor, found[name][1], kind, images)
    return found


def dice(label: np.ndarray, mask: np.ndarray, classes: int) -> float:
    """Mean Dice of the foreground classes."""
    counts = confusion_counts(label[np.newaxis].astype(np.int32), mask[np.newaxis].astype(np.int32), max(classes, 2))
    return float(np.mean(class_scores(counts.numpy()[0])["dice"][1:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Exports a run in every form, predicts its held-out images by each, in turn, and prints a table."
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder that training wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    arguments = parser.parse_args()
    predictor = load(arguments.run, precision="float32")
    classes = predictor.config.model.classes
    pairs = pairs_of(find_pairs(predictor.config.data), predictor.split, "validation")
    rows: dict[str, dict[str, list]] = {}
    with tempfile.TemporaryDirectory() as folder:
        forms = written(arguments.run, predictor, Path(folder))
        sizes = {
            what: sum(file.stat().st_size for file in [path, *path.rglob("*")]) for what, (_, path) in forms.items()
        }
        runs = {what: OPENED[form](path) for what, (form, path) in forms.items()}
        for sample in decoded(pairs, predictor.config):
            images = sample.image[np.newaxis].astype(np.float32)
            for _ in range(2):  # the first one prepares for a new size
                start = time.perf_counter()
                expected = predictor.predict(sample.image)
                seconds = {"predict": time.perf_counter() - start}
                found = {}
                for what, run in runs.items():
                    start = time.perf_counter()
                    found[what] = run(images)
                    seconds[what] = time.perf_counter() - start
            for what in ("predict", *runs):
                mask = found[what]["mask"][0] if what in found else expected.mask
                far, differing = difference(found[what], expected) if what in found else (0.0, 0.0)
                row = rows.setdefault(what, {"far": [], "differing": [], "dice": [], "milliseconds": []})
                row["far"].append(far)
                row["differing"].append(differing)
                row["dice"].append(dice(sample.label, mask, classes))
                row["milliseconds"].append(round(1000 * seconds[what], 2))
    arguments.output.write_text(json.dumps({"bytes": sizes, "images": rows}, indent=1) + "\n")
    print("| form | MB | largest difference of a probability | pixels of another class | mean Dice | milliseconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, row in rows.items():
        size = f"{sizes[what] / 1e6:.1f}" if what in sizes else ""
        cells = [what, size, f"{max(row['far']):.1e}", f"{100 * np.mean(row['differing']):.2g} %"]
        cells += [f"{np.mean(row['dice']):.4f}", f"{statistics.median(row['milliseconds']):.0f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
