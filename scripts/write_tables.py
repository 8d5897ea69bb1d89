"""Write the tables of the three implementations into their README: python scripts/write_tables.py --help"""

import argparse
import json
import re
import sys
from pathlib import Path

from unet_lowlevel.reference.comparison import table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "unet_lowlevel" / "reference" / "README.md"
MEASURED = [ROOT / "data" / "measured" / f"three_ways_{data}.json" for data in ("phantoms", "dsb2018")]
TABLE = re.compile(r"^\|  \| low-level.*\n(?:\|.*\n)+", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Writes the tables of unet_lowlevel/reference/README.md: the figures measured, which data/measured "
        "holds, with the lines of code as they are now."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if other tables stand there")
    check = parser.parse_args(argv).check
    tables = iter([table(json.loads(path.read_text(encoding="utf-8"))) for path in MEASURED])
    before = README.read_text(encoding="utf-8")
    after = TABLE.sub(lambda _: next(tables), before)
    if not check:
        README.write_text(after, encoding="utf-8")
    return int(check and before != after)


if __name__ == "__main__":
    sys.exit(main())
