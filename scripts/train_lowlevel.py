"""Train the low-level U-Net: python scripts/train_lowlevel.py --help"""

import sys

from unet_lowlevel.cli.train import main

sys.exit(main())
