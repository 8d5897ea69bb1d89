"""Train the U-Net with Keras' compile and fit: python scripts/train_keras.py --help"""

import sys

from unet_lowlevel.cli.train import main

sys.exit(main(implementation="keras"))
