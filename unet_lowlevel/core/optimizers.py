"""Optimizers: schedules and updates as pure functions; what has to be remembered, a slot per weight, as variables."""

import math
from collections.abc import Sequence

import tensorflow as tf

from unet_lowlevel.config import OptimizerConfig

# Of Adam, as in the paper; epsilon as in Keras.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


def learning_rate_at(step: tf.Tensor, config: OptimizerConfig, total_steps: int) -> tf.Tensor:
    """The learning rate of a step.

    warm-up: learning_rate * (step + 1) / warmup_steps for step < warmup_steps; then, with f = final_fraction
    and x = (step - warmup_steps) / (total_steps - 1 - warmup_steps), kept within 0 ... 1:

    constant:     learning_rate
    exponential:  learning_rate * f^x
    polynomial:   learning_rate * (f + (1 - f) (1 - x)^polynomial_power)
    cosine:       learning_rate * (f + (1 - f) (1 + cos(pi x)) / 2)

    Args:
        step: int64 scalar tensor, 0 for the first step.
        config: names the schedule.
        total_steps: of the whole training.

    Returns:
        float32 scalar.

    Reference: Loshchilov & Hutter 2017a, equation 5 (cosine).
    """
    step = tf.cast(step, tf.float32)
    warmup = float(config.warmup_steps)
    x = tf.clip_by_value((step - warmup) / max(total_steps - 1 - warmup, 1.0), 0.0, 1.0)
    f = config.final_fraction
    factor = {
        "constant": lambda: tf.ones([]),
        "exponential": lambda: tf.pow(max(f, 1e-8), x),
        "polynomial": lambda: f + (1.0 - f) * tf.pow(1.0 - x, config.polynomial_power),
        "cosine": lambda: f + (1.0 - f) * 0.5 * (1.0 + tf.cos(math.pi * x)),
    }[config.schedule]()
    if config.warmup_steps:
        factor = tf.where(step < warmup, (step + 1.0) / warmup, factor)
    return config.learning_rate * factor


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """sqrt(sum of the squares of all values of all tensors), float32 scalar."""
    # tf.nn.l2_loss(t) is sum(t^2) / 2 in one pass over the memory.
    return tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(tensor) for tensor in tensors]))


def clip_by_global_norm(gradients: Sequence[tf.Tensor], norm: tf.Tensor, limit: float) -> list[tf.Tensor]:
    """gradients * min(1, limit / norm): the direction stays. Reference: Pascanu et al. 2013, algorithm 1."""
    scale = limit / tf.maximum(norm, limit)
    return [gradient * scale for gradient in gradients]


def adam_update(weight, gradient, first, second, step, learning_rate, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON):
    """One step of Adam.

    first'  = beta_1 first + (1 - beta_1) gradient
    second' = beta_2 second + (1 - beta_2) gradient^2
    rate    = learning_rate sqrt(1 - beta_2^step) / (1 - beta_1^step)
    weight' = weight - rate first' / (sqrt(second') + epsilon)

    Args:
        weight, gradient, first, second: float32, of one shape; the slots start at 0.
        step: float32 scalar, 1 for the first step.
        learning_rate: float32 scalar.

    Returns:
        weight', first', second'

    Reference: Kingma & Ba 2015, end of section 2, where epsilon stands outside of the bias correction (as in Keras).
    """
    first = first + (1.0 - beta_1) * (gradient - first)
    second = second + (1.0 - beta_2) * (tf.square(gradient) - second)
    rate = learning_rate * tf.sqrt(1.0 - tf.pow(beta_2, step)) / (1.0 - tf.pow(beta_1, step))
    return weight - rate * first / (tf.sqrt(second) + epsilon), first, second


def sgd_update(weight, gradient, velocity, learning_rate, momentum: float, nesterov: bool):
    """One step of gradient descent with momentum.

    velocity' = momentum velocity - learning_rate gradient
    weight'   = weight + velocity', or Nesterov's: weight + momentum velocity' - learning_rate gradient

    Args:
        weight, gradient, velocity: float32, of one shape; the velocity starts at 0.
        learning_rate: float32 scalar.
        momentum: in [0, 1).

    Returns:
        weight', velocity'

    Reference: Sutskever et al. 2013, equations 1-4.
    """
    velocity = momentum * velocity - learning_rate * gradient
    return weight + (momentum * velocity - learning_rate * gradient if nesterov else velocity), velocity


def decay(weight: tf.Variable, learning_rate, weight_decay: float) -> None:
    """weight' = weight - learning_rate weight_decay weight; only of filters: biases, gamma and beta stay as they are.

    Reference: Loshchilov & Hutter 2019, algorithm 2 ("decoupled").
    """
    if weight_decay and weight.shape.rank > 1:
        weight.assign_sub(learning_rate * weight_decay * weight)


class Adam(tf.Module):
    """Adam with decoupled weight decay; see `adam_update`. Owns `first` and `second`, a pair per weight."""

    def __init__(self, weights: Sequence[tf.Variable], config: OptimizerConfig):
        super().__init__("adam")
        self.weight_decay = config.weight_decay
        self.first, self.second = slots(weights), slots(weights)

    def apply(self, weights: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], step, learning_rate) -> None:
        """Moves the weights by one step; `step` is an integer tensor, 0 for the first."""
        step = tf.cast(step, tf.float32) + 1.0
        for weight, gradient, first, second in zip(weights, gradients, self.first, self.second, strict=True):
            decay(weight, learning_rate, self.weight_decay)
            moved = adam_update(weight, gradient, first, second, step, learning_rate)
            for variable, value in zip((weight, first, second), moved, strict=True):
                variable.assign(value)


class SGD(tf.Module):
    """Gradient descent with momentum; see `sgd_update`. Owns `velocity`, one per weight."""

    def __init__(self, weights: Sequence[tf.Variable], config: OptimizerConfig):
        super().__init__("sgd")
        self.weight_decay, self.velocity = config.weight_decay, slots(weights)
        self.momentum, self.nesterov = config.momentum, config.nesterov

    def apply(self, weights: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], step, learning_rate) -> None:
        """Moves the weights by one step; `step` is not used, it is there to fit `Adam.apply`."""
        for weight, gradient, velocity in zip(weights, gradients, self.velocity, strict=True):
            decay(weight, learning_rate, self.weight_decay)
            moved = sgd_update(weight, gradient, velocity, learning_rate, self.momentum, self.nesterov)
            for variable, value in zip((weight, velocity), moved, strict=True):
                variable.assign(value)


def slots(weights: Sequence[tf.Variable]) -> list[tf.Variable]:
    """A variable of zeros for each weight, named after it."""
    return [tf.Variable(tf.zeros_like(w), trainable=False, name=w.name.split(":")[0]) for w in weights]


def make_optimizer(config: OptimizerConfig, weights: Sequence[tf.Variable]) -> Adam | SGD:
    """The optimizer that the configuration names, for these weights."""
    return Adam(weights, config) if config.optimizer == "adam" else SGD(weights, config)


if __name__ == "__main__":
    from unet_lowlevel.core import by_hand
    from unet_lowlevel.core.demonstration import array, show

    weight, gradient, zeros = array("1 1 1", 3), array("10 -1 0.3", 3), array("0 0 0", 3)
    show(adam_update, by_hand.adam_update, weight, gradient, zeros, zeros, 1.0, 0.01, gradients=False)
    for nesterov in (False, True):
        show(sgd_update, by_hand.sgd_update, weight, gradient, weight, 0.01, 0.9, nesterov, gradients=False)
