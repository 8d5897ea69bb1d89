"""The tables of the three implementations, which stand in their README."""

import argparse
import json
import re
from pathlib import Path

from unet_lowlevel.cli.arguments import Parser, run_command
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.terminal import complain, say, show_path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "unet_lowlevel" / "reference" / "README.md"
MEASURED = [ROOT / "data" / "measured" / f"three_ways_{data}.json" for data in ("phantoms", "dsb2018")]
TABLE = re.compile(r"^\|  \| low-level.*\n(?:\|.*\n)+", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Writes the tables of unet_lowlevel/reference/README.md: the figures measured, which data/measured holds, with "
        "the lines of code as they are now.",
        "write-tables",
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if other tables stand there")
    return run_command(write_tables, parser, argv)


def write_tables(arguments: argparse.Namespace) -> int:
    start_tensorflow()
    from unet_lowlevel.reference.comparison import table

    tables = iter([table(json.loads(path.read_text(encoding="utf-8"))) for path in MEASURED])
    before = README.read_text(encoding="utf-8")
    after = TABLE.sub(lambda _: next(tables), before)
    if arguments.check and before != after:
        complain(f"{show_path(README)} has other tables: run this command without --check")
        return 1
    if not arguments.check:
        README.write_text(after, encoding="utf-8")
        say(f"wrote the tables of {show_path(README)}")
    return 0
