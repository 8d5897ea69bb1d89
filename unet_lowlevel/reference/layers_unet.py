"""The U-Net from `tf.keras.layers`, with our own training step.

Compared with `core/unet.py`, a layer hides: creating its variables and their names, channel counts of the
input, the state of dropout's random numbers.
"""

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.ops.batch_normalization import EPSILON, MOMENTUM
from unet_lowlevel.core.ops.cropping import crop_and_concat
from unet_lowlevel.core.unet import UNet, dropout_rates
from unet_lowlevel.reference.precision import computing_in
from unet_lowlevel.reference.weights import layer_variables, transfer

layers = tf.keras.layers


def conv_block(
    config: ModelConfig, in_channels: int, out_channels: int, *, seed: int, deep: bool = False
) -> tf.keras.Sequential:
    """Convolution, batch normalization, activation, dropout; a few times over.

    Args:
        config: see `ModelConfig`.
        in_channels, out_channels: of the block.
        seed: of dropout.
        deep: whether the block is one of the two deepest of the contracting path.
    """
    block = tf.keras.Sequential([layers.Input([None, None, in_channels])])
    for i, rate in enumerate(dropout_rates(config, deep=deep), start=1):
        block.add(
            layers.Conv2D(
                out_channels,
                config.kernel_size,
                padding=config.padding,
                use_bias=not config.batch_normalization,
                name=f"conv_{i}",
            )
        )
        if config.batch_normalization:
            block.add(layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"batch_normalization_{i}"))
        block.add(layers.Activation(config.activation))
        if rate:
            block.add(layers.Dropout(rate, seed=seed))
    return block


class LayersUNet(UNet):
    """`UNet` with layers from `tf.keras.layers`; equal seeds give the weights that `UNet` starts with."""

    def create_layers(self, seed: int) -> None:
        with computing_in(self.config.precision):
            self.create_keras_layers(seed)

    def create_keras_layers(self, seed: int) -> None:
        config = self.config
        self.encoder, self.ups, self.decoder = [], [], []
        self.pool = layers.MaxPooling2D(2)
        # tf.Module does not find variables in Keras layers, so they are collected here.
        found: dict[str, tf.Variable] = {}
        self.dropout_states: list[tf.Variable] = []

        def block(scope: str, in_channels: int, out_channels: int, *, stream: int, deep: bool = False):
            made = conv_block(config, in_channels, out_channels, seed=seed + stream, deep=deep)
            for layer in made.layers:
                found.update(layer_variables(layer, f"{scope}/{layer.name}"))
                if isinstance(layer, layers.Dropout):
                    self.dropout_states.append(layer.seed_generator.state.value)
            return made

        in_channels = config.in_channels
        for level in range(1, config.depth):
            channels = config.base_channels * 2 ** (level - 1)
            deep = level == config.depth - 1
            scope = f"encoder/level_{level}"
            self.encoder.append(block(scope, in_channels, channels, stream=level, deep=deep))
            in_channels = channels
        deepest = config.base_channels * 2 ** (config.depth - 1)
        self.bottleneck = block("bottleneck", in_channels, deepest, stream=config.depth, deep=True)
        for level in range(config.depth - 1, 0, -1):
            channels = config.base_channels * 2 ** (level - 1)
            scope = f"decoder/level_{level}"
            up = layers.Conv2DTranspose(channels, 2, strides=2)
            up.build([None, None, None, 2 * channels])
            found |= layer_variables(up, f"{scope}/up")
            self.ups.append(up)
            self.decoder.append(block(scope, 2 * channels, channels, stream=config.depth + level))
        self.output = layers.Conv2D(config.classes, 1)
        self.output.build([None, None, None, config.base_channels])
        found |= layer_variables(self.output, "output")

        start = UNet(config, seed=seed).named_variables()
        transfer(start, found, "the low-level network")
        self.named = {name: found[name] for name in start}

    def named_variables(self) -> dict[str, tf.Variable]:
        return dict(self.named)

    def forward(self, images: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        features, skips = images, []
        for block in self.encoder:
            skips.append(block(features, training=training))
            features = self.pool(skips[-1])
        features = self.bottleneck(features, training=training)
        for up, block, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            features = block(crop_and_concat(skip, up(features)), training=training)
        return self.output(features)
