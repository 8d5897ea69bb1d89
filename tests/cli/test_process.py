"""Commands as processes: signals at any moment, output that fails, packages that are missing; by stand-ins, quickly."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
START = "from unet_lowlevel.cli.process import run; run('command')"


def start(folder: Path, command: str, *modules: str, **options) -> subprocess.CompletedProcess:
    """Runs a module of this text as a command; `modules` are those that it may import, module_0, ..."""
    for name, text in [("command", command), *((f"module_{i}", text) for i, text in enumerate(modules))]:
        (folder / f"{name}.py").write_text(text)
    paths = os.pathsep.join([str(ROOT), str(folder)])
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hear_signals} | options
    return subprocess.run(
        [sys.executable, "-c", START], text=True, env=os.environ | {"PYTHONPATH": paths}, check=False, **options
    )


def hear_signals() -> None:
    """Undoes that a shell lets what it runs in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def raises(number: signal.Signals) -> str:
    """What Ctrl-C or a SIGTERM in a moment does, as a line of Python."""
    return f"import signal; signal.raise_signal({number:d})\n"


COMMAND = """
import unet_lowlevel.cli.arguments as arguments

def work(_):
    try:
{}
    finally:
        print("tidied up")

def main():
    return arguments.run_command(work, arguments.Parser("Works.", "train"), [])
"""
# As what is written in C++ does with an exception that it does not know.
LOSES_EXCEPTIONS = """
try:
    {}
    for _ in range(100):
        pass
except BaseException:
    raise ImportError("initialization failed")
"""


@SIGNALS
@pytest.mark.parametrize("place", ["import", "command", "work", "import at work", "end"])
def test_a_signal_at_any_moment_is_one_line(number, place, tmp_path):
    now = raises(number)
    loses = LOSES_EXCEPTIONS.format(now)
    text = {
        "import": f"import module_0\n{COMMAND.format('        pass')}",
        "command": f"def main():\n    {now}    print('went on')",
        "work": COMMAND.format(f"        {now}"),
        "import at work": COMMAND.format(
            "        import module_0, time\n        time.sleep(9)\n        print('went on')"
        ),
        "end": f"import atexit\nimport module_1\natexit.register(module_1.end)\n{COMMAND.format('        pass')}",
    }[place]
    process = start(tmp_path, text, loses, f"def end():\n    {now}    print('went on')")
    assert (process.returncode, process.stderr) == (128 + number, "interrupted\n")
    assert process.stdout == ("tidied up\n" if "work" in place or place == "end" else "")


def test_a_signal_that_is_ignored_from_outside_is_ignored(tmp_path):
    """As Ctrl-C is for what a script has started in the background."""
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start(tmp_path, COMMAND.format(f"        {raises(signal.SIGINT)}        print('went on')"), **ignored)
    assert (process.returncode, process.stdout, process.stderr) == (0, "went on\ntidied up\n", "")


def test_little_is_imported_before_signals_are_taken_care_of():
    """Before that a signal is a traceback of the interpreter."""
    code = "import sys; before = {*sys.modules}; import unet_lowlevel.cli.process; print(*{*sys.modules} - before)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert len(told.split()) < 10 and not {"enum", "re", "typing", "numpy", "argparse"} & {*told.split()}


SPEAKS = """
from unet_lowlevel.terminal import complain, note, say, warn

def main():
    for speak in (say, complain, note, warn):
        speak("\\u80ba " * 9999)
    return 7
"""
FULL = Path("/dev/full")
on_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")


@pytest.mark.parametrize("broken", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("way", ["closed pipe", pytest.param("full disk", marks=on_full), "none"])
def test_output_that_fails_changes_nothing_else(broken, way, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    names = ["stdout", "stderr"] if broken == "both" else [broken]
    if way == "none":
        options = {"preexec_fn": lambda: [os.close(1 if name == "stdout" else 2) for name in names]}
    else:
        file = writing if way == "closed pipe" else os.open(FULL, os.O_WRONLY)
        options = dict.fromkeys(names, file)
    process = start(tmp_path, SPEAKS, **options)
    os.close(writing)
    assert process.returncode == 7
    if broken == "stdout":
        begins = [line[:7] for line in process.stderr.splitlines() if not line.startswith("  ")]  # of a wrapped line
        assert begins == ["肺 肺 肺 肺", "note: 肺", "warning"]
    if broken == "stderr":
        assert process.stdout == f"{'肺 ' * 9999}\n"


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = start(tmp_path, SPEAKS)
    assert process.returncode == 7
    assert process.stdout.startswith("\\u80ba \\u80ba") and process.stderr.startswith("\\u80ba \\u80ba")


def test_help_may_be_cut_off(tmp_path):
    """As by `| head -1`, which goes before all is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "unet_lowlevel", "phantoms", "--help"]
    process = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_killed_command_leaves_no_semaphores(tmp_path):
    """Of which a second process would speak, that Python starts for them: a lock of progress bars is one.

    It is so where processes are spawned: on macOS, and those of a comparison.
    """
    speak = "        import multiprocessing\n        multiprocessing.set_start_method('spawn')\n"
    speak += "        arguments.say('words')\n        import os, signal\n        os.kill(os.getpid(), signal.SIGKILL)"
    process = start(tmp_path, COMMAND.format(speak))
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGKILL, "words\n", "")


@pytest.mark.parametrize("name", ["tensorflow", "skimage", "tqdm"])
def test_a_package_that_is_missing_is_one_sentence(name, tmp_path):
    """Also where it is missed only at work."""
    process = start(tmp_path, COMMAND.format(f"        import sys; sys.modules[{name!r}] = None; import {name}"))
    assert process.returncode == 2 and process.stdout == "tidied up\n"
    assert process.stderr.startswith(f"error: {name} is not installed for {sys.executable}: run `python3 -m venv")
    assert ".venv/bin/pip install -e .` in" in process.stderr and process.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["train", "main", "process"])
def test_a_module_of_the_commands_says_how_they_are_called(module):
    command = [sys.executable, "-m", f"unet_lowlevel.cli.{module}", "--help"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert process.returncode == 2 and process.stdout == "" and process.stderr.count("\n") == 1
    assert "use python -m unet_lowlevel COMMAND" in process.stderr
