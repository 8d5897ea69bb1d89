"""Write a trained run as a .keras file: python scripts/export_keras.py --help"""

import sys

from unet_lowlevel.cli.export_keras import main

sys.exit(main())
