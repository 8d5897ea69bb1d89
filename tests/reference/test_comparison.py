"""The comparison of the three implementations, and that the tables of their README are what it has printed."""

import json
from pathlib import Path

import pytest
import readme_tables
from kill_and_resume import history

from unet_lowlevel.cli import compare
from unet_lowlevel.reference import comparison

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_compare_trains_all_three_and_writes_what_it_prints(processes, phantoms, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(compare, "PROCESSES", processes)
    output = tmp_path / "three"
    flags = ["--base-channels", "2", "--depth", "2", "--epochs", "2", "--batch-size", "2"]
    assert compare.main(["--output", str(output), "--data", str(phantoms), *flags]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    names = {path.name for path in output.iterdir()}
    assert names == {"lowlevel", "highlevel", "keras", "comparison.json", "comparison.md", "steps.csv"}
    results = json.loads((output / "comparison.json").read_text())
    table = (output / "comparison.md").read_text()
    assert table in printed.out and table == comparison.table(results)
    assert "keras: first step after" in printed.out
    for name, result in results.items():
        rows = history(output / name)
        assert result["steps"] == int(rows[-1]["step"]) == 10
        assert result["train_loss"] == pytest.approx(float(rows[-1]["train_loss"]))
        assert result["dice"] == max(float(row["validation_dice"]) for row in rows)  # of two epochs
        assert result["largest_difference_of_first_steps"] <= result["largest_difference"] < 1e-4
        assert result["images_per_second"] > 0 and result["relative_speed"] > 0
        assert 0.1 < result["seconds_to_first_step"] < 120 and result["peak_bytes"] > 100 * 2**20
    assert results["lowlevel"]["largest_difference"] == 0 and results["lowlevel"]["relative_speed"] == 1


def test_lines_of_code():
    source = '"""Module.\n\nMore."""\n\nimport os  # comment\n# comment\n\n\ndef f(x):\n    """Doc."""\n'
    assert comparison.code_lines(source) == 2
    assert comparison.code_lines(source + "    return (\n        x\n\n    )\n") == 5
    assert comparison.code_lines('x = """a\nb"""\n') == 2
    assert comparison.code_lines('x = 1\n\n\nif __name__ == "__main__":\n    print(x)\n') == 1
    for parts in comparison.PARTS.values():
        for part in parts.values():
            assert part and all((comparison.PACKAGE / name).is_file() for name in part)
    assert {"core/ops/convolution.py", "core/unet.py"} < set(comparison.PARTS["lowlevel"]["model"])
    assert comparison.lines_of("keras", "model") < comparison.lines_of("lowlevel", "model")


def test_differences_and_speed_are_of_the_same_steps(tiny_run):
    more = {"seconds_to_first_step": 3.0, "peak_bytes": 10}
    notes = {
        "lowlevel": {"losses": [1.0, 0.5, 0.25], "step_seconds": [5.0, 1.0, 2.0], **more},
        "keras": {"losses": [1.0, 0.5, 0.5], "step_seconds": [9.0, 2.0, 4.0], **more},
    }
    results = comparison.compare(dict.fromkeys(notes, tiny_run), notes, batch_size=8)
    low, other = results.values()
    assert (low["largest_difference"], low["relative_speed"], low["images_per_second"]) == (0, 1, 4)
    assert (other["largest_difference"], other["relative_speed"], other["images_per_second"]) == (0.25, 0.5, 2)
    rows = comparison.steps_csv(notes).splitlines()
    assert rows[0] == "step,lowlevel_loss,lowlevel_seconds,keras_loss,keras_seconds"
    assert rows[3] == "3,0.25,2,0.5,4" and len(rows) == 4


def test_tables_of_the_readme_are_produced_not_typed():
    """By scripts/write_tables.py, from what was measured and from the code as it is now."""
    assert readme_tables.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("name", "cells"), [("README", "| lines of code, model | "), ("LABORATORY", "| without skips | ")]
)
def test_stale_tables_are_noticed_and_written_anew(name, cells, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    before = getattr(readme_tables, name).read_text(encoding="utf-8")
    readme.write_text(before.replace(cells, f"{cells}1"), encoding="utf-8")
    monkeypatch.setattr(readme_tables, name, readme)
    assert readme_tables.main(["--check"]) == 1
    assert readme_tables.main([]) == 0 and readme.read_text(encoding="utf-8") == before
