"""Checkpoints: the state of a training, and the best weights, on disk."""

import shutil
from pathlib import Path

import tensorflow as tf

from unet_lowlevel.errors import UserError
from unet_lowlevel.unet import UNet


class Progress(tf.Module):
    """What the loop has to remember besides the weights; saved with them."""

    def __init__(self):
        super().__init__("progress")
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")  # the last that is finished
        self.tally = tf.Variable("", dtype=tf.string, trainable=False, name="tally")  # of the epoch that has begun
        self.best_mean_iou = tf.Variable(-1.0, dtype=tf.float64, trainable=False, name="best_mean_iou")
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="best_epoch")


class Checkpoints:
    """The newest states in RUN/checkpoints and the best weights in RUN/best.

    The best weights are kept by name, so that every implementation of the network can read them.
    TensorFlow writes each checkpoint under a temporary name and makes it known when it is complete.
    """

    def __init__(self, run: Path, keep: int, *, model: UNet, memory: tf.Module, progress: Progress):
        """Prepares both folders.

        Args:
            run: the run folder.
            keep: how many of the newest states.
            model: the network.
            memory: what training remembers beside it: the `TrainStep`.
            progress: see there.
        """
        state = tf.train.Checkpoint(model=model, memory=memory, progress=progress)
        self.newest = tf.train.CheckpointManager(state, str(run / "checkpoints"), max_to_keep=keep)
        self.best = tf.train.CheckpointManager(by_name(model), str(run / "best"), max_to_keep=1)

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


def save(manager: tf.train.CheckpointManager, number: int) -> None:
    """Saves under a number; when that fails, nothing of it remains on the disk."""
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


def restore(checkpoint: tf.train.Checkpoint, folder: Path) -> None:
    """Restores the newest checkpoint in `folder`, every variable of it and nothing else, or raises a `UserError`."""
    path = tf.train.latest_checkpoint(str(folder))
    if path is None:
        raise UserError(f"{folder} holds no checkpoint: the run ended before its first epoch did; train again.")
    try:
        status = checkpoint.restore(path)
        status.assert_existing_objects_matched()
        status.assert_consumed()
    except Exception as error:  # a damaged file raises whatever the reader stumbled on
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} does not fit this network or is damaged ({reason}): restore the run folder."
        ) from error
