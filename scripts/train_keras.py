"""Train the same U-Net as a Keras model: python scripts/train_keras.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.train", implementation="keras")
