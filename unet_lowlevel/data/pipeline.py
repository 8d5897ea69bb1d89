"""Training batches, prepared by tf.data while the training step runs."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import IGNORED, Config
from unet_lowlevel.core.ops.cropping import mirror_indices
from unet_lowlevel.core.ops.dropout import fold_in
from unet_lowlevel.data.augmentation import augment, random_start
from unet_lowlevel.data.deformation import deforms, random_field, resampled, window_of_field
from unet_lowlevel.data.foreground import foreground_squares, start_on_foreground
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.weight_maps import class_balance
from unet_lowlevel.errors import UserError
from unet_lowlevel.geometry import LARGEST_CROP, check_valid_size, crops_in, legal_size, valid_margin
from unet_lowlevel.settings import apply

# Functions of the pipeline have no Python branches on tensors; looking for some takes half a second a training.
as_written = tf.autograph.experimental.do_not_convert


def resolve_crop_size(config: Config, sizes: Iterable[tuple[int, int]]) -> int:
    """The side of the training crops in pixels: as configured, or chosen for the images if that is 0.

    Chosen is the longest side of all images, at most `LARGEST_CROP`, rounded up to what the network takes without
    padding; for a valid network a crop whose output is at least that large.

    Args:
        config: of the training.
        sizes: height and width at which the network sees each image.

    Raises:
        UserError: for a size that a valid network cannot take.
    """
    model, size = config.model, config.training.crop_size
    if size:
        if model.padding == "valid":
            check_valid_size(model, size)
        return size
    return legal_size(model, min(max(map(max, sizes)), LARGEST_CROP))


def draws_of_images(config: Config, sizes: Iterable[tuple[int, int]]) -> list[int]:
    """How often one pass over the images draws each of them: once, or as often as crops fit into it.

    Args:
        config: with a resolved crop size.
        sizes: height and width at which the network sees each image.
    """
    by_area = config.training.draw_by == "area"
    return [round(crops_in(size, config)) if by_area else 1 for size in sizes]


def class_frequencies(samples: list[Sample], classes: int) -> np.ndarray:
    """Share of each class among the labelled pixels, background first; float64 [max(classes, 2)]."""
    counts = np.zeros(max(classes, 2))
    for sample in samples:
        counts[: len(sample.class_counts)] += sample.class_counts
    return counts / counts.sum()


def settings_of_one_batch(config: Config) -> Config:
    """Settings for learning one batch by heart: nothing random."""
    steps = config.training.steps_per_epoch or 20
    return apply(config, {"augment": False, "dropout_rate": 0.0, "steps_per_epoch": steps})


def one_batch(config: Config, samples: list[Sample]) -> tuple[Config, list[Sample]]:
    """Settings and samples for learning one batch by heart: the centers of the first images, not augmented."""
    side = config.training.crop_size - valid_margin(config.model)
    batch = []
    for sample in samples[: config.training.batch_size]:
        rows, columns = (mirror_indices((length - side) // 2, side, length).numpy() for length in sample.size)
        image, label, *weights = sample.window(rows, columns)
        batch.append(Sample(sample.stem, image, label, weights=weights[0] if weights else None))
    if all((sample.label == IGNORED).all() for sample in batch):
        raise UserError(
            "--overfit-one-batch learns the middle of the first images, but no pixel there has a label: make "
            "--crop-size or --batch-size larger."
        )
    return settings_of_one_batch(config), batch


def without_autotuning() -> tf.data.Options:
    """For any dataset that is read for longer than half a minute.

    The thread that tunes a dataset sleeps for up to a minute at a time, and the end of an iterator waits for it: half a
    minute after an epoch of 50 seconds.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


class TrainingBatches:
    """The training images of each epoch in random order, cropped, augmented, batched.

    An epoch depends only on the seed and its number, so that a resumed training sees the same batches
    as an uninterrupted one.
    """

    def __init__(self, samples: list[Sample], config: Config, share: Callable[[int], slice] = slice):
        """Prepares the pipeline.

        Args:
            samples: in memory or in files; of each image only the window of its crop is read.
            config: with a resolved crop size.
            share: of a batch of so many images, those that are wanted here; others are not read.
        """
        training, changes = config.training, config.augmentation
        self.samples, self.batch_size = samples, training.batch_size
        draws = draws_of_images(config, [sample.size for sample in samples])
        self.images_per_epoch = training.steps_per_epoch * training.batch_size or sum(draws)
        self.steps_per_epoch = -(-self.images_per_epoch // training.batch_size)
        last = self.batch_size * (self.steps_per_epoch - 1)  # where the last batch begins, which may be smaller
        here = np.zeros(self.images_per_epoch, bool)
        here[:last].reshape(-1, self.batch_size)[:, share(self.batch_size)] = True
        here[last:][share(self.images_per_epoch - last)] = True
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.first = tf.Variable(0, dtype=tf.int64, trainable=False)  # images of the epoch to skip
        crop, margin = (training.crop_size,) * 2, valid_margin(config.model)
        channels = samples[0].image.shape[-1]
        sizes = tf.constant([sample.size for sample in samples])

        @as_written
        def order(_):
            seed = fold_in([training.seed, 1], self.epoch)
            passes = -(-self.images_per_epoch // sum(draws))
            everything = tf.repeat(tf.range(len(samples), dtype=tf.int64), draws)
            shuffled = [tf.random.experimental.stateless_shuffle(everything, fold_in(seed, i)) for i in range(passes)]
            images = tf.concat(shuffled, 0)[: self.images_per_epoch]
            places = tf.range(self.first, self.images_per_epoch)
            places = places[tf.gather(here, places)]
            return tf.data.Dataset.from_tensor_slices((places, tf.gather(images, places)))

        kinds = [tf.float32, tf.uint8]
        if config.loss.weight_map:
            kinds.append(tf.float32)
            balance = class_balance(class_frequencies(samples, config.model.classes))
            balance = tf.constant(np.pad(balance, (0, IGNORED + 1 - len(balance))), tf.float32)  # 0 for `IGNORED`

        squares = [foreground_squares(sample.label) for sample in samples] if training.foreground_crops else []

        def on_foreground(start, index, uniform):
            return start_on_foreground(start, squares[index], samples[index].size, crop[0], margin, uniform)

        self.mistake: UserError | None = None

        def load(index, rows, columns):
            try:
                return samples[index].window(rows, columns)
            except UserError as mistake:
                self.mistake = mistake
                raise

        @as_written
        def prepare(position, index):
            seed = fold_in(fold_in([training.seed, 2], self.epoch), position)
            size = tf.gather(sizes, index)
            start, extent = random_start(size, crop, margin, fold_in(seed, 0)), crop
            if squares:
                uniform = tf.random.stateless_uniform([5], fold_in(seed, 4))
                moved = tf.numpy_function(on_foreground, [start, index, uniform[1:]], tf.int32, stateful=False)
                start = tf.where(uniform[0] < training.foreground_crops, tf.ensure_shape(moved, [2]), start)
            if deforms(changes):
                field = random_field(crop, changes, fold_in(seed, 3))
                start, extent, field = window_of_field(start, field, changes.interpolation)
            rows, columns = (mirror_indices(start[i], extent[i], size[i]) for i in range(2))
            image, *masks = tf.numpy_function(load, [index, rows, columns], kinds, stateful=False)
            image.set_shape([None, None, channels])
            if deforms(changes):
                image, *masks = resampled(image, masks, field, changes.interpolation)
            image.set_shape([*crop, channels])
            for mask in masks:
                mask.set_shape(crop)
            label, *weights = masks
            image, label, *weights = augment(image, tf.cast(label, tf.int32), changes, seed, *weights)
            if weights:
                weights = [tf.gather(balance, label) + weights[0]]
            return image, label, *weights, index

        self.dataset = (
            tf.data.Dataset.range(1)
            .flat_map(order)
            .map(prepare, num_parallel_calls=os.cpu_count(), deterministic=True)
            .batch(len(range(self.batch_size)[share(self.batch_size)]))
            .prefetch(2)
            .with_options(without_autotuning())
        )

    def of_epoch(self, epoch: int, first: int = 0):
        """Iterates over (images [N, crop, crop, C], labels [N, crop, crop], index [N] into the samples).

        With weight maps there are weights float32 [N, crop, crop] before the index.
        The first `first` batches of the epoch are skipped.
        """
        self.epoch.assign(epoch)
        self.first.assign(first * self.batch_size)
        return self._told(iter(self.dataset))

    def _told(self, batches: Iterator) -> Iterator:
        with self.mistakes_told():
            yield from batches

    @contextlib.contextmanager
    def mistakes_told(self) -> Iterator[None]:
        """Raises the `UserError` of a sample that cannot be read, of which the dataset makes an error of its own."""
        try:
            yield
        except tf.errors.OpError:
            if self.mistake:
                raise self.mistake from None
            raise

    def images_in(self, step: int) -> int:
        """How many images the batch of this step of an epoch has, 0 for the first, wherever they are seen."""
        return min(self.batch_size, self.images_per_epoch - step * self.batch_size)
