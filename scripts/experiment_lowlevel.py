"""Answer a question about the network by small trainings: python scripts/experiment_lowlevel.py --help"""

from door import open_door

if __name__ == "__main__":
    open_door("unet_lowlevel.cli.experiment")
