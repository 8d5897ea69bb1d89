"""Look through a data set before training on it: python scripts/check_data.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.check")
