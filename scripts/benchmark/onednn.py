"""Where the time of a training step and of a prediction goes: what oneDNN says of each operation that it runs."""

import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmark.peers import Task
from unet_lowlevel.settings import to_json

# Runs in a process of its own, to whose output oneDNN writes. Operations run one after another, so that their times add
# up to that of a step.
RUN = """
import json, pathlib, statistics, sys
import tensorflow as tf
from benchmark import peer_ours, peers
from unet_lowlevel.settings import from_json

def use_threads(threads):
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)

peer_ours.use_threads = use_threads
given = json.load(sys.stdin)
config, folder = from_json(given["config"], "the task"), pathlib.Path(given["folder"])
task = peers.Task(config, given["precision"], given["threads"], folder, large_size=0)
peer = getattr(peer_ours, given["work"])(task)
peer.run(3)
print("begin", flush=True)
seconds, _ = peer.run(given["steps"])
print("end", statistics.median(seconds), flush=True)
"""
# batch, channels and sides of a convolution: mb4_ic16oc32_ih256oh128kh3..._iw256ow128kw3...
SHAPE = re.compile(r"mb(\d+)_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+)\w*_iw\d+ow(\d+)kw(\d+)")


def profile(task: Task, work: str, steps: int) -> dict:
    """Milliseconds of a step of "Training" or "Inference", and of what oneDNN runs in it.

    Returns:
        {milliseconds: of a step, rows: [{operation, calls: in a step, milliseconds: in a step, gflops: GFLOP/s of a
        convolution, else None}], the longest first}; no rows where TensorFlow does not use oneDNN.
    """
    given = {"config": to_json(task.config), "precision": task.precision, "threads": task.threads}
    given |= {"folder": str(task.folder), "work": work, "steps": steps}
    found = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(given).encode(),
        env=os.environ | {"ONEDNN_VERBOSE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    lines = found.stdout.decode().splitlines()
    begin, end = lines.index("begin"), next(i for i, line in enumerate(lines) if line.startswith("end "))
    times: dict[str, list[float]] = collections.defaultdict(list)
    operations: collections.Counter[str] = collections.Counter()
    for line in lines[begin:end]:
        name, milliseconds, work_done = executed(line)
        if name:
            times[name].append(milliseconds)
            operations[name] += work_done
    rows = [
        {
            "operation": name,
            "calls": len(each) / steps,
            "milliseconds": sum(each) / steps,
            "gflops": operations[name] / sum(each) / 1e6 if operations[name] else None,
        }
        for name, each in times.items()
    ]
    rows.sort(key=lambda row: -row["milliseconds"])
    return {"milliseconds": 1e3 * float(lines[end].split()[1]), "rows": rows}


def executed(line: str) -> tuple[str, float, int]:
    """Operation, milliseconds and floating-point operations of a line of oneDNN; "" of another line.

    onednn_verbose,v1,primitive,exec,cpu,convolution,KERNEL,forward_training,MEMORY,ATTRIBUTES,ALGORITHM,SHAPE,TIME
    """
    parts = line.split(",")
    if parts[0] != "onednn_verbose" or "exec" not in parts:
        return "", 0.0, 0
    kind, _, direction = parts[parts.index("exec") + 2 :][:3]
    shape = SHAPE.search(parts[-2])
    batch, into, out, height, rows, width, columns = map(int, shape.groups()) if shape else [0] * 7
    name = kind if direction == "undef" else f"{kind}, {direction.replace('_', ' ')}"
    return name, float(parts[-1]), 2 * batch * into * out * height * width * rows * columns


def table(profiles: dict[tuple[str, str], dict]) -> str:
    """The profiles by work and precision, as Markdown."""
    lines = ["| | precision | what oneDNN runs | calls | milliseconds | share | GFLOP/s |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for (work, precision), found in profiles.items():
        whole = found["milliseconds"]
        rest = whole - sum(row["milliseconds"] for row in found["rows"])
        outside = {"operation": "outside of oneDNN", "calls": None, "milliseconds": rest, "gflops": None}
        for row in [*found["rows"], outside, {**outside, "operation": "all", "milliseconds": whole}]:
            calls = "" if row["calls"] is None else f"{row['calls']:g}"
            speed = "" if row["gflops"] is None else f"{row['gflops']:.0f}"
            share = f"{100 * row['milliseconds'] / whole:.0f} %"
            cells = [work.lower(), precision, row["operation"], calls, f"{row['milliseconds']:.1f}", share, speed]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
