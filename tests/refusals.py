"""Refusals at the functions that raise them, without a command around, and the data that they are tried on."""

from pathlib import Path

import numpy as np
import pytest
from conftest import on_disk, sentence
from image_files import write_pairs

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, samples
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.images import find_images
from unet_lowlevel.settings import resolve

SHADES = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)


def refuses(work, words, folder: Path) -> str:
    """Asserts that `work` is refused in one sentence with all of `words`, and that nothing in `folder` has changed."""
    before = on_disk(folder)
    with pytest.raises(UserError) as caught:
        work()
    message = sentence(caught, *words)
    assert len(message) < 2000
    assert on_disk(folder) == before
    return message


def two_pairs(folder: Path) -> Path:
    """Writes two good pairs into FOLDER/data, a and b."""
    (folder / "data").mkdir()
    write_pairs(folder / "data", *[(SHADES, (SHADES > 99) * np.uint8(255))] * 2)
    return folder


def to_train(folder="data", **settings) -> list[samples.Sample]:
    """The samples of a folder, found and decoded as a training does it."""
    config = resolve(flags={"data": folder, **settings})
    return list(samples.decoded(files.find_pairs(config.data), config))


def to_predict(*names, **settings) -> list[np.ndarray]:
    """The pixels of images, found and read as a prediction does it."""
    return [files.read_image(image, DataConfig(**settings)) for image in find_images(list(names)).values()]
