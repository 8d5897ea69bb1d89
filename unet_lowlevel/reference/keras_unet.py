"""The U-Net as a functional Keras model: Keras handles shapes, names and gradients.

The model in a .keras file has only Keras' own layers, so that it opens wherever Keras is installed.
"""

import tensorflow as tf

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.ops.batch_normalization import EPSILON, MOMENTUM
from unet_lowlevel.core.unet import UNet, dropout_rates
from unet_lowlevel.reference.precision import computing_in
from unet_lowlevel.reference.weights import model_variables, transfer

layers = tf.keras.layers


def conv_block(features, config: ModelConfig, channels: int, scope: str, *, seed: int, deep=False):
    """Convolution, batch normalization, activation, dropout; a few times over.

    Args:
        features: symbolic [N, H, W, C].
        config: see `ModelConfig`.
        channels: of the block.
        scope: of the layers' names.
        seed: of dropout.
        deep: whether the block is one of the two deepest of the contracting path.

    Returns:
        symbolic [N, H', W', channels]
    """
    for i, rate in enumerate(dropout_rates(config, deep=deep), start=1):
        features = layers.Conv2D(
            channels,
            config.kernel_size,
            padding=config.padding,
            use_bias=not config.batch_normalization,
            name=f"{scope}.conv_{i}",
        )(features)
        if config.batch_normalization:
            features = layers.BatchNormalization(
                momentum=MOMENTUM, epsilon=EPSILON, name=f"{scope}.batch_normalization_{i}"
            )(features)
        features = layers.Activation(config.activation)(features)
        if rate:
            features = layers.Dropout(rate, seed=seed)(features)
    return features


def functional_unet(config: ModelConfig, *, seed: int = 0) -> tf.keras.Model:
    """images [N, H, W, in_channels] -> logits [N, H', W', classes].

    The sides must suit the network: multiples of 2^(depth - 1) with "same" padding, a size that
    `geometry.check_valid_size` passes with "valid" padding. `KerasUNet` takes every size.

    Args:
        config: with in_channels of at least 1.
        seed: of dropout.
    """
    with computing_in(config.precision):
        images = layers.Input([None, None, config.in_channels], name="images")
        features, skips = images, []
        for level in range(1, config.depth):
            channels = config.base_channels * 2 ** (level - 1)
            deep = level == config.depth - 1
            features = conv_block(features, config, channels, f"encoder.level_{level}", seed=seed + level, deep=deep)
            skips.append(features)
            features = layers.MaxPooling2D(2)(features)
        deepest = config.base_channels * 2 ** (config.depth - 1)
        features = conv_block(features, config, deepest, "bottleneck", seed=seed + config.depth, deep=True)
        lost = config.convolutions_per_block * (config.kernel_size - 1) if config.padding == "valid" else 0
        border = 0
        for level in range(config.depth - 1, 0, -1):
            channels = config.base_channels * 2 ** (level - 1)
            features = layers.Conv2DTranspose(channels, 2, strides=2, name=f"decoder.level_{level}.up")(features)
            # What the levels below have lost at each side, in pixels of this level: by the deepest block, and
            # by two blocks, down and up, at every level in between.
            border = 2 * border + (lost if level == config.depth - 1 else 2 * lost)
            skip = layers.Cropping2D(border)(skips[level - 1]) if border else skips[level - 1]
            features = layers.Concatenate()([skip, features])
            features = conv_block(
                features, config, channels, f"decoder.level_{level}", seed=seed + config.depth + level
            )
        return tf.keras.Model(images, layers.Conv2D(config.classes, 1, name="output")(features), name="unet")


class KerasUNet(UNet):
    """`UNet` around a functional Keras model; equal seeds give the weights that `UNet` starts with."""

    def create_layers(self, seed: int) -> None:
        self.network = functional_unet(self.config, seed=seed)
        self.output = self.network.get_layer("output")
        found = model_variables(self.network)
        start = UNet(self.config, seed=seed).named_variables()
        transfer(start, found, "the low-level network")
        self.named = {name: found[name] for name in start}
        dropouts = [layer for layer in self.network.layers if isinstance(layer, layers.Dropout)]
        self.dropout_states = [layer.seed_generator.state.value for layer in dropouts]

    def named_variables(self) -> dict[str, tf.Variable]:
        return dict(self.named)

    def forward(self, images: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        return self.network(images, training=training)
