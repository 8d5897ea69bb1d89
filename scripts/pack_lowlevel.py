"""Pack a data set into a few large files: python scripts/pack_lowlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.pack")
