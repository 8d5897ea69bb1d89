"""The network layer by layer: name, output shape, parameters, multiply-adds, receptive field."""

import math
from dataclasses import dataclass

from unet_lowlevel.config import Config, ModelConfig
from unet_lowlevel.geometry import check_valid_size, receptive_field


@dataclass(frozen=True)
class Layer:
    """A row of the summary; all counts are for one image."""

    name: str
    shape: tuple[int, int, int]  # height, width, channels of the output
    parameters: int
    multiply_adds: int
    receptive_field: int  # side in pixels of the image square that one output value depends on


def summarize(config: ModelConfig, height: int, width: int) -> list[Layer]:
    """All layers of `unet.UNet` in the order of computation, for an image of this size.

    Args:
        config: with in_channels of at least 1.
        height, width: of the image; in same mode rounded up, as the network pads it.

    Raises:
        UserError: for a size that a valid network cannot take.
    """
    multiple = 2 ** (config.depth - 1)
    if config.padding == "valid":
        check_valid_size(config, height)
        check_valid_size(config, width)
    else:
        height, width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    layers: list[Layer] = []
    path: list[tuple[str, int]] = []
    channels = config.in_channels

    def add(name: str, parameters: int = 0, multiply_adds: int = 0) -> None:
        layers.append(Layer(name, (height, width, channels), parameters, multiply_adds, receptive_field(path)))

    def convolution(name: str, out_channels: int, k: int, *, bias: bool) -> None:
        nonlocal height, width, channels
        if config.padding == "valid":
            height, width = height - k + 1, width - k + 1
        path.append(("convolution", k))
        weights = k * k * channels * out_channels
        channels = out_channels
        add(name, weights + bias * out_channels, weights * height * width)

    def block(name: str, out_channels: int) -> None:
        for i in range(1, config.convolutions_per_block + 1):
            convolution(f"{name}/conv_{i}", out_channels, config.kernel_size, bias=not config.batch_normalization)
            if config.batch_normalization:
                add(f"{name}/batch_normalization_{i}", 2 * channels, channels * height * width)

    for level in range(1, config.depth):
        block(f"encoder/level_{level}", config.base_channels * 2 ** (level - 1))
        height, width = height // 2, width // 2
        path.append(("pooling", 2))
        add(f"encoder/level_{level}/pool")
    block("bottleneck", config.base_channels * multiple)
    for level in range(config.depth - 1, 0, -1):
        weights = 4 * channels * (channels // 2)
        multiply_adds = weights * height * width
        height, width, channels = 2 * height, 2 * width, channels // 2
        path.append(("up", 2))
        add(f"decoder/level_{level}/up", weights + channels, multiply_adds)
        channels *= 2
        add(f"decoder/level_{level}/concat")
        block(f"decoder/level_{level}", channels // 2)
    convolution("output", config.classes, 1, bias=True)
    return layers


def training_bytes(config: Config) -> int:
    """Approximate peak bytes of a training step, without the data.

    The outputs of all convolutions, times what was measured over batches of 8 to 64, widths, depths and paddings: 2.3
    to 3.1 with batch normalization, 1.6 without it, 1.3 with `recompute`; 16 bits take a little more than half.

    Args:
        config: with `crop_size` resolved; any `in_channels`.
    """
    side, model = config.training.crop_size, config.model
    layers = summarize(model, side, side)
    values = sum(math.prod(layer.shape) for layer in layers if "conv" in layer.name or layer.name.endswith("/up"))
    times = (2.5 if model.batch_normalization else 1.6) * (0.55 if model.recompute else 1)
    images = math.ceil(config.training.batch_size / config.training.accumulate)
    return round(times * images * values * (4 if model.precision == "float32" else 2))


def step_operations(config: Config) -> int:
    """Floating-point operations of a training step's convolutions. A multiply-add counts as two; the gradients of
    activations and of weights each cost as much as the forward pass."""
    size = config.training.crop_size
    layers = summarize(config.model, size, size)
    forward = sum(layer.multiply_adds for layer in layers if "batch_normalization" not in layer.name)
    return 3 * 2 * forward * config.training.batch_size


def table(layers: list[Layer], height: int, width: int, in_channels: int) -> str:
    """The layers as text, with totals."""
    lines = [f"{'layer':37s} {'output':>16s} {'parameters':>12s} {'multiply-adds':>16s} {'receptive field':>15s}"]
    lines.append(f"{'images':37s} {shape_text((height, width, in_channels)):>16s}")
    for layer in layers:
        lines.append(
            f"{layer.name:37s} {shape_text(layer.shape):>16s} {layer.parameters:12,d} {layer.multiply_adds:16,d} "
            f"{layer.receptive_field:15d}"
        )
    parameters = sum(layer.parameters for layer in layers)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    lines.append(f"{'total':37s} {'':16s} {parameters:12,d} {multiply_adds:16,d} {layers[-1].receptive_field:15d}")
    return "\n".join(lines)


def shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
