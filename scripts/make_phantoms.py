"""Draw thorax slices with lung masks: python scripts/make_phantoms.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.phantoms")
