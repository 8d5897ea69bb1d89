"""Measure speed and memory beside other libraries: python scripts/benchmark --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # makes this folder a package, also in the processes it starts

from door import open_door

if __name__ == "__main__":
    open_door("benchmark.command")
