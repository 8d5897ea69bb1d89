"""Training in workers that Ray starts, and starts again when one is lost."""

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from unet_lowlevel.errors import UserError, WorkerLost, reason
from unet_lowlevel.ray_session import NO_RAY, python_path, start

# How often Ray starts all workers again. Each time the training goes on from its last checkpoint.
RESTARTS = 10


def train_on_ray(main: Callable, flags: list[str], run: Path, workers: int) -> int:
    """Runs the training command in processes of a Ray cluster: the one at hand, else one on this machine.

    Args:
        main: the command.
        flags: those of it. Its --run and --cluster count no more.
        run: the run folder, which the process of worker 0 writes.
        workers: how many processes.

    Returns:
        the command's exit code.

    Raises:
        UserError: without Ray, or when it gives up.
    """
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer
        from ray.util.queue import Queue
    except ImportError:
        raise UserError(NO_RAY) from None
    # What the workers say comes through the queue, and nothing else.
    start(workers, {"PYTHONPATH": python_path(), "TF_CPP_MIN_LOG_LEVEL": "3"})
    lines = Queue(actor_options={"num_cpus": 0})
    listener = threading.Thread(target=repeat, args=(lines,))
    listener.start()
    command = {
        "main": main,
        "called": sys.argv[0],
        "flags": flags,
        "run": str(run.absolute()),
        "folder": str(Path.cwd()),
        "lines": lines,
    }
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= workers
        return (
            TensorflowTrainer(
                work,
                train_loop_config=command,
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
                run_config=RunConfig(failure_config=FailureConfig(max_failures=RESTARTS)),
            )
            .fit()
            .return_value
        )
    except ray.train.TrainingFailedError as error:
        raise UserError(
            f"Ray gave up after {RESTARTS} restarts ({reason(error)}): go on with --run {run} --resume."
        ) from None
    finally:
        lines.put(None)
        listener.join()
        ray.shutdown()


class Lines(io.TextIOBase):
    """A stream whose text goes into a queue, each time with whether it is an error."""

    def __init__(self, queue, is_error: bool):
        self.queue, self.is_error = queue, is_error

    def write(self, text: str) -> int:
        self.queue.put((text, self.is_error))
        return len(text)


def repeat(lines) -> None:
    """Prints what comes out of a queue of `Lines`, until it is None."""
    while (line := lines.get()) is not None:
        text, is_error = line
        stream = sys.stderr if is_error else sys.stdout
        stream.write(text)
        stream.flush()


def work(command: dict) -> int:
    """What each worker does; Ray has set TF_CONFIG.

    Raises:
        WorkerLost: when another worker is lost; Ray then starts all of them again.
    """
    logging.disable(logging.INFO)  # Ray turns on what TensorFlow and Ray itself note
    os.chdir(command["folder"])
    sys.argv[0] = command["called"]  # for the commands that it prints
    flags = command["flags"]
    if "--resume" not in flags and Path(command["run"], "config.json").exists():  # it was started again
        flags = ["--resume", "--strategy", "multiworker"]
    out, errors = Lines(command["lines"], False), Lines(command["lines"], True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = command["main"]([*flags, "--run", command["run"], "--cluster", "tf_config"])
    if code == WorkerLost.exit_code:
        raise WorkerLost("another worker was lost")
    return code
