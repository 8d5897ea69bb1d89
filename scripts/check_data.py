"""Look through a data set before training on it: python scripts/check_data.py --help"""

import sys

from unet_lowlevel.cli.check_data import main

sys.exit(main())
