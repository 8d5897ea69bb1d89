"""Breaks the package on purpose, in one place at a time, and wants a test to notice: `python tests/mutate.py`.

Each mutation of `mutations.py` is made in a copy of the project, and the tests that concern it are run there. It is
killed when one of them fails; in the end all of these are run once more, and must pass, without any mutation. One that
survives asks for a test. One that is stale asks for the text as it is now.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mutations import MUTATIONS

ROOT = Path(__file__).parents[1]

# Tests run in processes forked from one that has imported what takes seconds, but nothing of the project.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tensorflow", "scipy.ndimage", "skimage.segmentation", "pytest"])


class Mutation(NamedTuple):
    """`old` in a module becomes `new`; paths of the module and of the tests are from the project's folder."""

    module: str
    what: str
    old: str
    new: str
    tests: list[str]

    def __str__(self) -> str:
        return f"{self.module.removeprefix('unet_lowlevel/')}: {self.what}"

    def stale(self) -> bool:
        """Whether the module does not have `old` exactly once."""
        return (ROOT / self.module).read_text(encoding="utf-8").count(self.old) != 1


def mutations() -> list[Mutation]:
    """All of the table, with paths."""
    found = []
    for module, rows in MUTATIONS.items():
        mirror = Path(module).with_name(f"test_{Path(module).name}").as_posix()
        for what, old, new, *tests in rows:
            names = tests[0].split() if tests else [mirror]
            paths = [f"tests/{mirror if name.startswith('::') else ''}{name}" for name in names]
            found.append(Mutation(f"unet_lowlevel/{module}", what, old, new, paths))
    return found


def copy_project(folder: Path) -> Path:
    for name in ("unet_lowlevel", "scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def run_tests(project: Path, flags: list[str]) -> tuple[int | None, str]:
    """Exit code and output of pytest in a copy of the project."""
    process = PROCESSES.Process(target=work, args=(project, flags))
    process.start()
    process.join()
    return process.exitcode, (project / "output").read_text(encoding="utf-8")


def work(project: Path, flags: list[str]) -> None:
    """What such a process does."""
    import pytest

    file = os.open(project / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(project)
    # A module that is written twice in a second must not be taken from its compiled form.
    os.environ |= {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(project))
    sys.exit(pytest.main(["-q", "--tb=no", "-rfE", "-n", "0", "-p", "no:cacheprovider", *flags]))


def killer(mutation: Mutation, project: Path) -> tuple[str, str]:
    """The test that fails first, or "" and why there is none."""
    path = project / mutation.module
    code = path.read_text(encoding="utf-8")
    path.write_text(code.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        exitcode, output = run_tests(project, ["-x", *mutation.tests])
    finally:
        path.write_text(code, encoding="utf-8")
    failed = [line.partition(" ")[2] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if exitcode == 1 and failed:
        return failed[0].partition(" - ")[0], ""
    return "", "SURVIVED" if exitcode == 0 else f"NOT TESTED\n{output}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose module or description has this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="at a time (%(default)s)")
    arguments = parser.parse_args()
    chosen = [mutation for mutation in mutations() if arguments.only in str(mutation)]
    stale = [mutation for mutation in chosen if mutation.stale()]
    for mutation in stale:
        print(f"{mutation}: STALE, {mutation.module} does not have exactly once: {mutation.old}")
    if stale or not chosen:
        return 1
    begun, killers, projects = time.monotonic(), [], queue.SimpleQueue()

    def judged(mutation: Mutation) -> tuple[str, str, float]:
        project, start = projects.get(), time.monotonic()
        try:
            return *killer(mutation, project), time.monotonic() - start
        finally:
            projects.put(project)

    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for job in range(arguments.jobs):
            projects.put(copy_project(Path(folder, str(job))))
        for mutation, (test, otherwise, seconds) in zip(chosen, pool.map(judged, chosen), strict=True):
            print(f"{mutation}: {f'killed by {test}' if test else otherwise} ({seconds:.0f} s)", flush=True)
            killers += [test] if test else []
        exitcode, output = run_tests(projects.get(), sorted(set(killers))) if killers else (0, "")
    print(f"{len(killers)} of {len(chosen)} mutations killed in {(time.monotonic() - begun) / 60:.0f} minutes")
    if exitcode:
        print(f"but some of these tests fail without any mutation:\n{output}")
    return int(exitcode != 0 or len(killers) < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
