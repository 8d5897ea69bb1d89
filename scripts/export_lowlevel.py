"""Write a trained run for those who do not have this package: python scripts/export_lowlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.export")
