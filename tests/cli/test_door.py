"""The scripts of a checkout, where what they need is not installed."""

import subprocess
import sys
from pathlib import Path

import augmentation_times
import export_comparison
import pytest
import readme_tables
import unet_drawing

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
    others |= {"compare_exports.py", "time_augmentation.py", "scaling_study.py", "time_packing.py", "write_tables.py"}
    assert {*SCRIPTS.values(), *others} == set(DOORS)


@pytest.mark.parametrize("script", DOORS)
def test_a_script_says_how_to_install_the_package(script, tmp_path):
    one_sentence(run(script, tmp_path), "unet_lowlevel")


def test_a_script_says_what_else_is_missing(tmp_path):
    """The package is found, as from within the checkout, but not what it stands on."""
    process = run("train_lowlevel.py", tmp_path, PYTHONPATH=str(ROOT))
    one_sentence(process, "tqdm")


@pytest.mark.parametrize(
    ("main", "flags", "words"),
    [
        (export_comparison.main, ["--run", "nowhere", "--output", "a.json"], "--run nowhere does not exist"),
        (export_comparison.main, ["--run", "demo", "--output", "nowhere/a.json"], "nowhere/a.json lies in no folder"),
        (augmentation_times.main, ["--output", "nowhere/a.json"], "nowhere/a.json lies in no folder"),
        (augmentation_times.main, ["--output", "a.json", "--rounds", "0"], "--rounds is 0"),
        (readme_tables.main, ["--chek"], "did you mean --check?"),
        (unet_drawing.main, ["--output", "nowhere/a.svg"], "nowhere/a.svg cannot be used"),
    ],
)
def test_a_mistake_is_one_sentence_in_every_script(main, flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1


def test_a_drawing_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert unet_drawing.main(["--output", "unet.svg"]) == 0
    assert capsys.readouterr().out == "wrote unet.svg\n" and (tmp_path / "unet.svg").is_file()
