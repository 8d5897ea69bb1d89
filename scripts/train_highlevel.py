"""Train the same U-Net from tf.keras.layers: python scripts/train_highlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.train", implementation="highlevel")
