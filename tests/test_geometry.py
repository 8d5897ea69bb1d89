"""Sizes by brute force: which ones a valid network takes, what it gives, how far it sees."""

import dataclasses
import itertools
import re

import pytest
import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.errors import UserError
from unet_lowlevel.geometry import check_valid_size, receptive_field, smallest_valid_size, valid_margin
from unet_lowlevel.settings import resolve

PAPER = dataclasses.replace(resolve("paper").model, in_channels=1)
VALID = [
    ModelConfig(
        in_channels=1,
        depth=depth,
        kernel_size=kernel,
        convolutions_per_block=convolutions,
        base_channels=1,
        padding="valid",
        batch_normalization=False,
    )
    for depth, kernel, convolutions in [
        *itertools.product([1, 2, 3], [1, 3, 5], [1, 2]),
        (3, 3, 3),
        (2, 7, 1),
        (4, 3, 1),
        (5, 3, 2),
    ]
]


def output_side(config, side):
    """The output's side for an input's, counted level by level, or None where a pooling or a filter does not fit."""
    lost = config.convolutions_per_block * (config.kernel_size - 1)
    for _ in range(config.depth - 1):
        side -= lost
        if side < 1 or side % 2:
            return None
        side //= 2
    side -= lost
    for _ in range(config.depth - 1):
        if side < 1:
            return None
        side = 2 * side - lost
    return side if side >= 1 else None


def named(config):
    return f"depth{config.depth}-kernel{config.kernel_size}-convolutions{config.convolutions_per_block}"


@pytest.mark.parametrize("config", VALID, ids=named)
def test_valid_sizes_are_those_of_the_network(config):
    """Counted level by level; `core/test_unet.py` holds the count to the network itself."""
    smallest = smallest_valid_size(config)
    legal = [side for side in range(1, smallest + 40) if output_side(config, side)]
    assert legal[0] == smallest
    for side in range(1, smallest + 40):
        if side in legal:
            check_valid_size(config, side)
            assert output_side(config, side) == side - valid_margin(config)
        else:
            with pytest.raises(UserError) as caught:
                check_valid_size(config, side)
            assert output_side(config, int(re.search(r"use (\d+)", str(caught.value))[1]))


@pytest.mark.parametrize("config", VALID, ids=named)
def test_smallest_valid_size_is_the_smallest_that_is_large_enough(config):
    for wanted in range(1, 40):
        sides = (side for side in itertools.count(wanted) if (output_side(config, side) or 0) >= wanted)
        expected = next(sides)
        assert smallest_valid_size(config, wanted) == expected
    assert int(smallest_valid_size(config, tf.constant(wanted))) == expected


def test_message_names_the_next_legal_size_and_steps():
    with pytest.raises(UserError, match=r"570 pixels .* use 572, or another of 188, 204, 220 .* steps of 16"):
        check_valid_size(PAPER, 570)
    with pytest.raises(UserError, match="use 188"):
        check_valid_size(PAPER, 3)


def test_sizes_of_the_paper():
    assert (valid_margin(PAPER), smallest_valid_size(PAPER), smallest_valid_size(PAPER, 388)) == (184, 188, 572)


def test_same_mode_has_no_margin():
    assert valid_margin(ModelConfig(in_channels=1, depth=3, base_channels=2)) == 0


def test_receptive_field_by_hand():
    assert receptive_field([("convolution", 3), ("convolution", 3)]) == 5
    assert receptive_field([("convolution", 3), ("pooling", 2), ("convolution", 3)]) == 8
