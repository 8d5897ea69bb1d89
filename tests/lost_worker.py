"""Kills a worker in the middle of a large collection: `python tests/lost_worker.py --images 2000`.

Every image has to be predicted once, and every mask is held, byte for byte, to that of a prediction without a cluster.
Then both predict in turn, the cluster by one worker: the time from the first mask to the last is compared.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(images: Path, output: Path, *flags: str) -> subprocess.Popen:
    """Predicts in a process of its own, whose standard error is OUTPUT.log."""
    command = [
        sys.executable,
        "-m",
        "unet_lowlevel",
        "predict",
        "--run",
        "demo",
        "--images",
        images,
        "--output",
        output,
    ]
    with Path(f"{output}.log").open("w") as log:
        return subprocess.Popen(
            [*map(str, command), *flags],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )


def workers_of(process: subprocess.Popen) -> list[int]:
    """The numbers of the processes in which the cluster that a process has started predicts."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_text().startswith("ray::") and "ByRay" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            pass
    return [number for number in found if process.pid in (parents.get(number), parents.get(parents.get(number)))]


def kill_one(process: subprocess.Popen, output: Path, count: int) -> list[dict]:
    """Kills a worker once so many masks are written; returns the lines of the notes until then."""
    while len(list(output.glob("*.png"))) < count:
        assert process.poll() is None, f"{output}.log tells why it has ended"
        time.sleep(0.05)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    time.sleep(0.5)
    return [json.loads(line) for note in output.glob("predict_*.jsonl") for line in note.read_text().splitlines()[:-1]]


def masks_in(output: Path) -> dict[str, tuple[bytes, int]]:
    """{name: (content, when it was written in nanoseconds)}."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in output.glob("*.png")}


def seconds_between_masks(output: Path) -> float:
    """From the first mask to the last."""
    times = [path.stat().st_mtime for path in output.glob("*.png")]
    return max(times) - min(times)


def compare(folder: Path, count: int, rounds: int) -> None:
    """Kills, compares, and prints what was found."""
    images = folder / "phantoms" / "images"
    drawn = ["--output", str(images.parent), "--count", str(count), "--height", "128", "--width", "128"]
    subprocess.run([sys.executable, "-m", "unet_lowlevel", "phantoms", *drawn], check=True, cwd=ROOT)
    assert start(images, folder / "alone").wait() == 0
    process = start(images, folder / "killed", "--cluster", "ray", "--workers", "2")
    lines = kill_one(process, folder / "killed", count // 3)
    before = masks_in(folder / "killed")
    assert process.wait() == 0, (folder / "killed.log").read_text()
    alone, after = masks_in(folder / "alone"), masks_in(folder / "killed")
    assert len(after) == count and {name: mask for name, (mask, _) in after.items()} == {
        name: mask for name, (mask, _) in alone.items()
    }
    assert all(after[name] == mask for name, mask in before.items()), "a mask was written twice"
    assert len({line["file"] for line in lines if "file" in line}) == sum("file" in line for line in lines)
    print((folder / "killed.log").read_text().strip())
    print(f"{count} masks, {len(before)} of them before the kill: each written once, all as without a cluster")
    seconds: dict[str, list[float]] = {"alone": [], "ray": []}
    for number in range(rounds):
        for name, flags in (("alone", []), ("ray", ["--cluster", "ray", "--workers", "1"])):
            output = folder / f"{name}_{number}"
            assert start(images, output, *flags).wait() == 0
            seconds[name].append(seconds_between_masks(output))
            print(f"{name}: {seconds[name][-1]:.1f} s from the first mask to the last", flush=True)
    if rounds:
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        print(
            f"medians {medians['alone']:.1f} and {medians['ray']:.1f} s: {medians['ray'] / medians['alone'] - 1:+.0%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of the comparison of times (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.images, arguments.rounds)


if __name__ == "__main__":
    main()
