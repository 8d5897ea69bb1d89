"""Kills one of two workers at random moments and starts both again: `python tests/kill_workers.py --kills 10`.

In the end weights, optimizer and history.csv are, bit for bit, those of two workers that nobody disturbed, and the
worker that was left has ended each time within a minute, with one sentence. Where it still waited for the other to
begin, it goes on waiting, and only the killed one is started again. With --ray Ray starts both again.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from kill_and_resume import FLAGS, assert_same_training, finish, start

MINUTE = 60.0


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def start_workers(run: Path, flags: list[str], errors: Path, count: int = 2, **options) -> list[BaseProcess]:
    """Trains in so many processes into `run`, going on with it if it has begun; see `start_worker`."""
    ports = free_ports(count)
    return [start_worker(i, ports, run, flags, errors, **options) for i in range(count)]


def start_worker(i: int, ports: list[int], run: Path, flags: list[str], errors: Path, **options) -> BaseProcess:
    """Worker i of those at the ports; see `kill_and_resume.start`. What it says on standard error is in errors-i."""
    goes_on = (run / "config.json").exists()
    flags = ["--run", str(run), "--strategy", "multiworker", *(["--resume"] if goes_on else flags)]
    workers = [f"127.0.0.1:{port}" for port in ports]
    config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
    return start(flags, of_worker(errors, i), cluster=json.dumps(config), **options)


def of_worker(errors: Path, i: int) -> Path:
    return errors.with_name(f"{errors.name}-{i}")


def ended(process: BaseProcess, patience: float) -> float:
    """Waits so many seconds for the end of a process; returns how long that took."""
    begin = time.monotonic()
    process.join(patience)
    return time.monotonic() - begin


def kill_one(run: Path, flags: list[str], errors: Path, victim: int, when: Callable[[], bool], **options) -> bool:
    """Kills worker `victim` of two as soon as `when` says; the other has to end within a minute, with one sentence.

    Returns:
        False if the training was done before.
    """
    ports = free_ports(2)
    workers = [start_worker(i, ports, run, flags, errors, **options) for i in range(2)]
    while workers[victim].is_alive() and not when():
        workers[victim].join(0.05)
    if not workers[victim].is_alive():
        for i, worker in enumerate(workers):
            finish(worker, of_worker(errors, i))
        return False
    workers[victim].kill()
    seconds = ended(workers[1 - victim], MINUTE)
    if workers[1 - victim].is_alive():  # it waits for the other, which was killed before they had met
        print(f"worker {victim} killed and started again, for which the other has waited")
        workers[victim] = start_worker(victim, ports, run, flags, errors, **options)
        for i, worker in enumerate(workers):
            ended(worker, 2 * MINUTE)
            assert worker.exitcode == 0, of_worker(errors, i).read_text()
        return True
    said = of_worker(errors, 1 - victim).read_text()
    print(f"worker {victim} killed; the other ended {seconds:.1f} s later: {said.strip()}")
    assert seconds < MINUTE
    assert workers[1 - victim].exitcode == 75 and said.startswith("error: ") and said.count("\n") == 1, said
    return True


def workers_of_ray(mark: str) -> list[int]:
    """The processes of Ray that train, of those that were given this variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            trains = b"RayTrainWorker" in (folder / "cmdline").read_bytes()
            if trains and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def kill_by_ray(run: Path, flags: list[str], kills: int) -> str:
    """Trains by two workers of Ray, and kills one of them so many times, each time after new steps were saved.

    Returns:
        what the command printed.
    """
    command = [sys.executable, Path(__file__).parents[1] / "scripts" / "train_lowlevel.py", "--run", run, *flags]
    mark = f"MARK={run}"
    with open(run.with_name("printed"), "w+") as printed:
        process = subprocess.Popen(
            [*command, "--strategy", "multiworker", "--cluster", "ray"],
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MARK": str(run)},
        )
        try:
            for kill in range(kills):
                seen, workers = set(run.glob("checkpoints/*.index")), []
                while process.poll() is None and (len(workers) < 2 or not set(run.glob("checkpoints/*.index")) - seen):
                    time.sleep(0.1)
                    workers = workers_of_ray(mark)
                time.sleep(random.uniform(0, 1) if kill else 0)
                assert process.poll() is None, f"the training ended after {kill} kills"
                os.kill(random.choice(workers), signal.SIGKILL)
                print(f"kill {kill + 1}", flush=True)
                while set(workers) & set(workers_of_ray(mark)):  # Ray ends the other as well
                    time.sleep(0.1)
            process.wait()
        finally:
            process.terminate()
        printed.seek(0)
        output = printed.read()
    assert process.returncode == 0, output
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    from unet_lowlevel.data.phantoms.phantom import write_phantoms

    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data, errors, disturbed, undisturbed = (place / name for name in ("data", "errors", "disturbed", "undisturbed"))
        write_phantoms(data, 12, (32, 32), slices_per_patient=3, seed=0)
        epochs = str(10 * arguments.kills if arguments.ray else 20)
        flags = ["--data", str(data), "--plan", "off", "--no-check", "--epochs", epochs, *FLAGS]
        begin = time.monotonic()
        for i, worker in enumerate(start_workers(undisturbed, flags, errors)):
            finish(worker, of_worker(errors, i))
        seconds = time.monotonic() - begin
        print(f"undisturbed: {seconds:.1f} s")
        if arguments.ray:
            kill_by_ray(disturbed, flags, arguments.kills)
            assert_same_training(undisturbed, disturbed)
            print(f"{arguments.kills} kills: the same as the undisturbed training, bit for bit")
            return
        kills = trainings = 0
        while kills < arguments.kills:
            end = time.monotonic() + random.uniform(0, seconds)
            if kill_one(disturbed, flags, errors, random.randrange(2), lambda end=end: time.monotonic() > end):
                kills += 1
                continue
            assert_same_training(undisturbed, disturbed)
            shutil.rmtree(disturbed)
            trainings += 1
        for i, worker in enumerate(start_workers(disturbed, flags, errors)):
            finish(worker, of_worker(errors, i))
        assert_same_training(undisturbed, disturbed)
        print(f"{kills} kills in {trainings + 1} trainings: each the same as the undisturbed one, bit for bit")


if __name__ == "__main__":
    main()
