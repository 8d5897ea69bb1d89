"""Train the low-level U-Net: python scripts/train_lowlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.train")
