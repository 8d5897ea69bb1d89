"""A command as a process: what scripts/, `unet-lowlevel` and `python -m unet_lowlevel` have in common.

It imports as little as can be, so that it is ready before the first signal.
"""

import _signal  # not `signal`, which imports `enum` and so takes half of the start of Python
import importlib
import os
import sys


def run(module: str, **options):
    """Imports a command's module, calls its `main` with the options, and ends the process with its exit code.

    SIGINT and SIGTERM end the process with one line at any moment: at once while modules are imported and when all is
    done, in between as `arguments.run_command` does it.
    """
    for number in (_signal.SIGINT, _signal.SIGTERM):
        if _signal.getsignal(number) != _signal.SIG_IGN:  # as of what runs in the background
            _signal.signal(number, end_at_once)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the process was started without it, and would give its number to another file
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    try:
        code = importlib.import_module(module).main(**options)
    except ModuleNotFoundError as error:
        print(
            f"error: {error.name} is not installed for {sys.executable}: run `python3 -m venv .venv && .venv/bin/pip "
            "install -e .` in the folder of the checkout, and then this command with .venv/bin/python.",
            file=sys.stderr,
        )
        code = 2
    finally:
        for stream in (sys.stdout, sys.stderr):
            give_up_unprinted(stream)
    sys.exit(code)


def end_at_once(number: int, frame):
    """Ends the process without an exception, of which an import may make another one or lose it."""
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(128 + number)


def give_up_unprinted(stream) -> None:
    """What a stream did not take until now it will not take at the end, where the interpreter would complain."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
