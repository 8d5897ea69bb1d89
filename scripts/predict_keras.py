"""Segment images with a trained run, by Keras: python scripts/predict_keras.py --help"""

import sys

from unet_lowlevel.cli.predict import main

sys.exit(main(by_keras=True))
