"""A batch in parts gives what it gives as a whole, but for batch normalization, which sees a part."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal

from unet_lowlevel.core.accumulation import in_parts
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.distributed import Replicas
from unet_lowlevel.training.steps import train_step

TINY = {"in_channels": 1, "depth": 2, "base_channels": 2, "crop_size": 8}


def batch(count=7, seed=0):
    images = normal(count, 8, 8, 1, seed=seed)
    weights = tf.constant(np.abs(normal(count, 8, 8, seed=seed + 100)), tf.float32)
    return tf.constant(images, tf.float32), tf.constant(images[..., 0] > 0.5, tf.int32), weights


def made(parts, **flags):
    config = resolve(flags=TINY | {"weight_map": True, "accumulate": parts} | flags)
    model = UNet(config.model, seed=3)
    return model, train_step(model, config, (8, 8), 10)


@pytest.mark.parametrize(("parts", "sizes"), [(1, [7]), (2, [3, 4]), (3, [2, 2, 3]), (7, [1] * 7)])
def test_parts_differ_by_one_image_and_add_up(parts, sizes):
    seen = []

    def function(share, before, images, labels):
        seen.append((int(before[0]), len(images)))
        np.testing.assert_array_equal(labels, range(int(before[0]), int(before[0]) + len(images)))
        return share * tf.reduce_mean(images), [tf.reduce_sum(labels)], {"count": tf.size(labels)}

    images = tf.constant(normal(7, 2), tf.float32)
    mean, (total,), counts = in_parts(function, parts, images, tf.range(7))
    assert seen == list(zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True))
    assert float(mean) == pytest.approx(float(tf.reduce_mean(images)), rel=1e-6)
    assert int(total) == 21 and int(counts["count"]) == 7


@pytest.mark.parametrize(
    ("loss", "parts"),
    [("dice_cross_entropy", (2, 3, 7)), ("generalized_dice", (3,)), ("focal", (3,)), ("tversky", (2,))],
)
def test_a_training_in_parts_is_that_of_whole_batches(loss, parts):
    """Dropout, clipping, averaged weights and counts included; the last batch is smaller."""
    flags = {"batch_normalization": False, "dropout_rate": 0.3, "clip_norm": 0.1, "ema_decay": 0.9, "loss": loss}
    flags["weight_map"] = loss in ("dice_cross_entropy", "focal")
    results = {}
    for number in (1, *parts):
        _, step = made(number, **flags)
        size = 3 if flags["weight_map"] else 2
        steps = [step(*batch(count, seed)[:size]) for seed, count in enumerate([9, 9, 7])]
        results[number] = steps, [variable.numpy() for variable in step.variables]
    whole_steps, whole_variables = results.pop(1)
    for number, (steps, variables) in results.items():
        for whole, split in zip(whole_steps, steps, strict=True):
            for name in ("loss", "learning_rate", "gradient_norm"):
                assert float(split[name]) == pytest.approx(float(whole[name]), rel=1e-4), (name, number)
            for name in ("confusion", "thresholds"):
                assert np.abs(split[name].numpy() - whole[name].numpy()).max() <= 1  # a pixel on the threshold
        for one, other in zip(whole_variables, variables, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4, err_msg=f"{number} parts")


def test_batch_normalization_sees_a_part():
    """Held to a network that is given the parts one after the other."""
    model, step = made(2)
    images, labels, weights = batch()
    expected, total = 0.0, 0.0
    for part in (slice(0, 3), slice(3, 7)):
        with tf.GradientTape() as tape:
            logits = model(images[part], training=True)
            loss = (part.stop - part.start) / 7 * step.loss(labels[part], logits, weights[part])
        expected = expected + np.array([g.numpy() for g in tape.gradient(loss, step.weights)], object)
        total += float(loss)
    moving = {name: v.numpy() for name, v in model.named_variables().items() if "moving" in name}
    model, step = made(2)
    found = step(images, labels, weights)
    assert float(found["loss"]) == pytest.approx(total, rel=1e-6)
    for ours, reference in zip(found["gradients"], expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-6)
    for name, value in moving.items():
        np.testing.assert_allclose(model.named_variables()[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"loss": "batch_dice"}, "--accumulate adds up .* but with --loss batch_dice"),
        ({"ignore_value": (254,)}, "--accumulate adds up .* but with pixels without a label"),
    ],
)
def test_a_loss_that_is_no_sum_over_images_is_refused(flags, words):
    with pytest.raises(UserError, match=words):
        resolve(flags=flags | {"accumulate": 2})


def test_more_parts_than_images_are_refused():
    Replicas().check(3, 3)
    with pytest.raises(UserError, match=r"4 parts \(--accumulate\) cannot share a batch of 3 images"):
        Replicas().check(3, 4)
