"""Tiles: every pixel once, and the logits of the whole image."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.config import DataConfig
from unet_lowlevel.core.fast import FoldedUNet
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.samples import Normalization
from unet_lowlevel.geometry import check_valid_size, smallest_tile_size, spans, surroundings, valid_margin
from unet_lowlevel.inference.compiled_network import CompiledNetwork
from unet_lowlevel.inference.tiling import in_tiles, read_window, tile_logits
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.steps import whole_logits

NETWORKS = [
    {},
    {"depth": 1},
    {"depth": 2, "convolutions_per_block": 3},
    {"depth": 3, "kernel_size": 5},
    {"depth": 4, "batch_normalization": False, "activation": "relu"},
    {"padding": "valid"},
    {"padding": "valid", "depth": 3},
    {"padding": "valid", "depth": 2, "kernel_size": 5},
]


def model_config(flags):
    return resolve(flags={"in_channels": 2, "base_channels": 4} | flags).model


def tiled(model, image, size):
    """Logits [H, W, K] of an image [H, W, C], tile by tile, and the number of tiles."""
    tile = tf.function(lambda window, core: tile_logits(model, window, core), reduce_retracing=True, autograph=False)

    def compute(window, core):
        return tile(tf.constant(window[np.newaxis]), tf.constant(core))[0].numpy()

    found, count = np.full([*image.shape[:2], model.config.classes], np.nan, np.float32), 0
    for rows, columns, logits in in_tiles(image, size, model.config, compute):
        found[rows, columns] = logits
        count += 1
    return found, count


@pytest.mark.parametrize(
    ("flags", "network"),
    [*((flags, UNet) for flags in NETWORKS), ({"depth": 3}, KerasUNet), ({"padding": "valid"}, KerasUNet)],
)
def test_tiles_give_the_logits_of_the_whole_image(flags, network):
    config = model_config(flags)
    model = network(config)
    rng = np.random.default_rng(0)
    for variable in model.named_variables().values():  # every weight and statistic counts
        variable.assign_add(0.05 * np.abs(rng.normal(size=variable.shape)).astype(np.float32))
    model = FoldedUNet(model) if network is UNet else model
    # The deepest network sees 96 pixels beyond its tile on each side; the tiles of others are down to 2 pixels high.
    sizes = [(311, 500, 256), (37, 700, 300)]
    if config.depth < 5:
        wide = config.padding == "same" and config.depth > 2
        sizes = [(130, 75, 64), (150, 5, 48), (200, 41, 16) if wide else (40, 25, 16)]
    for height, width, size in sizes:
        image = normal(height, width, 2).astype(np.float32)
        whole = whole_logits(model, tf.constant(image[np.newaxis]))[0].numpy()
        found, count = tiled(model, image, size)
        assert count > 1
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("flags", NETWORKS)
@pytest.mark.parametrize("size", [16, 100, 256])
def test_tiles_cover_an_axis_once_in_windows_that_the_network_takes(flags, size):
    config = model_config(flags)
    multiple = 2 ** (config.depth - 1)
    for length in [*range(1, 40), 100, 255, 256, 257, 1000, 1001]:
        found = spans(length, size, config)
        covered = [pixel for span in found for pixel in range(span.start, span.stop)]
        assert covered == list(range(length))
        assert len({span.window_size for span in found}) == 1
        window = found[0].window_size
        if config.padding == "valid":
            check_valid_size(config, window)
        else:
            assert window % multiple == 0
            assert all(edge % multiple == 0 for span in found for edge in span.core)
        # No larger than asked for, unless one tile of the smallest kind with its surroundings is.
        margin = valid_margin(config) or 2 * surroundings(config)
        assert window <= max(size, margin + multiple) + multiple


@pytest.mark.parametrize("flags", NETWORKS)
def test_any_part_has_the_probabilities_of_the_whole_image(flags):
    model = UNet(model_config(flags))
    for i, variable in enumerate(model.named_variables().values()):
        variable.assign_add(0.05 * np.abs(normal(*variable.shape, seed=i)).astype(np.float32))
    network = CompiledNetwork(model, DataConfig())
    image = normal(61, 250, 2).astype(np.float32)
    whole = network.of_image(Normalization(), image)
    parts = [(slice(0, 61), slice(0, 250)), (slice(7, 8), slice(249, 250)), (slice(30, 61), slice(99, 132))]
    for rows, columns in parts:
        found = network.part(image, Normalization(), rows, columns)
        np.testing.assert_allclose(found, whole[rows, columns], rtol=0, atol=1e-5)


def test_surroundings_of_the_default_network():
    assert surroundings(model_config({})) == 96


@pytest.mark.parametrize(("preset", "size"), [("default", 288), ("paper", 276)])
def test_the_smallest_tile_is_worth_its_surroundings(preset, size):
    config = resolve(preset, flags={"in_channels": 1}).model
    assert smallest_tile_size(config) == size
    tile = spans(5000, size, config)[1]
    assert tile.stop - tile.start >= 0.29 * tile.window_size
    assert smallest_tile_size(resolve(flags={"in_channels": 1, "depth": 1}).model) == 64


def test_windows_are_mirrored_like_a_padded_image():
    image = normal(40, 300, 1)
    config = model_config({"padding": "valid"})
    rows, *_ = spans(40, 256, config)
    first, *_, last = spans(300, 256, config)
    padded = np.pad(image, ((92, 300), (92, 300), (0, 0)), mode="reflect")
    for columns in (first, last):
        expected = padded[: rows.window_size, columns.window + 92 :][:, : columns.window_size]
        np.testing.assert_array_equal(read_window(image, rows, columns), expected)
