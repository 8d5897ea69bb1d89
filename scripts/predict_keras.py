"""Segment images with a trained run, by Keras: python scripts/predict_keras.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.predict", by_keras=True)
