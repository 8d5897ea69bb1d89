"""Draw the U of a preset with its real shapes: python scripts/draw_unet.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_drawing")
