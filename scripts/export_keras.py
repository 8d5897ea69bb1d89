"""Write a trained run as a .keras file: python scripts/export_keras.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.export")
