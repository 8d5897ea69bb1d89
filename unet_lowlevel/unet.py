"""The U-Net of Ronneberger, Fischer and Brox (2015), from the layers in `ops/`.

    images ─ level_1 ───────── copy ─────────► level_1 ─ output ─► logits
               └ pool ─ level_2 ── copy ──► level_2 ┘ up
                          └ pool ─ bottleneck ┘ up                    (depth 3)

Where it departs from the paper by default: "same" padding, so that the output has the image's size;
ELU; batch normalization; Adam. The preset `paper` sets all of these back.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.errors import UserError
from unet_lowlevel.ops.activations import ACTIVATIONS, TRAINING_ACTIVATIONS
from unet_lowlevel.ops.batch_normalization import BatchNormalization
from unet_lowlevel.ops.convolution import Conv2D
from unet_lowlevel.ops.cropping import center_crop, crop_and_concat, crop_like, mirror_crop, pad_to_multiple
from unet_lowlevel.ops.dropout import dropout
from unet_lowlevel.ops.pooling import max_pool2d
from unet_lowlevel.ops.recomputation import kept, recomputed
from unet_lowlevel.ops.transposed_convolution import Conv2DTranspose


def place_of_dropout(config: ModelConfig, at_contracting_end: bool) -> tuple[int, float]:
    """After which convolution of a block dropout acts, counted from 1, and at which rate."""
    if config.dropout_position == "block":
        return 1, config.dropout_rate
    return config.convolutions_per_block, config.dropout_rate * at_contracting_end


class ConvBlock(tf.Module):
    """Convolution, batch normalization, activation; a few times over; dropout after the first or the last."""

    def __init__(
        self,
        config: ModelConfig,
        in_channels: int,
        out_channels: int,
        *,
        seed: int,
        stream: int,
        at_contracting_end: bool = False,
        name: str,
    ):
        """Creates the variables.

        Args:
            config: kernel size, number of convolutions, padding, activation, normalization, dropout.
            in_channels, out_channels: of the block.
            seed: of the first weights.
            stream: the block's number, so that each block drops other activations.
            at_contracting_end: whether the block is one of the two deepest of the contracting path.
            name: of the scope.
        """
        super().__init__(name)
        self.activation = ACTIVATIONS[config.activation]
        self.training_activation = TRAINING_ACTIVATIONS[config.activation]
        self.stream = stream
        self.dropout_after, self.dropout_rate = place_of_dropout(config, at_contracting_end)
        self.convolutions, self.normalizations = [], []
        with self.name_scope:
            for i in range(1, config.convolutions_per_block + 1):
                convolution = Conv2D(
                    in_channels,
                    out_channels,
                    config.kernel_size,
                    seed=seed,
                    padding=config.padding,
                    use_bias=not config.batch_normalization,
                    name=f"conv_{i}",
                )
                self.convolutions.append(convolution)
                if config.batch_normalization:
                    self.normalizations.append(BatchNormalization(out_channels, name=f"batch_normalization_{i}"))
                in_channels = out_channels

    @tf.Module.with_name_scope
    def __call__(
        self,
        features: tf.Tensor | Sequence[tf.Tensor],
        *,
        training: bool,
        seed: tf.Tensor | None = None,
        again: bool = False,
    ) -> tf.Tensor:
        """[N, H, W, in_channels], whole or in parts -> [N, H', W', out_channels].

        For `training` and `seed` see `UNet.__call__`, for `again` `recomputed`.
        """
        for i, convolution in enumerate(self.convolutions, start=1):
            features = convolution(features)
            if self.normalizations:
                features = self.normalizations[i - 1](features, training=training, again=again)
            features = self.training_activation(features) if training else self.activation(features)
            if training and self.dropout_rate and i == self.dropout_after:
                block_seed = tf.random.experimental.stateless_fold_in(seed, self.stream)
                features = dropout(features, self.dropout_rate, block_seed)
        return features


class Encoder(tf.Module):
    """The contracting path above the bottleneck: a block and a pooling at each level."""

    def __init__(self, config: ModelConfig, *, seed: int, name: str = "encoder"):
        super().__init__(name)
        self.run = recomputed if config.recompute else kept
        self.levels = []
        in_channels = config.in_channels
        with self.name_scope:
            for level in range(1, config.depth):
                out_channels = config.base_channels * 2 ** (level - 1)
                block = ConvBlock(
                    config,
                    in_channels,
                    out_channels,
                    seed=seed,
                    stream=level,
                    at_contracting_end=level == config.depth - 1,
                    name=f"level_{level}",
                )
                self.levels.append(block)
                in_channels = out_channels

    @tf.Module.with_name_scope
    def __call__(self, features, *, training: bool, seed=None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the pooled features of the deepest level and the skips, level 1 first."""
        skips = []
        for block in self.levels:
            skips.append(self.run(functools.partial(block, training=training, seed=seed), [features]))
            features = max_pool2d(skips[-1])
        return features, skips


class Decoder(tf.Module):
    """The expanding path: up-convolution, "copy and crop" of the skip, a block; at each level."""

    def __init__(self, config: ModelConfig, *, seed: int, name: str = "decoder"):
        super().__init__(name)
        self.run = recomputed if config.recompute else kept
        self.ups, self.levels = [], []
        with self.name_scope:
            for level in range(config.depth - 1, 0, -1):
                channels = config.base_channels * 2 ** (level - 1)
                with tf.name_scope(f"level_{level}"):
                    self.ups.append(Conv2DTranspose(2 * channels, channels, seed=seed))
                block = ConvBlock(
                    config,
                    2 * channels,
                    channels,
                    seed=seed,
                    stream=config.depth + level,
                    name=f"level_{level}",
                )
                self.levels.append(block)

    @tf.Module.with_name_scope
    def __call__(self, features, skips: Sequence[tf.Tensor], *, training: bool, seed=None) -> tf.Tensor:
        """Features of the bottleneck and the skips, level 1 first -> features of level 1."""
        for up, block, skip in zip(self.ups, self.levels, reversed(skips), strict=True):
            level = functools.partial(self.level, up, block, training=training, seed=seed)
            features = self.run(level, [features, skip])
        return features

    def level(self, up, block, features, skip, *, training: bool, seed, again: bool = False) -> tf.Tensor:
        """One level: features of the level below and the skip -> features; `again`: see `recomputed`."""
        with block.name_scope:
            features = up(features)
            # Training saves the joined features and their gradient: the block's first convolution takes the parts.
            joined = [crop_like(skip, features), features] if training else crop_and_concat(skip, features)
        return block(joined, training=training, seed=seed, again=again)


class UNet(tf.Module):
    """images [N, H, W, in_channels] -> logits [N, H', W', classes].

    With "same" padding H' = H and W' = W for every size from 1 up: the image is mirrored up to a
    multiple of 2^(depth - 1) and the output cropped back. With "valid" padding the output is smaller by
    `valid_margin(config)`, and only some sizes are legal (`check_valid_size`).
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0):
        """Creates all variables, float32.

        Args:
            config: with in_channels of at least 1.
            seed: equal seeds give equal first weights.
        """
        super().__init__("unet")
        if config.in_channels < 1:
            raise ValueError(f"in_channels is {config.in_channels}, but a network needs at least 1")
        self.config = config
        self.run = recomputed if config.recompute else kept
        self.create_layers(seed)

    def create_layers(self, seed: int) -> None:
        """Creates everything with variables in it."""
        config = self.config
        deepest = config.base_channels * 2 ** (config.depth - 1)
        before = config.in_channels if config.depth == 1 else deepest // 2
        self.encoder = Encoder(config, seed=seed)
        self.bottleneck = ConvBlock(
            config, before, deepest, seed=seed, stream=config.depth, at_contracting_end=True, name="bottleneck"
        )
        self.decoder = Decoder(config, seed=seed)
        self.output = Conv2D(config.base_channels, config.classes, 1, seed=seed, name="output")

    def named_variables(self) -> dict[str, tf.Variable]:
        """{"encoder/level_1/conv_1/weight": variable, ...}: all that prediction needs, moving statistics included."""
        return {variable.name.removesuffix(":0"): variable for variable in self.variables}

    def __call__(self, images: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Runs the network.

        Args:
            images: float32 [N, H, W, in_channels], normalized.
            training: True: batch normalization uses and averages the batch's statistics, dropout acts.
            seed: int32 [2], what dropout drops; needed only for training with dropout.

        Returns:
            logits float32 [N, H', W', classes]; sigmoid (classes = 1) or softmax makes them probabilities.

        Raises:
            UserError: in valid mode, for a size that is not legal.
        """
        if self.config.padding == "same":
            padded = pad_to_multiple(images, 2 ** (self.config.depth - 1))
        else:
            padded = images
            for side in images.shape[1:3]:
                if side is not None:
                    check_valid_size(self.config, side)
        computed = self.forward(tf.cast(padded, self.config.precision), training=training, seed=seed)
        logits = tf.cast(computed, tf.float32)
        if padded is not images:
            logits = center_crop(logits, tf.shape(images)[1], tf.shape(images)[2])
        return logits

    def forward(self, images: tf.Tensor, *, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
        """The network itself, for images whose sides suit it: all that lies between padding and cropping."""
        features, skips = self.encoder(images, training=training, seed=seed)
        features = self.run(functools.partial(self.bottleneck, training=training, seed=seed), [features])
        features = self.decoder(features, skips, training=training, seed=seed)
        return self.output(features)

    def whole(self, images: tf.Tensor) -> tf.Tensor:
        """Logits of every pixel of the images, for prediction: [N, H, W, in_channels] -> [N, H, W, classes].

        A valid network is shown the images with mirrored surroundings wide enough for its margin.

        Reference: Ronneberger et al. 2015, figure 2.
        """
        if self.config.padding == "same":
            return self(images, training=False)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        before = -valid_margin(self.config) // 2
        window = mirror_crop(
            images,
            before,
            before,
            smallest_valid_size(self.config, height),
            smallest_valid_size(self.config, width),
        )
        return self(window, training=False)[:, :height, :width]

    def set_output_bias(self, frequencies: Sequence[float]) -> None:
        """Starts the output at the frequency of each class, so that training need not first find it.

        bias = log(p / (1 - p)) with p = frequencies[1] for one class; bias[k] = log(frequencies[k]) for more.

        Args:
            frequencies: of all classes, background first; they sum to 1. Kept within 0.001 ... 0.999.

        Reference: Lin et al. 2017, section 4.1 ("prior").
        """
        p = tf.clip_by_value(tf.constant(frequencies, tf.float32), 1e-3, 1.0 - 1e-3)
        self.output.bias.assign(tf.math.log(p[1:] / (1.0 - p[1:])) if self.config.classes == 1 else tf.math.log(p))


def valid_margin(config: ModelConfig) -> int:
    """Pixels that a valid network takes from each axis: 184 for the paper (572 -> 388); 0 in same mode."""
    if config.padding == "same":
        return 0
    lost = config.convolutions_per_block * (config.kernel_size - 1)
    # Once at the bottleneck and twice, going down and going up, at every other level; a pixel of level
    # l is worth 2^(l - 1) pixels of the image.
    return lost * (2 ** (config.depth - 1) + 2 * (2 ** (config.depth - 1) - 1))


def smallest_valid_size(config: ModelConfig, output_size=1):
    """The smallest legal input side of a valid network whose output has at least `output_size` pixels.

    `output_size` is a whole number from 1 up or an integer tensor; so is the result.
    """
    lost = config.convolutions_per_block * (config.kernel_size - 1)
    one_bottleneck_pixel = 1 + lost
    for _ in range(config.depth - 1):
        one_bottleneck_pixel = 2 * one_bottleneck_pixel + lost
    # Each further bottleneck pixel adds 2^(depth - 1) pixels to both input and output.
    missing = output_size + valid_margin(config) - one_bottleneck_pixel
    multiple = 2 ** (config.depth - 1)
    return one_bottleneck_pixel + -(-missing // multiple) * multiple


def check_valid_size(config: ModelConfig, side: int) -> None:
    """Raises a `UserError` that names legal sizes when `side` is none of a valid network."""
    smallest, multiple = smallest_valid_size(config), 2 ** (config.depth - 1)
    if side < smallest or (side - smallest) % multiple:
        above = smallest_valid_size(config, max(side - valid_margin(config), 1))
        raise UserError(
            f"An input side of {side} pixels does not fit a valid network of depth {config.depth}: use {above}, or "
            f"another of {smallest}, {smallest + multiple}, {smallest + 2 * multiple} and so on in steps of {multiple}."
        )
