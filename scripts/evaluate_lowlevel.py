"""Score a trained run: python scripts/evaluate_lowlevel.py --help"""

import sys

from unet_lowlevel.cli.evaluate import main

sys.exit(main())
