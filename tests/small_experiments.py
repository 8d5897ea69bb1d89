"""The scale at which an experiment takes seconds."""

from unet_lowlevel.laboratory.experiments import Scale

SMALL = Scale(side=32, patients=2, held_out=1, epochs=2, steps_per_epoch=2, seeds=1, depth=2, base_channels=2)
