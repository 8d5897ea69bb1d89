"""Segment images with a trained run: python scripts/predict_lowlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.predict")
