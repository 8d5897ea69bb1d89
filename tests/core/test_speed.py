"""The bare training step beside the same network in Keras `fit`, in turn in one process."""

import time

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.core import fast
from unet_lowlevel.core.losses import dice
from unet_lowlevel.reference.keras_unet import functional_unet
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.steps import train_step


@pytest.mark.slow
def test_the_step_is_faster_than_keras_fit():
    """float32, batch 4 of 256x256, base 16, depth 5, batch normalization, ELU, Dice, Adam on both sides.

    Rounds of ours and theirs alternate, so that a machine that slows down slows both; each round's figure
    is the mean over its steps, and what counts is the median of the ratios.
    """
    flags = {"in_channels": 1, "loss": "dice", "schedule": "constant", "crop_size": 256}
    config = resolve(flags=flags)
    rounds, steps = 7, 8
    images = tf.random.stateless_normal([4, 256, 256, 1], [0, 0])
    labels = tf.cast(images[..., 0] > 0.5, tf.int32)
    step = train_step(fast.network(config.model), config, (256, 256), total_steps=1000)
    keras = functional_unet(config.model)

    def loss(truth, logits):
        return dice(truth[..., 0], logits)

    keras.compile(tf.keras.optimizers.Adam(1e-3), loss)
    assert keras.count_params() == sum(int(tf.size(v)) for v in step.model.variables)
    data = tf.data.Dataset.from_tensors((images, labels[..., tf.newaxis])).repeat().prefetch(2)

    def ours():
        for _ in range(steps):
            float(step(images, labels)["loss"])

    def theirs():
        keras.fit(data, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)

    speeds = []
    for i in range(rounds + 1):
        speed = []
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            speed.append(4 * steps / (time.perf_counter() - start))
        if i:  # the first round compiles
            speeds.append(speed)
    ours_speed, keras_speed = np.median(speeds, axis=0)
    ratios = np.array(speeds)[:, 0] / np.array(speeds)[:, 1]
    print(
        f"\nours {ours_speed:.2f} images/s, Keras fit {keras_speed:.2f} images/s, ratio median {np.median(ratios):.2f} "
        f"({ratios.min():.2f} to {ratios.max():.2f})"
    )
    assert np.median(ratios) >= 1.2
