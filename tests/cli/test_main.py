"""The command `unet-lowlevel`: what it tells of itself, and how it finds the others."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_arguments import EVERYDAY, without_breaks

from unet_lowlevel import __version__, settings
from unet_lowlevel.cli.arguments import SCRIPTS
from unet_lowlevel.cli.main import COMMANDS, main


def help_of(command, flag, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        main([command, flag])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["--help-all"]])
def test_without_a_command_it_names_them_all(argv, capfd):
    assert main(argv) == 0
    output, error = capfd.readouterr()
    assert error == ""
    for command, (_, what) in COMMANDS.items():
        assert f"  {command} " in output and what in output
    assert "--help" in output and "--version" in output and "bioimage.io" in output
    assert all(len(line) <= 80 for line in output.splitlines())


def test_version(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr() == (f"unet_lowlevel {__version__}\n", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("trian", ["'trian' is no command of unet-lowlevel", "did you mean train?"]),
        ("cross_validate", ["'cross_validate'", "did you mean cross-validate?"]),
        ("qqq", ["'qqq' is no command", f"use one of {', '.join(COMMANDS)}."]),
        ("--epochs", ["'--epochs' is no command"]),
        ("", ["'' is no command"]),
        ("two\nlines", [r"'two\nlines' is no command"]),
    ],
)
def test_an_unknown_command_is_one_sentence_and_exit_code_2(name, words, capfd):
    assert main([name, "--help"]) == 2
    output, error = capfd.readouterr()
    assert output == "" and error.startswith("error: ") and error.count("\n") == 1
    assert error.rstrip().endswith((".", "?"))
    for word in words:
        assert word in error


def test_arguments_come_from_the_command_line(monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["/venv/bin/unet-lowlevel", "--version"])
    assert main() == 0
    assert __version__ in capfd.readouterr().out


def test_all_commands_are_known():
    assert COMMANDS.keys() == SCRIPTS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_its_flags(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["/venv/bin/unet-lowlevel"])
    text = help_of(command, "--help", capsys)
    assert text.startswith(f"usage: unet-lowlevel {command} [flags]\n")
    assert "--debug" in text and "--version" in text and "==SUPPRESS==" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert help_of(command, "--version", capsys) == f"unet_lowlevel {__version__}\n"


@pytest.mark.parametrize("command", ["train", "compare", "cross-validate"])
def test_help_is_for_every_day_and_help_all_for_the_rest(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    # A cross-validation decides these itself.
    decided = {"fold", "validation_fraction", "validation_list", "overfit_one_batch"}
    names = settings.settings().keys() - (decided if command == "cross-validate" else set())
    everyday, everything = (help_of(command, flag, capsys) for flag in ("--help", "--help-all"))
    # What a command has a default of its own for is among its everyday flags.
    usual = EVERYDAY & names | ({"folds"} if command == "cross-validate" else set())
    for text, shown in ((everyday, usual), (everything, names)):
        assert max(map(len, text.splitlines())) <= 80
        # A flag's own line begins with it; --[no-]flips of Python 3.13 is that of --flips.
        lines = {
            line.split()[0].rstrip(",").replace("[no-]", "") for line in text.splitlines() if line.startswith("  -")
        }
        assert {name for name in settings.settings() if settings.flag(name) in lines} == shown
        for name in shown:
            assert without_breaks(settings.settings()[name][1].metadata["help"]) in without_breaks(text)
    assert len(usual) == 17
    assert len(everyday.splitlines()) < 100 < len(everything.splitlines())


def test_the_module_is_the_same_command():
    """The one test of `python -m unet_lowlevel` as a process."""
    process = subprocess.run(
        [sys.executable, "-m", "unet_lowlevel", "--version"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (process.returncode, process.stdout) == (0, f"unet_lowlevel {__version__}\n")
