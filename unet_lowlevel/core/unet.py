"""The U-Net of Ronneberger, Fischer and Brox (2015), from the layers in `ops/`.

    images ─ level_1 ───────── copy ─────────► level_1 ─ output ─► logits
               └ pool ─ level_2 ── copy ──► level_2 ┘ up
                          └ pool ─ bottleneck ┘ up                    (depth 3)

Where it departs from the paper by default: "same" padding, so that the output has the image's size;
ELU; batch normalization; Adam. The preset `paper` sets all of these back.
"""

from collections.abc import Sequence

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.ops.activations import ACTIVATIONS
from unet_lowlevel.core.ops.batch_normalization import BatchNormalization
from unet_lowlevel.core.ops.convolution import Conv2D
from unet_lowlevel.core.ops.cropping import center_crop, crop_and_concat, pad_to_multiple
from unet_lowlevel.core.ops.dropout import dropout, seed_of_stream
from unet_lowlevel.core.ops.pooling import max_pool2d
from unet_lowlevel.core.ops.transposed_convolution import Conv2DTranspose


def dropout_rates(config: ModelConfig, *, deep: bool) -> list[float]:
    """The rate of dropout after each convolution of a block; `deep`: one of the two at the contracting path's end."""
    rates = [0.0] * config.convolutions_per_block
    if config.dropout_position == "block":
        rates[0] = config.dropout_rate
    elif deep:
        rates[-1] = config.dropout_rate
    return rates


class ConvBlock(tf.Module):
    """Convolution, batch normalization, activation, dropout; a few times over."""

    def __init__(self, config: ModelConfig, in_channels, out_channels, *, seed: int, stream: int, deep: bool, name):
        """Creates the variables, by `seed`; with another `stream` a block drops other activations."""
        super().__init__(name)
        self.activation = ACTIVATIONS[config.activation]
        self.dropout_rates, self.stream = dropout_rates(config, deep=deep), stream
        self.convolutions: list[Conv2D] = []
        self.normalizations: list[BatchNormalization] = []
        size, pad, bias = config.kernel_size, config.padding, not config.batch_normalization
        with self.name_scope:
            for i in range(1, config.convolutions_per_block + 1):
                conv = Conv2D(in_channels, out_channels, size, seed=seed, padding=pad, use_bias=bias, name=f"conv_{i}")
                self.convolutions.append(conv)
                if config.batch_normalization:
                    name = f"batch_normalization_{i}"
                    norm = BatchNormalization(out_channels, synchronized=config.sync_batch_norm, name=name)
                    self.normalizations.append(norm)
                in_channels = out_channels

    @tf.Module.with_name_scope
    def __call__(self, features: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """[N, H, W, in_channels] -> [N, H', W', out_channels]; for `training` and `seed` see `UNet.__call__`."""
        for i, convolution in enumerate(self.convolutions):
            features = convolution(features)
            if self.normalizations:
                features = self.normalizations[i](features, training=training)
            features = self.activation(features)
            if training and self.dropout_rates[i]:
                features = dropout(features, self.dropout_rates[i], seed_of_stream(seed, self.stream))
        return features


class UNet(tf.Module):
    """images [N, H, W, in_channels] -> logits [N, H', W', classes].

    With "same" padding H' = H and W' = W for every size from 1 up: the image is mirrored up to a multiple of
    2^(depth - 1) and the output cropped back. With "valid" padding the output is smaller, 388 of 572 in the paper, and
    only sides are legal that every pooling can halve.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0):
        """Creates all variables, float32; equal seeds give equal first weights."""
        super().__init__("unet")
        if config.in_channels < 1:
            raise ValueError(f"in_channels is {config.in_channels}, but a network needs at least 1")
        self.config = config
        self.create_layers(seed)

    def create_layers(self, seed: int) -> None:
        """Creates everything with variables in it: level 1 has `base_channels`, each level below twice as many."""
        config, depth = self.config, self.config.depth
        channels = [config.in_channels, *(config.base_channels * 2**level for level in range(depth))]

        def block(before: int, after: int, stream: int, name: str) -> ConvBlock:
            deep = depth - 1 <= stream <= depth
            return ConvBlock(config, before, after, seed=seed, stream=stream, deep=deep, name=name)

        with tf.name_scope("encoder"):
            self.encoder = [block(channels[i - 1], channels[i], i, f"level_{i}") for i in range(1, depth)]
        self.bottleneck = block(channels[-2], channels[-1], depth, "bottleneck")
        self.decoder_ups, self.decoder = [], []
        with tf.name_scope("decoder"):
            for i in range(depth - 1, 0, -1):
                with tf.name_scope(f"level_{i}"):
                    self.decoder_ups.append(Conv2DTranspose(channels[i + 1], channels[i], seed=seed))
                self.decoder.append(block(2 * channels[i], channels[i], depth + i, f"level_{i}"))
        self.output = Conv2D(channels[1], config.classes, 1, seed=seed, name="output")

    def named_variables(self) -> dict[str, tf.Variable]:
        """{"encoder/level_1/conv_1/weight": variable, ...}: all that prediction needs, moving statistics included."""
        return {variable.name.removesuffix(":0"): variable for variable in self.variables}

    def trained_variables(self) -> dict[str, tf.Variable]:
        """Those of them that the gradient moves."""
        return {name: variable for name, variable in self.named_variables().items() if variable.trainable}

    def __call__(self, images: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Runs the network.

        Args:
            images: float32 [N, H, W, in_channels], normalized.
            training: True: batch normalization uses and averages the batch's statistics, dropout acts.
            seed: int32 [3], what dropout drops, see there; needed only for training with dropout.

        Returns:
            logits float32 [N, H', W', classes]; sigmoid (classes = 1) or softmax makes them probabilities.

        Raises:
            ValueError: for other channels; in valid mode, for a size that is not legal.
        """
        padded = pad_to_multiple(images, 2 ** (self.config.depth - 1)) if self.config.padding == "same" else images
        logits = self.forward(tf.cast(padded, self.config.precision), training=training, seed=seed)
        logits = tf.cast(logits, tf.float32)
        return logits if padded is images else center_crop(logits, tf.shape(images)[1], tf.shape(images)[2])

    def forward(self, features: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """The network itself, for images whose sides suit it: all that lies between padding and cropping.

        Reference: Ronneberger et al. 2015, figure 1.
        """
        skips = []
        with tf.name_scope("encoder"):
            for block in self.encoder:
                features = block(features, training=training, seed=seed)  # level l: [N, H / 2^(l-1), ..., C 2^(l-1)]
                skips.append(features)
                features = max_pool2d(features)  # [N, H / 2^l, W / 2^l, C 2^(l-1)]
        features = self.bottleneck(features, training=training, seed=seed)
        for up, block in zip(self.decoder_ups, self.decoder, strict=True):
            with block.name_scope:
                features = crop_and_concat(skips.pop(), up(features))  # twice the side, as many channels again
            features = block(features, training=training, seed=seed)  # half the channels
        return self.output(features)  # [N, H', W', classes]

    def set_output_bias(self, frequencies: Sequence[float]) -> None:
        """Starts the output at the frequency of each class, so that training need not first find it.

        bias = log(p / (1 - p)) with p = frequencies[1] for one class; bias[k] = log(frequencies[k]) for more.

        Args:
            frequencies: of all classes, background first; they sum to 1. Kept within 0.001 ... 0.999.

        Reference: Lin et al. 2017, section 4.1 ("prior").
        """
        p = tf.clip_by_value(tf.constant(frequencies, tf.float32), 1e-3, 1.0 - 1e-3)
        self.output.bias.assign(tf.math.log(p[1:] / (1.0 - p[1:]) if self.config.classes == 1 else p))
