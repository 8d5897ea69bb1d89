"""The commands; each module has a `main`."""

import sys

if sys.argv[:1] == ["-m"]:  # as long as Python looks for a module to run: one in here, which would do nothing
    print(
        "error: the modules of unet_lowlevel.cli are no commands: use python -m unet_lowlevel COMMAND, for example "
        "python -m unet_lowlevel train.",
        file=sys.stderr,
    )
    sys.exit(2)
