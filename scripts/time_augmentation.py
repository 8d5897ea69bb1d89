"""Time each random change of training images beside the training step: python scripts/time_augmentation.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("augmentation_times")
