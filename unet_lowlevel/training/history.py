"""history.csv: what each epoch came to, and which of them is the best."""

import csv
import statistics
from pathlib import Path

from tqdm import tqdm

from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.run_folder import write_csv
from unet_lowlevel.training.checkpoints import listed_in

HISTORY = (
    "epoch",
    "step",
    "seconds",
    "train_loss",
    "validation_loss",
    "validation_dice",
    "validation_iou",
    "validation_mean_iou",
    "images_per_second",
    "train_dice",
    "train_iou",
    "train_mean_iou",
    "learning_rate",
    "gradient_norm",
    "weight_norm",
)


def epoch_line(row: dict, epochs: int) -> str:
    """The line of the log for an epoch."""
    left = (epochs - row["epoch"]) * row["seconds"]
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}; validation {row['validation_loss']:.4f}, "
        f"Dice {row['validation_dice']:.4f}, IoU {row['validation_iou']:.4f}; {row['images_per_second']:.1f} images/s, "
        f"{tqdm.format_interval(left)} left"
    )


def write_history(path: Path, rows: list[dict]) -> None:
    """Writes history.csv with the columns `HISTORY`."""
    write_csv(path, HISTORY, ([row[name] for name in HISTORY] for row in rows))


def criterion(history: list[dict]) -> list[tuple[float, float]]:
    """What the best epoch is chosen by, and --patience waits for: the greatest (s[e], d[e]), of equals the first.

    s[e] = median(d[e - 2], d[e - 1], d[e]), of the first two epochs the median of those there are,

    where d[e] is the validation Dice of epoch e, the mean over the foreground classes at the run's threshold. On few
    images it jumps from epoch to epoch, and the highest of all would be a lucky one. The median of three asks that a
    neighbour is as good. An epoch is never chosen for its neighbours alone: of the best, d[e] >= s[e]. A mean of
    three could choose a dip behind two good epochs. Mean IoU is no criterion, because it counts the background: a
    network that finds no foreground often has more than 0.4.

    Args:
        history: a row for each epoch.
    """
    dice = [row["validation_dice"] for row in history]
    return [(statistics.median(dice[max(0, e - 2) : e + 1]), dice[e]) for e in range(len(dice))]


def kept_epoch(run: Path) -> dict:
    """The row of the epoch whose weights are in RUN/best, where they are saved under its number; or a `UserError`."""
    name = Path([run / "best", *listed_in(run / "best")][-1]).name
    for row in read_history(run / "history.csv"):
        if name == f"ckpt-{row['epoch']}":
            return row
    raise UserError(f"{run / 'history.csv'} does not have the epoch of {name} in {run / 'best'}: restore the file.")


def read_history(path: Path, epochs: int | None = None) -> list[dict]:
    """The first `epochs` rows of history.csv, because a resumed training repeats later epochs; None: all rows."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(row[name]) for name in HISTORY} for row in csv.DictReader(file)][:epochs]
        rows = [row | {"epoch": int(row["epoch"]), "step": int(row["step"])} for row in rows]
    except (OSError, KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): restore the file, or train anew in another folder."
        ) from None
    if epochs is not None and len(rows) < epochs:
        raise UserError(f"{path} has {len(rows)} epochs, but the checkpoint has {epochs}: restore the file.")
    return rows
