"""Train the network three ways and compare: python scripts/compare_implementations.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.compare")
