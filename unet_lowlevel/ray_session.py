"""Ray, for work of many processes: the cluster at hand, or one on this machine for as long as the work lasts."""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_lowlevel.errors import UserError, cut, reason
from unet_lowlevel.machine import quiet
from unet_lowlevel.terminal import complain

NO_RAY = "--cluster ray needs Ray: pip install 'unet-lowlevel[cluster]'."
# Bytes of shared memory for what Ray's processes hand each other: here only names and numbers.
SHARED_MEMORY = 2**27
# Where this package lies.
PLACE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Share:
    """What each of the workers gets of a cluster.

    Attributes:
        workers: their number.
        cpus: processors for each.
        gpus: graphics processors for each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int


def check_ray() -> None:
    """Raises a `UserError` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(NO_RAY)


@contextlib.contextmanager
def ray_session(workers: int = 0) -> Iterator[Share]:
    """Connects to a cluster of Ray, or starts one, and leaves it at the end; meanwhile stdout is Ray's, and is lost.

    That of RAY_ADDRESS is taken, or that of `ray start` on this machine, or one is started here. In a process that is
    connected already, as a notebook may be, its cluster is taken, and stays.

    Args:
        workers: 0: one for each machine.

    Raises:
        UserError: without Ray, where the cluster does not answer, and for more workers than processors.
    """
    check_ray()
    complain("starting Ray ...")
    import ray

    connected = ray.is_initialized()
    if not connected:
        start(max(workers, os.cpu_count() or 1))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
            gpus = sum(machine.get("GPU", 0) for machine in machines)
            yield share([int(machine["CPU"]) for machine in machines], gpus, workers)
        finally:
            if not connected:
                ray.shutdown()


def failed(error: BaseException, remedy: str) -> UserError:
    """What to raise for an error of Ray, whose last line tells what has happened."""
    return UserError(f"--cluster ray has failed ({cut(str(error).strip().splitlines()[-1])}): {remedy}.")


def start(processors: int, variables: Mapping[str, str] | None = None) -> None:
    """Connects to the cluster at hand, or starts one on this machine that has so many processors.

    Args:
        processors: their number.
        variables: those of the environment of all its processes, wherever they are; None: as they are there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    # Its processes find this package, and are not nicer than this one.
    os.environ["PYTHONPATH"] = python_path()
    os.environ.setdefault("RAY_worker_niceness", "0")
    own = {"num_cpus": processors, "object_store_memory": SHARED_MEMORY, "include_dashboard": False}
    always = {
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "runtime_env": variables and {"env_vars": dict(variables)},
    }
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in this place
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        check_answer(address)
        with quiet():
            try:
                ray.init(**always, **own)
            except ValueError:  # there is a cluster, whose processors are what they are
                ray.init(**always)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"RAY_ADDRESS {address} is" if address else "The cluster of Ray is"
        raise UserError(
            f"{where} not to be reached ({reason(error)}): start it, set RAY_AUTH_MODE=token if it wants its token, or "
            "unset RAY_ADDRESS."
        ) from None
    finally:
        if handler is not signal.SIG_DFL:  # with which SIGTERM would end this process, and not Ray's
            signal.signal(signal.SIGTERM, handler)


def check_answer(address: str) -> None:
    """Raises an `OSError` if nobody answers at HOST:PORT or ray://HOST:PORT, for which Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def python_path() -> str:
    """PYTHONPATH for processes that are to find this package, in a checkout too."""
    return os.pathsep.join(filter(None, [PLACE, os.environ.get("PYTHONPATH")]))


def share(processors: Sequence[int], gpus: float, workers: int = 0) -> Share:
    """The share of each worker in machines of so many processors: as many as each can have.

    Args:
        processors: of each machine.
        gpus: graphics processors of all of them.
        workers: 0: one for each machine.
    """
    workers = workers or len(processors)
    if workers > sum(processors):
        raise UserError(
            f"--workers {workers} is more than the {sum(processors)} processors of the cluster: give at most as many."
        )
    fitting = (each for each in range(max(processors), 0, -1) if sum(n // each for n in processors) >= workers)
    return Share(workers, next(fitting), int(gpus >= workers))
