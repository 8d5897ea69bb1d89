"""Checkpoints: the state of a training, and the best weights, on disk."""

import glob
import logging
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.disk import sync
from unet_lowlevel.errors import UserError, listed, reason
from unet_lowlevel.machine import without_remarks
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.terminal import note, show_path

LIST = "checkpoint"  # what TensorFlow calls the file that names the checkpoints of a folder


class Progress(tf.Module):
    """What the loop must remember besides the weights; saved with them."""

    def __init__(self):
        super().__init__("progress")
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")  # the last finished one
        self.tally = tf.Variable("", dtype=tf.string, trainable=False, name="tally")  # `Totals` of the unfinished epoch
        # Not used any more, but a part of every checkpoint since version 0.1.
        self.best_mean_iou = tf.Variable(-1.0, dtype=tf.float64, trainable=False, name="best_mean_iou")
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="best_epoch")


class Series:
    """Numbered checkpoints of the same objects in one folder, and TensorFlow's list of them; the newest ones are kept.

    After a loss of power all that are listed are whole, because a checkpoint is on the disk before it is listed, and
    the list before an old one is deleted. (`tf.train.CheckpointManager` waits for neither.)
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path, keep: int):
        """Reads the list.

        Args:
            checkpoint: the objects.
            folder: made with the first checkpoint.
            keep: how many of the newest.

        Raises:
            UserError: see `listed_in`.
        """
        self.checkpoint, self.folder, self.keep = checkpoint, folder, keep
        self.names = [Path(path).name for path in listed_in(folder)]

    def save(self, number: int) -> None:
        """Saves a checkpoint under a number; if that fails, removes its files."""
        name = f"ckpt-{number}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync(self.folder.parent)
            self.checkpoint.save_counter.assign_add(1)  # a part of each checkpoint of TensorFlow's manager
            self.checkpoint.write(str(self.folder / name))
            for path in (*self.files(name), self.folder):
                sync(path)
            names = [*(other for other in self.names if other != name), name]
            self.write_list(names[-self.keep :])
        except BaseException:
            if name not in self.names:
                self.delete(name)
            shutil.rmtree(self.folder / f"{name}_temp", ignore_errors=True)
            raise
        self.names = names[-self.keep :]
        for old in names[: -self.keep]:
            self.delete(old)

    def files(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"{glob.escape(name)}.*"))

    def delete(self, name: str) -> None:
        for path in self.files(name):
            path.unlink(missing_ok=True)

    def write_list(self, names: list[str]) -> None:
        state = CheckpointState(model_checkpoint_path=names[-1], all_model_checkpoint_paths=names)
        write_text(self.folder / LIST, text_format.MessageToString(state))

    def restore(self) -> None:
        """Restores the newest checkpoint that can be read; see `restore`. Later ones are not listed any more."""
        name = Path(restore(self.checkpoint, self.folder)).name
        self.names = self.names[: self.names.index(name) + 1]


class Checkpoints:
    """The newest states in RUN/checkpoints and the best weights in RUN/best.

    The best weights are saved by name, so that every implementation of the network can read them.
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
            UserError: see `listed_in`.
        """
        state = tf.train.Checkpoint(model=places_of(model), memory=places_in(memory), progress=progress)
        self.newest = Series(state, run / "checkpoints", keep)
        self.best = Series(by_name(model), run / "best", 1)
        self.variables = [*model.named_variables().values(), *memory.variables]

    def finite(self) -> bool:
        """Whether all weights, statistics and averages, and the optimizer's memory, are finite numbers."""
        values = map(tf.convert_to_tensor, self.variables)
        return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in values if v.dtype.is_floating]))

    def move_to(self, run: Path) -> None:
        """Goes on in the run folder under its new name."""
        self.newest.folder, self.best.folder = run / "checkpoints", run / "best"


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


def by_name(model: UNet) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(variables=model.named_variables())


def restore_best(model: UNet, run: Path) -> None:
    """Restores the best weights of a run into `model`.

    Raises:
        UserError: when there are none or they do not fit.
    """
    restore(by_name(model), run / "best")


def best_weights(run: Path) -> dict[str, np.ndarray]:
    """The best weights and statistics of a run by name, as they are saved: no network is made.

    Raises:
        UserError: when there are none.
    """
    reader = tf.train.load_checkpoint(some_listed_in(run / "best")[-1])
    keys = [key.split("/") for key in reader.get_variable_to_shape_map() if key.startswith("variables/")]
    # In the names of objects TensorFlow writes ".S" for "/".
    return {key[1].replace(".S", "/"): reader.get_tensor("/".join(key)) for key in keys}


def listed_in(folder: Path) -> list[str]:
    """The paths of the checkpoints that are listed in `folder`, from the oldest to the newest; some may be lost.

    Raises:
        UserError: when TensorFlow's list of checkpoints is damaged, names only what is lost, or what lies elsewhere: a
            training would start from scratch in the place of the old one, or delete checkpoints of another.
    """
    if not (folder / LIST).exists():
        return []
    try:
        with without_remarks():
            state = tf.train.get_checkpoint_state(str(folder))
        newest = state.model_checkpoint_path
        paths = [*(path for path in state.all_model_checkpoint_paths if path != newest), newest]
        usable = any(Path(f"{path}.index").is_file() for path in paths)
    except Exception:  # a damaged file raises anything
        usable = False
    if not usable:
        raise UserError(f"{folder / LIST} is damaged, or the checkpoint that it names is lost: restore the run folder.")
    elsewhere = [path for path in paths if Path(path).parent != folder]
    if elsewhere:
        raise UserError(f"{folder / LIST} names {listed(elsewhere)}, which lies elsewhere: restore the run folder.")
    return paths


def some_listed_in(folder: Path) -> list[str]:
    """`listed_in`, at least one, or a `UserError`."""
    paths = listed_in(folder)
    if not paths:
        raise UserError(
            f"{folder} holds no checkpoint, because the run ended before its first epoch did: go on with train --run "
            f"{show_path(folder.parent)} --resume."
        )
    return paths


def not_of_what_was_left(record: logging.LogRecord) -> bool:
    """Hides that TensorFlow lists, much later, what it could not restore from a damaged checkpoint."""
    return record.module != "checkpoint"


def restore(checkpoint: tf.train.Checkpoint, folder: Path) -> str:
    """Restores the newest checkpoint in `folder` that can be read; returns its path, and notes if it is an older one.

    Raises:
        UserError: unless one of them has exactly the variables of `checkpoint`.
    """
    paths, failures = some_listed_in(folder), []
    for path in reversed(paths):
        try:
            status = checkpoint.restore(path).expect_partial()  # or TensorFlow lists what does not fit, much later
            status.assert_existing_objects_matched()
            status.assert_consumed()
        except Exception as error:  # a damaged file raises anything
            failures.append(error)
            tf.get_logger().addFilter(not_of_what_was_left)
            continue
        if failures:
            note(f"{paths[-1]} is damaged ({reason(failures[0])}): going on from {path}, the one before")
        return path
    raise UserError(
        f"{paths[-1]} does not fit this network or is damaged ({reason(failures[0])}): restore the run folder."
    ) from failures[0]
