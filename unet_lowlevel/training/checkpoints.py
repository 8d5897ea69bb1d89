"""Checkpoints: the state of a training, and the best weights, on disk."""

import logging
import shutil
from pathlib import Path

import tensorflow as tf

from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError, listed, reason


class Progress(tf.Module):
    """What the loop must remember besides the weights; saved with them."""

    def __init__(self):
        super().__init__("progress")
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")  # the last finished one
        self.tally = tf.Variable("", dtype=tf.string, trainable=False, name="tally")  # `Totals` of the unfinished epoch
        self.best_mean_iou = tf.Variable(-1.0, dtype=tf.float64, trainable=False, name="best_mean_iou")
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="best_epoch")


class Checkpoints:
    """The newest states in RUN/checkpoints and the best weights in RUN/best.

    The best weights are saved by name, so that every implementation of the network can read them.
    TensorFlow writes a checkpoint under a temporary name and lists it when it is complete.
    """

    def __init__(self, run: Path, keep: int, *, model: UNet, memory: TrainStep | tf.Module, progress: Progress):
        """Prepares both folders.

        Args:
            run: the run folder.
            keep: how many of the newest states.
            model: the network.
            memory: the rest of the state: the `TrainStep`, or the optimizer of Keras.
            progress: see `Progress`.

        Raises:
            UserError: see `newest_in`.
        """
        for name in ("checkpoints", "best"):
            newest_in(run / name)
        state = tf.train.Checkpoint(model=places_of(model), memory=places_in(memory), progress=progress)
        self.newest = tf.train.CheckpointManager(state, str(run / "checkpoints"), max_to_keep=keep)
        self.best = tf.train.CheckpointManager(by_name(model), str(run / "best"), max_to_keep=1)
        self.variables = [*model.named_variables().values(), *memory.variables]

    def finite(self) -> bool:
        """Whether all weights, statistics and averages, and the optimizer's memory, are finite numbers."""
        values = map(tf.convert_to_tensor, self.variables)
        return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in values if v.dtype.is_floating]))

    def save(self, step: int) -> None:
        save(self.newest, step)

    def save_best(self, epoch: int) -> None:
        save(self.best, epoch)

    def restore(self) -> None:
        """Restores the newest state.

        Raises:
            UserError: when there is none or it does not fit.
        """
        restore(self.newest.checkpoint, Path(self.newest.directory))


def places_of(model: UNet):
    """The network's part of a checkpoint, under the names that version 0.1 gave to its objects."""
    if not hasattr(model, "decoder_ups"):  # a network of Keras layers
        return model
    node = tf.train.Checkpoint
    decoder = node(levels=model.decoder, ups=model.decoder_ups)
    return node(encoder=node(levels=model.encoder), bottleneck=model.bottleneck, decoder=decoder, output=model.output)


def places_in(memory: TrainStep | tf.Module):
    """The step's part of a checkpoint: all but the network."""
    if not isinstance(memory, TrainStep):
        return memory
    average = {"average": memory.average} if memory.average else {}
    return tf.train.Checkpoint(optimizer=memory.optimizer, step=memory.step, **average)


def save(manager: tf.train.CheckpointManager, number: int) -> None:
    """Saves a checkpoint under a number; if that fails, removes its files."""
    try:
        manager.save(checkpoint_number=number)
    except BaseException:
        folder = Path(manager.directory)
        for path in folder.glob(f"ckpt-{number}.*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / f"ckpt-{number}_temp", ignore_errors=True)
        raise


def by_name(model: UNet) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(variables=model.named_variables())


def restore_best(model: UNet, run: Path) -> None:
    """Restores the best weights of a run into `model`.

    Raises:
        UserError: when there are none or they do not fit.
    """
    restore(by_name(model), run / "best")


def newest_in(folder: Path) -> str | None:
    """The newest checkpoint in `folder`; None when nothing was ever saved there.

    Raises:
        UserError: when TensorFlow's list of checkpoints is damaged, or names files that are lost or lie elsewhere: a
            training would start from scratch in the place of the old one, or delete checkpoints of another.
    """
    notes = folder / "checkpoint"
    if not notes.exists():
        return None
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # hides TensorFlow's own messages
    try:
        state = tf.train.get_checkpoint_state(str(folder))
        path = tf.train.latest_checkpoint(str(folder))
    except Exception:  # a damaged file raises anything
        path = None
    finally:
        logging.disable(level)
    if path is None:
        raise UserError(f"{notes} is damaged, or the checkpoint that it names is lost: restore the run folder.")
    elsewhere = [other for other in (path, *state.all_model_checkpoint_paths) if Path(other).parent != folder]
    if elsewhere:
        raise UserError(f"{notes} names {listed(elsewhere)}, which lies elsewhere: restore the run folder.")
    return path


def restore(checkpoint: tf.train.Checkpoint, folder: Path) -> None:
    """Restores the newest checkpoint in `folder`; a `UserError` unless it has exactly the variables of `checkpoint`."""
    path = newest_in(folder)
    if path is None:
        raise UserError(f"{folder} holds no checkpoint: the run ended before its first epoch did; train again.")
    try:
        status = checkpoint.restore(path).expect_partial()  # or TensorFlow lists what does not fit, much later
        status.assert_existing_objects_matched()
        status.assert_consumed()
    except Exception as error:  # a damaged file raises anything
        raise UserError(
            f"{path} does not fit this network or is damaged ({reason(error)}): restore the run folder."
        ) from error
