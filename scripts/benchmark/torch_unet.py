"""The same network in PyTorch, with our weights; images are [N, C, H, W]."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmark.peers import EPSILON
from unet_lowlevel.config import ModelConfig

ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU}
SPELLED = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# PyTorch's momentum is the share of the new statistics. Its moving variance is divided by n - 1, which does not matter
# in training.
MOMENTUM = 0.1


class ConvBlock(nn.Module):
    """Convolution, batch normalization, activation; a few times over. In the decoder also `up`, for `TorchUNet`."""

    def __init__(self, config: ModelConfig, in_channels: int, out_channels: int, *, with_up: bool = False):
        super().__init__()
        if with_up:
            self.up = nn.ConvTranspose2d(2 * out_channels, out_channels, 2, stride=2)
        self.steps = []
        for i in range(1, config.convolutions_per_block + 1):
            use_bias = not config.batch_normalization
            self.add(
                f"conv_{i}", nn.Conv2d(in_channels, out_channels, config.kernel_size, padding="same", bias=use_bias)
            )
            if config.batch_normalization:
                self.add(f"batch_normalization_{i}", nn.BatchNorm2d(out_channels, EPSILON, MOMENTUM))
            self.add(f"activation_{i}", ACTIVATIONS[config.activation](inplace=True))
            in_channels = out_channels

    def add(self, name: str, layer: nn.Module) -> None:
        self.add_module(name, layer)
        self.steps.append(name)

    def fold(self) -> None:
        """Folds each normalization into the convolution before it."""
        for name in [step for step in self.steps if step.startswith("batch_normalization")]:
            convolution = name.replace("batch_normalization", "conv")
            self.add_module(convolution, fuse_conv_bn_eval(getattr(self, convolution), getattr(self, name)))
            self.steps.remove(name)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for name in self.steps:
            features = getattr(self, name)(features)
        return features


class TorchUNet(nn.Module):
    """images [N, in_channels, H, W] -> logits [N, classes, H, W]; sides are multiples of 2^(depth - 1)."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]):
        """Builds the network.

        Args:
            config: with "same" padding and without dropout.
            weights: {name as in `UNet.named_variables`: value}; complete, or `load_state_dict` raises.
        """
        super().__init__()
        channels = [config.base_channels * 2**i for i in range(config.depth)]
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        for level in range(1, config.depth):
            before = config.in_channels if level == 1 else channels[level - 2]
            self.encoder[f"level_{level}"] = ConvBlock(config, before, channels[level - 1])
        before = config.in_channels if config.depth == 1 else channels[-2]
        self.bottleneck = ConvBlock(config, before, channels[-1])
        for level in range(config.depth - 1, 0, -1):
            out_channels = channels[level - 1]
            self.decoder[f"level_{level}"] = ConvBlock(config, 2 * out_channels, out_channels, with_up=True)
        self.output = nn.Conv2d(config.base_channels, config.classes, 1)
        counters = {name: value for name, value in self.state_dict().items() if name.endswith("num_batches_tracked")}
        self.load_state_dict(counters | torch_weights(weights))

    def folded(self) -> "TorchUNet":
        """The network that can only predict, without normalizations."""
        self.eval()
        for block in [module for module in self.modules() if isinstance(module, ConvBlock)]:
            block.fold()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features, skips = images, []
        for block in self.encoder.values():
            skips.append(block(features))
            features = nn.functional.max_pool2d(skips[-1], 2)
        features = self.bottleneck(features)
        for block in self.decoder.values():
            features = block(torch.cat([skips.pop(), block.up(features)], 1))
        return self.output(features)


def torch_weights(weights: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Our weights under PyTorch's names; filters transposed from [h, w, in, out], or up's [h, w, out, in]."""
    found = {}
    for name, value in weights.items():
        scope, _, last = name.replace("/", ".").rpartition(".")
        turned = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        found[f"{scope}.{SPELLED.get(last, last)}"] = torch.tensor(np.ascontiguousarray(turned))
    return found


def dice(labels: torch.Tensor, logits: torch.Tensor, smooth: float) -> torch.Tensor:
    """`losses.dice` of one kind of foreground: labels float [N, 1, H, W], logits float32 [N, 1, H, W]."""
    p = torch.sigmoid(logits)
    overlap = (p * labels).sum((2, 3))
    areas = p.sum((2, 3)) + labels.sum((2, 3))
    return (1.0 - (2.0 * overlap + smooth) / (areas + smooth)).mean()
