"""Memory of the machine, and a silent import of TensorFlow."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY_INFORMATION = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes available without swapping; None if the system does not report them."""
    try:
        lines = MEMORY_INFORMATION.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def peak_bytes() -> int:
    """Peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss`, which on Linux includes the parent process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what libraries print to stderr by themselves, which none of their settings turns off."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def start_tensorflow() -> None:
    """Imports TensorFlow without a word. Call it after the arguments are checked: it takes seconds."""
    with quiet():
        import tensorflow  # noqa: F401
