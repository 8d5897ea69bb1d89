"""The journal of a training: what it writes to the run folder."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import Config
from unet_lowlevel.core.optimizers import learning_rate_at
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.disk import Place
from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.terminal import note, show_path
from unet_lowlevel.training.checkpoints import Checkpoints, Progress
from unet_lowlevel.training.history import HISTORY, criterion, read_history, write_history
from unet_lowlevel.training.summaries import Summaries, forget_after
from unet_lowlevel.training.totals import Totals

# Curves of both training and validation.
SCORES = ("loss", "dice", "iou", "mean_iou", "precision", "recall")


class Journal:
    """Checkpoints, the best weights, history.csv and TensorBoard of one training, new or resumed."""

    def __init__(self, config: Config, run: Path, model: UNet, memory: tf.Module, *, resume: bool):
        """Opens the journal.

        Args:
            config: with all settings resolved.
            run: the run folder; it exists.
            model: the network.
            memory: the rest of the state; see `Checkpoints`.
            resume: go back to the newest checkpoint of the run, if it has one.

        Raises:
            UserError: when the checkpoint cannot be restored.
        """
        self.config, self.run, self.place = config, run, Place(run)
        self.progress = Progress()
        self.checkpoints = Checkpoints(
            run, config.training.checkpoints_to_keep, model=model, memory=memory, progress=self.progress
        )
        self.history: list[dict] = []
        # {stem: `counts.probability_counts`} of the validation images by the weights in best/, if they were saved here.
        self.counts: Mapping[str, dict[str, np.ndarray]] = {}
        restored = bool(resume and self.checkpoints.newest.names)
        if restored:
            self.checkpoints.newest.restore()
            if int(self.progress.epoch):
                self.history = read_history(run / "history.csv", int(self.progress.epoch))
        try:
            self.totals = Totals.from_json(self.progress.tally.numpy().decode())  # of the unfinished epoch
            if not 0 <= int(self.progress.best_epoch) <= len(self.history):
                raise ValueError(f"epoch {int(self.progress.best_epoch)} the best of {len(self.history)}")
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{run / 'checkpoints'} holds what no training has saved ({reason(error)}): restore the run folder."
            ) from None
        scores, best = criterion(self.history), int(self.progress.best_epoch)
        if config.training.keep == "best" and scores and max(scores) > scores[best - 1]:
            note(
                f"best/ holds epoch {best}, which an earlier version chose by mean IoU: it stays until the validation "
                "Dice, the median of 3 epochs, is better than ever before"
            )
        self.saved, self.saved_steps = time.monotonic(), self.totals.steps
        self.steps: list[tuple[int, dict]] = []  # that TensorBoard has not been told of
        if resume:
            # A killed training may have written steps to TensorBoard after its last checkpoint.
            forget_after(run, self.step if restored else -1)
        self.summaries = Summaries(run)
        if not restored:
            self.summaries.configuration(config)

    def state(self) -> dict:
        """Where the training stands, for the other processes: what JSON can hold."""
        progress = {name: int(getattr(self.progress, name)) for name in ("epoch", "best_epoch")}
        return {"history": self.history, "totals": self.totals.to_json(), "progress": progress}

    def set_state(self, state: dict) -> None:
        """Takes the `state` of another process."""
        self.history, self.totals = state["history"], Totals.from_json(state["totals"])
        for name, value in state["progress"].items():
            getattr(self.progress, name).assign(value)

    @property
    def step(self) -> int:
        """Training steps so far, those of the unfinished epoch included."""
        return (self.history[-1]["step"] if self.history else 0) + self.totals.steps

    def note_learning_rate(self, total_steps: int) -> None:
        """Notes that the learning rate jumps, because a resumed training has other settings than before.

        Args:
            total_steps: of the whole training.
        """
        training, optimizer = self.config.training, self.config.optimizer
        last = float(self.totals.learning_rate)
        if self.history and not self.totals.steps:
            last = self.history[-1]["learning_rate"]
        as_now, coming = (float(learning_rate_at(tf.constant(self.step - i), optimizer, total_steps)) for i in (1, 0))
        if last and len(self.history) < training.epochs and not math.isclose(last, as_now, rel_tol=1e-5):
            note(
                f"the learning rate was {last:.3g} in the last step and goes on at {coming:.3g}: with --epochs "
                f"{training.epochs} and --learning-rate {optimizer.learning_rate:g} the run has another schedule"
            )

    def out_of_patience(self) -> bool:
        """Whether the `criterion` has not improved for --patience epochs."""
        patience = self.config.training.patience
        return bool(patience) and len(self.history) - int(self.progress.best_epoch) >= patience and bool(self.history)

    def verdict_on_patience(self) -> str:
        """The line of the log when `out_of_patience` ends a training."""
        best, _ = criterion(self.history)[int(self.progress.best_epoch) - 1]
        return (
            f"stopped: validation Dice, the median of 3 epochs, was not better than {best:.4f} for "
            f"{self.config.training.patience} epochs"
        )

    def what_is_kept(self) -> str:
        """For messages: what a failed training leaves."""
        saved = self.checkpoints.newest.names
        return f"the checkpoints in {self.run} are as they were" if saved else "nothing was saved yet"

    def diverged(self, what: str) -> UserError:
        """The error that ends a training which has diverged; `what` ends with its colon, or with another remedy."""
        return UserError(
            f"{what} lower --learning-rate or set --clip-norm 1 (train takes both also with --resume); "
            f"{self.what_is_kept()}."
        )

    def check_finite(self, step: int, row: Mapping[str, float] = MappingProxyType({})) -> None:
        """Raises a `UserError` if the training has diverged by `step`: nothing that is not finite is ever saved.

        Args:
            step: the number of steps so far.
            row: numbers for history.csv.
        """
        found = [f"{name.replace('_', ' ')} is {value}" for name, value in row.items() if not math.isfinite(value)]
        if not found and not self.checkpoints.finite():
            found = ["weights or the optimizer's memory are not finite"]
        if found:
            raise self.diverged(f"The training has diverged by step {step} ({', '.join(found)}):")

    def keep_weights(self, row: dict, counts: Mapping[str, dict[str, np.ndarray]]) -> bool:
        """Saves the current weights in best/ if --keep asks for those of this epoch; returns whether it did.

        Args:
            row: of the finished epoch, as for history.csv, with its scores.
            counts: of the validation images in it; see `self.counts`.
        """
        scores = criterion([*self.history, row])
        better = scores[-1] > max(scores[:-1], default=())
        if better:
            self.progress.best_epoch.assign(row["epoch"])
        wanted = better or self.config.training.keep == "last"
        if wanted:
            with self.writing():
                self.checkpoints.best.save(row["epoch"])
            self.counts = counts
        return wanted

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """See `Summaries.pictures`."""
        with self.writing():
            self.summaries.pictures(step, pictures)

    def validated(
        self, step: int, pictures: Mapping[str, np.ndarray], confusion: np.ndarray, curve: np.ndarray
    ) -> None:
        """Adds a validation to TensorBoard; see `Summaries.pictures`, `Summaries.confusion`, `Summaries.curves`."""
        with self.writing():
            self.summaries.pictures(step, pictures)
            self.summaries.confusion(step, confusion)
            self.summaries.curves(step, curve)

    def end_epoch(
        self,
        row: dict,
        names: list[str],
        weights: list[tf.Variable],
        gradients: list[tf.Tensor],
        levels: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Adds an epoch to TensorBoard and history.csv, and saves the state.

        Args:
            row: a value for each name in `HISTORY`, and perhaps more scores of `SCORES`.
            names, weights, gradients: of the trained variables, after the last step.
            levels: curves of the levels, by tag.
        """
        step = row["step"]
        with self.writing():
            for part in ("train", "validation"):
                scores = {f"epoch/{name}": row[f"{part}_{name}"] for name in SCORES if f"{part}_{name}" in row}
                self.summaries.scalars(part, step, scores)
            more = ("learning_rate", "gradient_norm", "weight_norm", "images_per_second")
            self.summaries.scalars("train", step, {f"training/{name}": row[name] for name in more})
            self.summaries.scalars("train", step, levels)
            self.summaries.histograms(step, names, weights, gradients)
            self.history.append({name: row[name] for name in HISTORY})
            write_history(self.run / "history.csv", self.history)
            self.progress.epoch.assign(row["epoch"])
            self.totals = Totals()
            self.save()

    def add_step(self, result: dict) -> None:
        """Notes the result of a `TrainStep` for the curves, which are written when the state is saved."""
        values = {name: result[name] for name in ("loss", "learning_rate", "gradient_norm")}
        self.steps.append((self.step, values))

    def due(self) -> bool:
        """Whether the state has not been saved for --checkpoint-steps steps or --checkpoint-minutes minutes."""
        steps, minutes = self.config.training.checkpoint_steps, self.config.training.checkpoint_minutes
        return bool(
            (steps and self.totals.steps - self.saved_steps >= steps)
            or (minutes and time.monotonic() - self.saved >= 60 * minutes)
        )

    def save_within_epoch(self) -> None:
        """Saves the state between two steps; a `UserError` if it is not finite."""
        self.check_finite(self.step)
        with self.writing():
            self.save()

    def save(self) -> None:
        self.summaries.steps(self.steps)
        self.steps.clear()
        self.summaries.flush()
        self.progress.tally.assign(self.totals.to_json())
        self.checkpoints.newest.save(self.step)
        self.saved, self.saved_steps = time.monotonic(), self.totals.steps
        if self.run != self.place.folder:
            raise UserError(
                f"{self.place.folder} was renamed to {self.run} while it was trained; all up to step {self.step} is "
                f"saved there: go on with --run {show_path(self.run)} --resume."
            )

    def follow(self) -> None:
        """Goes on where the run folder is now: what is written must not be torn in two when it is renamed.

        Raises:
            UserError: when it is lost.
        """
        run = self.place.current()
        if run is None:
            raise UserError(
                f"{self.run} was renamed or removed while it was trained: go on with --resume and its new name, or "
                "train anew."
            )
        if run != self.run:
            self.summaries.close()
            self.run, self.summaries = run, Summaries(run)
            self.checkpoints.move_to(run)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns the errors of a full disk into a `UserError`; earlier checkpoints stay intact. See also `follow`."""
        try:
            self.follow()
            yield
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"{self.run} cannot be written ({reason(error)}): make room on its disk and go on with --resume; "
                f"{self.what_is_kept()}."
            ) from error

    def kept(self) -> dict:
        """The row of the epoch whose weights are in best/: with --keep last the last, else the best by `criterion`."""
        return self.history[-1 if self.config.training.keep == "last" else int(self.progress.best_epoch) - 1]

    def close(self) -> None:
        with contextlib.suppress(OSError, tf.errors.OpError):  # a full disk, already reported
            self.summaries.close()
        self.place.close()
