"""Draw thorax slices with lung masks: python scripts/make_phantoms.py --help"""

import sys

from unet_lowlevel.cli.make_phantoms import main

sys.exit(main())
