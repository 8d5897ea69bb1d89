"""The scripts of a checkout, where what they need is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from unet_lowlevel.cli.arguments import SCRIPTS

ROOT = Path(__file__).parents[2]
DOORS = [path.name for path in sorted((ROOT / "scripts").glob("*.py")) if "import open_door" in path.read_text()]


def run(script: str, folder: Path, **environment) -> subprocess.CompletedProcess:
    """Runs a script with Python's own library only, in a folder where nothing of the project lies."""
    command = [sys.executable, "-S", str(ROOT / "scripts" / script), "--help"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def one_sentence(process: subprocess.CompletedProcess, missing: str) -> None:
    assert process.returncode == 2 and process.stdout == ""
    error = process.stderr
    assert error.startswith(f"error: {missing} is not installed for {sys.executable}: run ")
    assert "python3 -m venv .venv && .venv/bin/pip install -e ." in error
    assert error.count("\n") == 1 and error.endswith(".\n")


def test_all_scripts_of_commands_are_doors():
    others = {"train_highlevel.py", "train_keras.py", "predict_keras.py", "draw_unet.py"}
    assert {*SCRIPTS.values(), *others} == set(DOORS)


@pytest.mark.parametrize("script", DOORS)
def test_a_script_says_how_to_install_the_package(script, tmp_path):
    one_sentence(run(script, tmp_path), "unet_lowlevel")


def test_a_script_says_what_else_is_missing(tmp_path):
    """The package is found, as from within the checkout, but not what it stands on."""
    process = run("train_lowlevel.py", tmp_path, PYTHONPATH=str(ROOT))
    one_sentence(process, "tqdm")
