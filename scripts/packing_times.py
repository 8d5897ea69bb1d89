"""Measures packed data beside files."""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

TRAIN = "train --base-channels 4 --depth 3 --epochs 1 --batch-size 64 --pictures 0 --plan off --no-check"


def draw(folder: Path, count: int) -> None:
    """Discs of 64x64 with noise, and their masks, as PNG; those that are there are kept."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:64, :64]
    for i in range(count):
        if (folder / "masks" / f"i{i:05d}.png").exists():
            continue
        random = np.random.default_rng(i)
        mask = np.zeros((64, 64), bool)
        for _ in range(random.integers(1, 4)):
            (a, b), radius = random.uniform(8, 56, 2), random.uniform(4, 14)
            mask |= (y - a) ** 2 + (x - b) ** 2 < radius * radius
        image = 60 + random.uniform(-0.5, 0.5) * y + random.uniform(-0.5, 0.5) * x + random.normal(0, 6, (64, 64))
        image += 90 * ndimage.gaussian_filter(mask.astype(float), 1)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / "images" / f"i{i:05d}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"i{i:05d}.png")


def measured(command: str) -> dict[str, float]:
    """Runs a command of the package; seconds, seconds of computing, and the peak of its memory in MiB."""
    start = time.perf_counter()
    python = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "unet_lowlevel", *command.split()])
    _, status, used = os.wait4(python, 0)
    if status:
        sys.exit(f"{command} has failed")
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "cpu": round(used.ru_utime + used.ru_stime, 1), "peak": used.ru_maxrss >> 10}


def size(folder: Path) -> dict[str, int]:
    """Number of files, their bytes, and the bytes that they take on the disk."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {
        "files": len(stats),
        "bytes": sum(each.st_size for each in stats),
        "on_disk": 512 * sum(each.st_blocks for each in stats),
    }


def weights(run: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run / "best").glob("*.data*"))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Draws many small images, packs them, trains on the files and on the packed data, and predicts."
    )
    parser.add_argument("--folder", metavar="DIR", type=Path, required=True, help="for all of it, on a disk with room")
    parser.add_argument("--count", metavar="N", type=int, default=50000, help="images (default: %(default)s)")
    parser.add_argument("--output", metavar="FILE.json", type=Path, required=True, help="the figures")
    arguments = parser.parse_args(argv)
    folder = arguments.folder
    draw(folder / "files", arguments.count)
    found = {
        "images": arguments.count,
        "pack": measured(f"pack --data {folder}/files --output {folder}/packed"),
        "train_packed": measured(f"{TRAIN} --data {folder}/packed --run {folder}/run_packed"),
        "train_files": measured(f"{TRAIN} --data {folder}/files --run {folder}/run_files"),
        "predict_packed": measured(
            f"predict --run {folder}/run_packed --images {folder}/packed --output {folder}/masks"
        ),
        "size_files": size(folder / "files"),
        "size_packed": size(folder / "packed"),
        "same_weights": weights(folder / "run_packed") == weights(folder / "run_files"),
    }
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0
