"""Segment images with a trained run: python scripts/predict_lowlevel.py --help"""

import sys

from unet_lowlevel.cli.predict import main

sys.exit(main())
