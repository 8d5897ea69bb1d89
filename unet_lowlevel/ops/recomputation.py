"""Less memory for more time: what lies between is computed again instead of kept for the gradient."""

from collections.abc import Callable, Sequence

import tensorflow as tf


def kept(function: Callable[..., tf.Tensor], inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """function(*inputs), with all that its gradient needs kept in memory: the ordinary way."""
    return function(*inputs)


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
