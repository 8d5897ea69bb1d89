"""Batches for training, prepared beside the training step by tf.data."""

import dataclasses

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import Config, apply
from unet_lowlevel.data.augmentation import augment, fold_in, random_crop
from unet_lowlevel.data.samples import Sample, normalize
from unet_lowlevel.ops.cropping import mirror_crop
from unet_lowlevel.unet import check_valid_size, smallest_valid_size, valid_margin

LARGEST_AUTOMATIC_CROP = 256


def resolve_crop_size(config: Config, samples: list[Sample]) -> int:
    """The side of the training crops: as configured, or made to fit the images.

    Automatic is the longest side of all images, at most 256, rounded up to what the network takes
    without padding; for a valid network so much that its output is as large.

    Raises:
        UserError: for a size that a valid network cannot take.
    """
    model, size = config.model, config.training.crop_size
    if size:
        if model.padding == "valid":
            check_valid_size(model, size)
        return size
    longest = min(max(max(sample.label.shape) for sample in samples), LARGEST_AUTOMATIC_CROP)
    if model.padding == "valid":
        return smallest_valid_size(model, longest)
    multiple = 2 ** (model.depth - 1)
    return -(-longest // multiple) * multiple


def normalized(samples: list[Sample], config: Config) -> list[Sample]:
    """The samples with images float32, normalized as the configuration says."""
    return [dataclasses.replace(sample, image=normalize(sample.image, config.data)) for sample in samples]


def class_frequencies(samples: list[Sample], classes: int) -> np.ndarray:
    """Share of each class among the pixels of all labels, background first; float64 [max(classes, 2)]."""
    counts = sum(np.bincount(sample.label.ravel(), minlength=max(classes, 2)) for sample in samples)
    return counts / counts.sum()


def one_batch(config: Config, samples: list[Sample]) -> tuple[Config, list[Sample]]:
    """Settings and samples for learning one batch by heart: the middles of the first images, never changed."""
    side = config.training.crop_size - valid_margin(config.model)
    batch = []
    for sample in samples[: config.training.batch_size]:
        top, left = (sample.label.shape[0] - side) // 2, (sample.label.shape[1] - side) // 2
        image = mirror_crop(sample.image[np.newaxis], top, left, side, side)[0].numpy()
        label = mirror_crop(sample.label[np.newaxis], top, left, side, side)[0].numpy()
        batch.append(Sample(sample.stem, image, label))
    changes = {"augment": False, "dropout_rate": 0.0, "steps_per_epoch": config.training.steps_per_epoch or 20}
    return apply(config, changes), batch


class TrainingBatches:
    """The training images of each epoch in random order, cropped, augmented, batched.

    What an epoch holds depends on the seed and the epoch's number alone, so that a resumed training
    sees what the uninterrupted one would have seen.
    """

    def __init__(self, samples: list[Sample], config: Config):
        """Prepares the pipeline.

        Args:
            samples: with normalized images.
            config: with a resolved crop size.
        """
        training = config.training
        self.samples = samples
        self.images_per_epoch = training.steps_per_epoch * training.batch_size or len(samples)
        self.steps_per_epoch = -(-self.images_per_epoch // training.batch_size)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        crop, margin = (training.crop_size,) * 2, valid_margin(config.model)
        channels = samples[0].image.shape[-1]

        def order(_):
            seed = fold_in([training.seed, 1], self.epoch)
            passes = -(-self.images_per_epoch // len(samples))
            everything = tf.range(len(samples), dtype=tf.int64)
            shuffled = [tf.random.experimental.stateless_shuffle(everything, fold_in(seed, i)) for i in range(passes)]
            return tf.data.Dataset.from_tensor_slices(tf.concat(shuffled, 0)[: self.images_per_epoch]).enumerate()

        def load(index):
            # The arrays lie in memory; TensorFlow only learns where.
            sample = samples[index]
            return sample.image, sample.label.astype(np.int32)

        def prepare(position, index):
            image, label = tf.numpy_function(load, [index], (tf.float32, tf.int32), stateful=False)
            image.set_shape([None, None, channels])
            label.set_shape([None, None])
            seed = fold_in(fold_in([training.seed, 2], self.epoch), position)
            image, label = random_crop(image, label, crop, margin, fold_in(seed, 0))
            return *augment(image, label, config.augmentation, seed), index

        self.dataset = (
            tf.data.Dataset.range(1)
            .flat_map(order)
            .map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .batch(training.batch_size)
            .prefetch(2)
        )

    def of_epoch(self, epoch: int):
        """Iterates over (images [N, crop, crop, C], labels [N, crop, crop], index [N] into the samples)."""
        self.epoch.assign(epoch)
        return iter(self.dataset)
