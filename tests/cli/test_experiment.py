"""The command experiment."""

import json

import pytest
from small_experiments import SMALL

from unet_lowlevel.cli import experiment
from unet_lowlevel.laboratory.experiments import EXPERIMENTS


@pytest.mark.parametrize("flags", [[], ["--help"]])
def test_without_a_name_it_lists_the_experiments(flags, capsys):
    if flags:
        with pytest.raises(SystemExit):
            experiment.main(flags)
    else:
        assert experiment.main(flags) == 0
    output = capsys.readouterr().out
    for name, one in EXPERIMENTS.items():
        assert f"  {name} " in output and one.question in output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["skip"], "'skip' is no experiment: did you mean skips?"),
        (["qqq"], "'qqq' is no experiment: use one of skips, "),
        (["skips", "--output", "full"], "--output full is not empty"),
    ],
)
def test_a_mistake_is_one_sentence(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert experiment.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_an_experiment_leaves_one_picture_one_table_and_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "Scale", lambda: SMALL)
    assert experiment.main(["skips"]) == 0
    folder = tmp_path / "experiments" / "skips"
    assert sorted(path.name for path in folder.iterdir()) == ["skips.json", "skips.md", "skips.svg"]
    figures = json.loads((folder / "skips.json").read_text(encoding="utf-8"))
    words = (folder / "skips.md").read_text(encoding="utf-8")
    assert "`unet-lowlevel experiment skips`" in words and "| without skips | " in words
    assert len(figures["trials"]) == 2 and (folder / "skips.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "wrote skips.svg, skips.md and skips.json to experiments/skips" in capsys.readouterr().out
