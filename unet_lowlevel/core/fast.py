"""The fast forms: what training and prediction run in place of the definitions, each of which it equals.

| fast form                   | the definition that it equals      | what it saves                          |
| --------------------------- | ---------------------------------- | -------------------------------------- |
| `conv2d_of_parts`           | `conv2d` of `crop_and_concat`      | the joined features and their gradient |
| `batch_norm`                | `normalize` with `batch_moments`   | passes over the memory                 |
| `shifted_elu`               | `elu` of images + shift (bfloat16) | two slow kernels of TensorFlow         |
| `recomputed`                | the function itself                | memory, for time (`--recompute`)       |
| `FoldedUNet`                | `UNet` with training=False         | normalization, joining, tiles' borders |
| `InPlaceAdam`, `InPlaceSGD` | `optimizers.Adam`, `.SGD`          | copies of weights and slots            |

With `--plain` none of them runs, but the book itself: to step through, and to time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import ModelConfig, OptimizerConfig
from unet_lowlevel.core import optimizers
from unet_lowlevel.core.ops.activations import elu
from unet_lowlevel.core.ops.batch_normalization import EPSILON, BatchNormalization, batch_moments, normalize
from unet_lowlevel.core.ops.convolution import Conv2D, conv2d
from unet_lowlevel.core.ops.cropping import center_crop, crop_like
from unet_lowlevel.core.ops.dropout import dropout, seed_of_stream
from unet_lowlevel.core.ops.pooling import max_pool2d
from unet_lowlevel.core.ops.transposed_convolution import Conv2DTranspose
from unet_lowlevel.core.replicas import alone, mean_of_batch
from unet_lowlevel.core.unet import ConvBlock, UNet

# Layers, while training.


def conv2d_of_parts(
    parts: Sequence[tf.Tensor], weight: tf.Tensor, bias: tf.Tensor | None = None, padding: str = "same"
) -> tf.Tensor:
    """conv2d(tf.concat(parts, -1), weight, bias, padding), without joining the parts in memory.

    A convolution sums over the input channels, so that each part can be convolved with its share of the filter:

    output = conv2d(parts[0], weight[:, :, :C0], bias) + conv2d(parts[1], weight[:, :, C0 : C0 + C1]) + ...

    Args:
        parts: float [N, H, W, C0], [N, H, W, C1], ...
        weight, bias, padding: see `conv2d`; in_channels = C0 + C1 + ...

    Returns:
        see `conv2d`.
    """
    if len(parts) == 1:
        return conv2d(parts[0], weight, bias, padding)
    shares = tf.split(weight, [part.shape[-1] for part in parts], axis=2)
    outputs = conv2d(parts[0], shares[0], bias, padding)
    for part, share in zip(parts[1:], shares[1:], strict=True):
        outputs += conv2d(part, share, None, padding)
    return outputs


def batch_norm(images, gamma, beta, epsilon: float = EPSILON) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """normalize(images, *batch_moments(images), gamma, beta), forwards and backwards, in one fused operation.

    The fused operation returns the variance divided by n - 1; it is turned back into the biased one.

    Args:
        images: float [N, H, W, C].
        gamma, beta: float [C].
        epsilon: see `normalize`.

    Returns:
        normalized images [N, H, W, C], mean [C], biased variance [C].
    """
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    n = tf.cast(tf.reduce_prod(tf.shape(images)[:3]), tf.float32)
    return outputs, mean, variance * ((n - 1.0) / n)


@tf.custom_gradient
def shifted_elu(images: tf.Tensor, shift: tf.Tensor):
    """elu(images + shift) of bfloat16 images, as a convolution with the identity.

    The convolution changes nothing, but oneDNN adds the shift and applies ELU while it writes the result, in float32.
    TensorFlow's own ELU of bfloat16 takes three times as long.

    The gradient is gradient where output > 0, else gradient (output + 1).

    Args:
        images: bfloat16 [N, H, W, C].
        shift: float32 [C], rounded to bfloat16.
    """
    identity = np.eye(images.shape[-1], dtype=images.dtype.as_numpy_dtype)[np.newaxis, np.newaxis]
    outputs = elu(conv2d(images, identity, shift))

    def gradient(upstream):
        found = tf.raw_ops.EluGrad(gradients=upstream, outputs=outputs)
        return found, tf.cast(tf.reduce_sum(found, [0, 1, 2]), shift.dtype)

    return outputs, gradient


# Networks.


class FastUNet(UNet):
    """`UNet`, with the same variables: trains by the forms above."""

    def forward(self, features: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """See `UNet.forward`; with training=False it is that."""
        if not training:
            return super().forward(features, training=False)
        skips = []
        with tf.name_scope("encoder"):
            for block in self.encoder:
                features = self.computed(partial(train_block, block, seed=seed), features)
                skips.append(features)
                features = max_pool2d(features)
        features = self.computed(partial(train_block, self.bottleneck, seed=seed), features)
        for up, block in zip(self.decoder_ups, self.decoder, strict=True):
            features = self.computed(partial(train_level, up, block, seed=seed), features, skips.pop())
        return self.output(features)

    def computed(self, function: Callable[..., tf.Tensor], *inputs: tf.Tensor) -> tf.Tensor:
        """function(*inputs), with --recompute computed again for the gradient; for `again` see `recomputed`."""
        return recomputed(function, inputs) if self.config.recompute else function(*inputs, again=False)


def train_level(up: Conv2DTranspose, block: ConvBlock, features, skip, *, seed, again: bool) -> tf.Tensor:
    """block(crop_and_concat(skip, up(features)), training=True, seed=seed); for `again` see `recomputed`."""
    with block.name_scope:
        features = up(features)
        parts = crop_like(skip, features), features
    return train_block(block, *parts, seed=seed, again=again)


def train_block(block: ConvBlock, *parts: tf.Tensor, seed: tf.Tensor | None, again: bool) -> tf.Tensor:
    """block(tf.concat(parts, -1), training=True, seed=seed); for `again` see `recomputed`."""
    shifts = block.activation is elu and parts[0].dtype == tf.bfloat16
    with block.name_scope:
        for i, convolution in enumerate(block.convolutions):
            with convolution.name_scope:
                features = conv2d_of_parts(parts, convolution.weight, convolution.bias, convolution.padding)
            if block.normalizations and shifts:
                features = train_elu(block.normalizations[i], features, again)
            elif block.normalizations:
                normalization = block.normalizations[i]
                features = block.activation(train_normalization(normalization, features, again, normalization.beta))
            else:
                features = block.activation(features)
            if block.dropout_rates[i]:
                features = dropout(features, block.dropout_rates[i], seed_of_stream(seed, block.stream))
            parts = (features,)
    return features


def train_normalization(layer: BatchNormalization, features: tf.Tensor, again: bool, beta: tf.Tensor) -> tf.Tensor:
    """layer(features, training=True) with this `beta`; `again`: without moving the averages."""
    with layer.name_scope:
        if layer.mean_of is mean_of_batch and not alone():  # the fused operation knows nothing of other replicas
            mean, variance = batch_moments(tf.cast(features, beta.dtype), mean_of_batch)
            outputs = normalize(features, mean, variance, layer.gamma, beta)
        else:
            outputs, mean, variance = batch_norm(features, layer.gamma, beta)
        if not again:
            layer.move_averages(mean, variance)
    return outputs


def train_elu(layer: BatchNormalization, features: tf.Tensor, again: bool) -> tf.Tensor:
    """elu(layer(features, training=True)) of bfloat16 features; for `again` see `train_normalization`.

    Beta is added as the shift. Where the layer would add it, it is 0, but has its gradient there: a sum over all pixels
    that the normalization has at hand.
    """
    beta = tf.convert_to_tensor(layer.beta)
    shift = tf.stop_gradient(beta)
    return shifted_elu(train_normalization(layer, features, again, beta - shift), shift)


def recomputed(function: Callable[..., tf.Tensor], inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """function(*inputs), keeping for the gradient nothing but the inputs.

    Going back, the function runs once more from its inputs, and the gradient is that of this second run: the same
    numbers, for the price of another forward pass.

    Args:
        function: called as function(*inputs, again=False) and, for the gradient, function(*inputs, again=True). Both
            must return the same; what it does beside that, such as moving averages, it must leave out the second time.
        inputs: float tensors.

    Returns:
        what `function` returns.

    Reference: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4.
    """

    @tf.custom_gradient
    def run(*inputs):
        def gradient(upstream, variables=()):
            # Not before the gradient has come back to here; and other tensors than the first time, or TensorFlow
            # would see that it has the results already and keep them after all.
            with tf.control_dependencies([upstream]):
                inputs_again = [tf.identity(x) for x in inputs]
            with tf.GradientTape() as tape:
                tape.watch(inputs_again)
                with tf.control_dependencies([upstream]):
                    outputs = function(*inputs_again, again=True)
            gradients = tape.gradient(outputs, [*inputs_again, *variables], upstream)
            # All at once, or what lies before could be computed again while this is still in memory.
            with tf.control_dependencies(gradients):
                gradients = [tf.identity(gradient) for gradient in gradients]
            return gradients[: len(inputs)], gradients[len(inputs) :]

        return function(*inputs, again=False), gradient

    return run(*inputs)


def network(config: ModelConfig, *, seed: int = 0) -> UNet:
    """The network to train: `FastUNet`, with --plain the book's own."""
    return (UNet if config.plain else FastUNet)(config, seed=seed)


def fold_batch_normalization(weight, gamma, beta, moving_mean, moving_variance) -> tuple[tf.Tensor, tf.Tensor]:
    """A convolution and the normalization behind it as one convolution with a bias.

    scale = gamma / sqrt(moving_variance + epsilon)
    gamma (conv2d(x, weight) - moving_mean) / sqrt(moving_variance + epsilon) + beta
        = conv2d(x, weight * scale) + (beta - moving_mean * scale)

    Args:
        weight: float32 [height, width, in_channels, out_channels].
        gamma, beta, moving_mean, moving_variance: float32 [out_channels].

    Returns:
        weight [height, width, in_channels, out_channels], bias [out_channels]
    """
    scale = gamma * tf.math.rsqrt(moving_variance + EPSILON)
    return weight * scale, beta - moving_mean * scale


class FoldedUNet(UNet):
    """A copy of a trained network that can only predict, with training=False: the same logits up to rounding, sooner.

    Its weights are NumPy arrays, and so constants of every graph that is traced: oneDNN lays them out once, as it likes
    them best. (A tensor would be an input of the graph, which may change.) Convolution, bias, the sum of
    `conv2d_of_parts` and the activation then run as one operation.
    """

    def __init__(self, model: UNet):
        """Copies the weights of `model`, of any implementation, with batch normalization folded into them."""
        super().__init__(dataclasses.replace(model.config, batch_normalization=False))
        trained = model.named_variables()
        for name, variable in self.named_variables().items():
            scope, _, kind = name.rpartition("/")
            norm = scope.replace("/conv_", "/batch_normalization_")
            if f"{norm}/gamma" in trained:
                statistics = [trained[f"{norm}/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance")]
                weight, bias = fold_batch_normalization(trained[f"{scope}/weight"], *statistics)
                variable.assign(weight if kind == "weight" else bias)
            else:
                variable.assign(trained[name])
        for module in self.submodules:
            if isinstance(module, (Conv2D, Conv2DTranspose)):
                module.weight, module.bias = (
                    tf.cast(variable, self.config.precision).numpy() for variable in (module.weight, module.bias)
                )

    def forward(self, features: tf.Tensor, *, training: bool, seed: tf.Tensor | None = None) -> tf.Tensor:
        """See `UNet.forward`; training is False."""
        skips = []
        for block in self.encoder:
            skips.append(block(features, training=False))
            features = max_pool2d(skips[-1])
        features = self.bottleneck(features, training=False)
        for up, block in zip(self.decoder_ups, self.decoder, strict=True):
            features = predict_level(up, block, features, skips.pop())
        return self.output(features)

    def core(self, features: tf.Tensor, core: tf.Tensor, beyond: Sequence[int]) -> tf.Tensor:
        """box(self.forward(features, training=False), *core), for a "same" network.

        Each level computes on its way up only what the core depends on. That is most of the work, and so it is done for
        little more than the core and not for the whole window.

        Args:
            features: [N, H, W, in_channels], sides that the network takes without padding.
            core: int32 [2, 2], (first, last + 1) row and column of the output; multiples of 2^(depth - 1).
            beyond: how far beyond the core the features of each level are needed; see `geometry.reach`.

        Returns:
            [N, last + 1 - first, ..., classes]
        """
        skips, ends = [], tf.shape(features)[1:3]
        for block in self.encoder:
            skips.append(block(features, training=False))
            features = max_pool2d(skips[-1])
        features = self.bottleneck(features, training=False)
        origin = tf.zeros([2], tf.int32)  # of the features, in pixels of their level

        def needed(features: tf.Tensor, level: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            """What the levels above depend on, and where it begins and ends in pixels of the level."""
            scale = 2**level
            first = tf.maximum(core[:, 0] // scale - beyond[level], 0)
            last = tf.minimum(core[:, 1] // scale + beyond[level], ends // scale)
            return box(features, first - origin, last - origin), first, last

        for level, (up, block) in enumerate(zip(self.decoder_ups, self.decoder, strict=True), start=1):
            level = self.config.depth - level
            features, first, last = needed(features, level)
            origin = 2 * first
            features = predict_level(up, block, features, box(skips[level - 1], origin, 2 * last))
        return self.output(needed(features, 0)[0])


def predict_level(up: Conv2DTranspose, block: ConvBlock, features: tf.Tensor, skip: tf.Tensor) -> tf.Tensor:
    """block(crop_and_concat(skip, up(features)), training=False), of a folded network.

    What comes up gets its size from the skip. TensorFlow then knows beforehand that the two are of one size, whatever
    it is, and adds them within a convolution.
    """
    if block.convolutions[0].padding == "valid":
        skip = center_crop(skip, up.stride * tf.shape(features)[1], up.stride * tf.shape(features)[2])
    grown = tf.nn.conv2d_transpose(features, up.weight, tf.shape(skip), up.stride, padding="SAME")
    parts: tuple[tf.Tensor, ...] = skip, tf.nn.bias_add(grown, up.bias)
    for convolution in block.convolutions:
        parts = (block.activation(conv2d_of_parts(parts, convolution.weight, convolution.bias, convolution.padding)),)
    return parts[0]


def box(features: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Rows and columns first ... last - 1 of [N, H, W, C]; both int32 [2]."""
    return features[:, first[0] : last[0], first[1] : last[1]]


# Optimizers.


class InPlaceAdam(optimizers.Adam):
    """`optimizers.Adam` with a single operation for each weight, which changes weight and slots in place."""

    def apply(self, weights: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], step, learning_rate) -> None:
        """See `optimizers.Adam.apply`."""
        step = tf.cast(step, tf.float32) + 1.0
        beta_1_power, beta_2_power = tf.pow(optimizers.BETA_1, step), tf.pow(optimizers.BETA_2, step)
        for weight, gradient, first, second in zip(weights, gradients, self.first, self.second, strict=True):
            optimizers.decay(weight, learning_rate, self.weight_decay)
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=learning_rate,
                beta1=optimizers.BETA_1,
                beta2=optimizers.BETA_2,
                epsilon=optimizers.EPSILON,
                grad=gradient,
            )


class InPlaceSGD(optimizers.SGD):
    """`optimizers.SGD` with a single operation for each weight, which changes weight and slot in place."""

    def apply(self, weights: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], step, learning_rate) -> None:
        """See `optimizers.SGD.apply`."""
        for weight, gradient, velocity in zip(weights, gradients, self.velocity, strict=True):
            optimizers.decay(weight, learning_rate, self.weight_decay)
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weight.handle,
                accum=velocity.handle,
                lr=learning_rate,
                grad=gradient,
                momentum=self.momentum,
                use_nesterov=self.nesterov,
            )


def make_optimizer(config: OptimizerConfig, weights: Sequence[tf.Variable]) -> optimizers.Adam | optimizers.SGD:
    """The optimizer that the configuration names, in place."""
    return (InPlaceAdam if config.optimizer == "adam" else InPlaceSGD)(weights, config)
