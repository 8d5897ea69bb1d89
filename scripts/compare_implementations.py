"""Train the network three ways and compare: python scripts/compare_implementations.py --help"""

import sys

from unet_lowlevel.cli.compare import main

if __name__ == "__main__":  # the processes that train read this file, too
    sys.exit(main())
