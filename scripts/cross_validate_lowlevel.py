"""Cross-validate the low-level U-Net: python scripts/cross_validate_lowlevel.py --help"""

import sys

from unet_lowlevel.cli.cross_validate import main

sys.exit(main())
