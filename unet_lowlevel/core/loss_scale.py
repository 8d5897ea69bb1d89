"""Loss scaling: what keeps gradients in float16 from becoming 0."""

from collections.abc import Sequence

import tensorflow as tf

from unet_lowlevel.core.optimizers import global_norm

FIRST = 2.0**15
GOOD_STEPS = 2000


class LossScale(tf.Module):
    """A factor of the loss while it is differentiated, which is taken out of its gradient again.

    float16 knows no positive number below 6e-8, where many gradients lie, and none above 65,504. The factor is
    as large as goes well: a gradient that is not finite halves it, `GOOD_STEPS` finite ones in a row double it.

    Reference: Micikevicius et al. 2018, section 3.2.
    """

    def __init__(self):
        super().__init__("loss_scale")
        self.scale = tf.Variable(FIRST, trainable=False, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, name="good_steps")  # in a row

    def undo(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """gradients / scale, or 0 where the gradient of any weight is not finite; adapts the scale.

        Args:
            gradients: float32, of scale * loss.
        """
        scale = self.scale.value()
        gradients = [gradient / scale for gradient in gradients]
        finite = tf.math.is_finite(global_norm(gradients))
        enough = finite & (self.good_steps + 1 >= GOOD_STEPS)
        self.scale.assign(scale * tf.where(finite, tf.where(enough, 2.0, 1.0), 0.5))
        self.good_steps.assign(tf.where(finite & ~enough, self.good_steps + 1, 0))
        return [tf.where(finite, gradient, 0.0) for gradient in gradients]
