"""A training that takes a second: its settings and samples, and an end before its time."""

import numpy as np

from unet_lowlevel.data.samples import Sample
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.checkpoints import Series


def samples(count=4, size=16, value=1.0):
    rng = np.random.default_rng(0)
    images = [(value * rng.normal(size=(size, size, 1))).astype(np.float32) for _ in range(count)]
    return [Sample(f"s{i}", image, (image[..., 0] > 0).astype(np.uint8)) for i, image in enumerate(images)]


def tiny_config(**flags):
    defaults = {
        "in_channels": 1,
        "base_channels": 2,
        "depth": 2,
        "crop_size": 16,
        "batch_size": 2,
        "epochs": 3,
        "pictures": 0,
    }
    return resolve(flags=defaults | flags)


def interrupt_in_epoch_two(monkeypatch):
    """Lets a training meet Ctrl-C before the checkpoint of its second epoch."""
    original, saved = Series.save, []

    def save(self, number):
        if self.folder.name == "checkpoints":
            saved.append(number)
            if len(saved) == 2:
                raise KeyboardInterrupt
        original(self, number)

    monkeypatch.setattr(Series, "save", save)
