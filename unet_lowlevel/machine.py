"""What the machine has and tells: memory, and a TensorFlow that keeps quiet."""

import os
import sys
from pathlib import Path

MEMORY_INFORMATION = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell."""
    try:
        lines = MEMORY_INFORMATION.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def peak_bytes() -> int:
    """Resident memory of this process at its highest."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux counts the process that this one was started from into `ru_maxrss`.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def start_tensorflow() -> None:
    """Imports TensorFlow without what it prints meanwhile, which no setting of its own turns off.

    Called when the arguments are known to be right, since it takes seconds.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
