"""The tables of READMEs, and the pictures of the experiments, from the figures in data/measured."""

import argparse
import json
import re
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.laboratory import experiments
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.terminal import complain, say, show_path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
README = ROOT / "unet_lowlevel" / "reference" / "README.md"
LABORATORY = ROOT / "unet_lowlevel" / "laboratory" / "README.md"
MEASURED = [DATA / "measured" / f"three_ways_{data}.json" for data in ("phantoms", "dsb2018")]
TABLE = re.compile(r"^\|  \| low-level.*\n(?:\|.*\n)+", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "From the figures measured, which data/measured holds, writes the tables of unet_lowlevel/reference/README.md, "
        "with the lines of code as they are now, and the tables and pictures of unet_lowlevel/laboratory/README.md.",
        "write-tables",
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if other tables stand there")
    return run_command(write_tables, parser, argv)


def written() -> dict[Path, str]:
    """{file: what it should hold} of the READMEs and pictures."""
    from unet_lowlevel.reference.comparison import table

    tables = iter([table(json.loads(path.read_text(encoding="utf-8"))) for path in MEASURED])
    files = {README: TABLE.sub(lambda _: next(tables), README.read_text(encoding="utf-8"))}
    text = LABORATORY.read_text(encoding="utf-8")
    for name in experiments.EXPERIMENTS:
        figures = json.loads((DATA / "measured" / "experiments" / f"{name}.json").read_text(encoding="utf-8"))
        files[DATA / "pictures" / "experiments" / f"{name}.svg"] = experiments.picture(name, figures)
        below_picture, rows = rf"(/{name}\.svg\)\n\n)(?:\|.*\n)+", experiments.table(name, figures)
        text = re.sub(below_picture, lambda found, rows=rows: found[1] + rows, text)
    return files | {LABORATORY: text}


def write_tables(arguments: argparse.Namespace) -> int:
    start_tensorflow()
    for path, after in written().items():
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if arguments.check and before != after:
            complain(f"{show_path(path)} has other figures: run this command without --check")
            return 1
        if before != after:
            path.write_text(after, encoding="utf-8")
            say(f"wrote {show_path(path)}")
    return 0
