"""Memory of the machine, and silence of libraries: what they print, log and warn of, and the import of TensorFlow."""

import contextlib
import logging
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

MEMORY_INFORMATION = Path("/proc/meminfo")
# Two threads that redirect stderr at the same time would not restore it.
STDERR_AWAY = threading.RLock()


def available_memory() -> int | None:
    """Bytes available without swapping; None if the system does not report them."""
    try:
        lines = MEMORY_INFORMATION.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def images_at_once(count: int, threads: int = 0) -> int:
    """How many of `count` images are predicted at once.

    Of many images, one by each thread: threads that share an image wait for each other after every layer. Of few, one
    by all threads. 2 GiB for each are about what the default tiles take.

    Args:
        count: number of images.
        threads: this process's part of those of the machine, with as much of the memory; 0: all.
    """
    everything = os.cpu_count() or 1
    threads = min(threads or everything, everything)
    memory = (available_memory() or 2**40) * threads // everything
    return min(threads, max(memory // 2**31, 1)) if count >= 4 * threads else 1


def processor() -> str:
    """The name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return [*names, platform.processor()][0]


def peak_bytes() -> int:
    """Peak resident memory of this process, in bytes; 0 on Windows, where Python does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss`, which on Linux includes the parent process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if os.name == "nt":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what libraries print to stderr by themselves, which none of their settings turns off."""
    with STDERR_AWAY:
        if sys.stderr:
            sys.stderr.flush()
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(nowhere)


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Hides what libraries log, and their warnings: what matters they raise."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def start_tensorflow(at_once: int = 1, threads: int = 0) -> None:
    """Imports TensorFlow without a word. Call it after the arguments are checked: it takes seconds.

    An operation may use all threads of this process (0: of the machine), unless so many images are computed `at_once`:
    then one.
    """
    with quiet():
        import tensorflow as tf
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already
            tf.config.experimental.set_memory_growth(gpu, True)  # else it takes all memory at once
    if at_once > 1 or threads:
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already
            tf.config.threading.set_intra_op_parallelism_threads(1 if at_once > 1 else threads)
