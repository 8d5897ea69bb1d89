"""Where the time of a training step and of a prediction goes: what oneDNN says of each operation that it runs."""

import collections
import re
import statistics
from collections.abc import Iterable

from benchmark.peers import Task, Worker
from unet_lowlevel.markdown import markdown_table

# batch, channels and sides of a convolution: mb4_ic16oc32_ih256oh128kh3..._iw256ow128kw3...
SHAPE = re.compile(r"mb(\d+)_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+)\w*_iw\d+ow(\d+)kw(\d+)")
IDENTITY = re.compile(r"_ic(\d+)oc\1_\w*kh1s\w*kw1s")


def profile(task: Task, work: str, steps: int) -> dict:
    """Milliseconds of a step of "training" or "inference", and of what oneDNN runs in it.

    Returns:
        {milliseconds: of a step, rows: [{operation, calls: in a step, milliseconds: in a step, gflops: GFLOP/s of a
        convolution, else None}], the longest first}; no rows where TensorFlow does not use oneDNN.
    """
    worker = Worker("ours", f"logged_{work}", task)
    try:
        for times in (3, steps):  # the first are not counted
            worker.send(times)
            message = worker.receive()
    finally:
        worker.close()
    times: dict[str, list[float]] = collections.defaultdict(list)
    operations: collections.Counter[str] = collections.Counter()
    for line in message["output"]:
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
    return {"milliseconds": 1e3 * statistics.median(message["seconds"]), "rows": rows}


def convolution_seconds(lines: Iterable[str]) -> float:
    """Seconds of all convolutions in the lines, without those that stand in for an activation (`fast.shifted_elu`)."""
    found = 0.0
    for line in lines:
        name, milliseconds, _ = executed(line)
        if name.startswith("convolution") and not IDENTITY.search(line):
            found += milliseconds / 1e3
    if not found:
        raise ValueError("TensorFlow computes no convolution by oneDNN")
    return found


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
    lines = []
    for (work, precision), found in profiles.items():
        whole = found["milliseconds"]
        rest = whole - sum(row["milliseconds"] for row in found["rows"])
        outside = {"operation": "outside of oneDNN", "calls": None, "milliseconds": rest, "gflops": None}
        for row in [*found["rows"], outside, {**outside, "operation": "all", "milliseconds": whole}]:
            calls = "" if row["calls"] is None else f"{row['calls']:g}"
            speed = "" if row["gflops"] is None else f"{row['gflops']:.0f}"
            share = f"{100 * row['milliseconds'] / whole:.0f} %"
            lines.append([work, precision, row["operation"], calls, f"{row['milliseconds']:.1f}", share, speed])
    head = ["", "precision", "what oneDNN runs", "calls", "milliseconds", "share", "GFLOP/s"]
    return markdown_table(head, lines)
