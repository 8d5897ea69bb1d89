"""Train the U-Net of tf.keras.layers: python scripts/train_highlevel.py --help"""

import sys

from unet_lowlevel.cli.train import main

sys.exit(main(implementation="highlevel"))
