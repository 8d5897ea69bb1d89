"""The table of experiments: each runs, and its table and picture are those of its figures."""

import importlib
import json
from pathlib import Path

import pytest
from small_experiments import SMALL

from unet_lowlevel.laboratory import experiments
from unet_lowlevel.laboratory.experiments import EXPERIMENTS, picture, rounded, run, spread, table

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # half a minute; by default the test of the command runs `skips`, and test_computing.py `plain`
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs(name, capsys):
    figures = run(name, SMALL)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["command"] == f"unet-lowlevel experiment {name}" and figures["machine"]["cores"]
    assert figures["scale"]["side"] == 32 and len(figures["trials"]) > 1
    assert len(capsys.readouterr().out.splitlines()) == len(figures["trials"])
    for trial in figures["trials"]:
        assert f"| {trial['variant']} |" in table(name, figures) or "range test" in trial["variant"]
        assert trial.get("line", trial["variant"]) in picture(name, figures) or "x" not in trial


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_has_a_function_with_a_hypothesis_and_a_place_in_the_readme(name):
    module = importlib.import_module(f"unet_lowlevel.laboratory.{EXPERIMENTS[name].module}")
    assert getattr(module, name.replace("-", "_")).__doc__.startswith("Hypothesis: ")
    readme = (ROOT / "unet_lowlevel" / "laboratory" / "README.md").read_text(encoding="utf-8")
    assert f"## {EXPERIMENTS[name].question}\n" in readme and f"`unet-lowlevel experiment {name}`" in readme


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_measured_was_measured_at_the_scale_of_the_command(name):
    figures = json.loads((ROOT / "data" / "measured" / "experiments" / f"{name}.json").read_text(encoding="utf-8"))
    assert figures["scale"] == vars(experiments.Scale()) and figures["question"] == EXPERIMENTS[name].question
    seeds = {trial["seed"] for trial in figures["trials"]}
    assert seeds == set(range(experiments.Scale().seeds))


TRIALS = [
    {"variant": "a", "seed": 0, "dice": 0.5, "precision": 0.25, "recall": 1.0, "x": [1, 2], "y": [0.0, 0.5]},
    {"variant": "b", "seed": 0, "dice": 0.9, "precision": 0.9, "recall": 0.1, "x": [1, 2], "y": [1.0, 0.0]},
    {"variant": "a", "seed": 1, "dice": 0.7, "precision": 0.25, "recall": 0.0, "x": [1, 2], "y": [0.0, 0.0]},
]


def test_a_table_has_a_row_a_variant_with_the_spread_of_its_seeds():
    rows = table("imbalance", {"trials": TRIALS}).splitlines()
    assert rows[0] == "|  | Dice | precision | recall |" and len(rows) == 4
    assert rows[2] == "| a | 0.600 (0.500 to 0.700) | 0.250 | 0.500 (0.000 to 1.000) |"
    assert rows[3] == "| b | 0.900 | 0.900 | 0.100 |"


def test_lines_of_the_same_name_are_one_line():
    joined = [trial | {"line": "all"} for trial in TRIALS]
    assert picture("imbalance", {"trials": TRIALS}).count("<polyline") == 2
    assert picture("imbalance", {"trials": joined}).count("<polyline") == 1


def test_numbers():
    assert spread([0.1, 0.2], ".1f") == "0.2 (0.1 to 0.2)" and spread([1234.0, 1234.2], ",.0f") == "1,234"
    assert rounded([0.123456789, 3, "a"]) == [0.123457, 3, "a"]
