"""Measure speed and memory beside other libraries: python scripts/benchmark.py --help"""

import sys

from unet_lowlevel.cli.benchmark import main

if __name__ == "__main__":  # the processes that are measured read this file, too
    sys.exit(main())
