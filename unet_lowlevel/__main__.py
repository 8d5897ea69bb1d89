"""`python -m unet_lowlevel COMMAND`: the same as the command `unet-lowlevel COMMAND`."""

import sys

from unet_lowlevel.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
