"""The tour of the book: its lines of Python print what stands behind them, and its commands show what there is."""

import code
import re

import pytest
from mutate import ROOT

CORE = ROOT / "unet_lowlevel" / "core"
README = (CORE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
PRINTED = re.compile(r"^print\(.*\)  # (.*)$", re.M)


def heading_of(block):
    return re.findall(r"^### (.*)$", README[: README.index(block)], re.M)[-1]


@pytest.mark.parametrize("block", BLOCKS, ids=heading_of)
def test_lines_of_python_print_what_stands_behind_them(block, capsys):
    """Typed line by line, as into Python: what is indented ends with an empty line."""
    assert PRINTED.search(block)
    console = code.InteractiveConsole()
    for line in block.splitlines():
        console.push(line)
    assert capsys.readouterr().out.splitlines() == PRINTED.findall(block)


def test_every_command_is_there_and_every_op_on_the_tour():
    shown = {path for path in CORE.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    modules = re.findall(r"^\.venv/bin/python -m ([\w.]+)$", README, re.M)
    told = {ROOT / f"{module.replace('.', '/')}.py" for module in modules}
    assert told <= shown and shown - told == {CORE / "ops" / "masked_mean.py"}
    for script in re.findall(r"^\.venv/bin/python (\S+\.py)", README, re.M):
        assert (ROOT / script).is_file()


def test_every_stop_has_what_a_stop_has():
    stops = re.split(r"^### \d\. ", README.partition("\n## The fast forms")[0], flags=re.M)[1:]
    assert len(stops) == 8
    for stop in stops:
        for part in ("\n    ", "- **The paper", "- **Shapes:**", "- **Try**", "**Exercise.**", "<summary>Answer<"):
            assert part in stop
