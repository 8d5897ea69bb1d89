"""history.csv, and the best epoch."""

import csv
import itertools
import shutil

import pytest
from conftest import sentence

from unet_lowlevel.errors import UserError
from unet_lowlevel.training.history import HISTORY, criterion, kept_epoch, read_history


def test_history_starts_with_the_promised_columns(tiny_run):
    rows = (tiny_run / "history.csv").read_text().splitlines()
    assert rows[0].startswith(
        "epoch,step,seconds,train_loss,validation_loss,validation_dice,validation_iou,validation_mean_iou,"
        "images_per_second"
    )
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "3"], ["2", "6"]]


def test_history_reads_back_exactly(tiny_run):
    rows = read_history(tiny_run / "history.csv", 2)
    with (tiny_run / "history.csv").open() as file:
        for row, text in zip(rows, csv.DictReader(file), strict=True):
            assert {name: str(row[name]) for name in HISTORY} == text
    with pytest.raises(UserError, match="has 2 epochs, but the checkpoint has 3"):
        read_history(tiny_run / "history.csv", 3)


def best_of(*dice):
    """The number of the best epoch, and its criterion."""
    scores = criterion([{"validation_dice": value} for value in dice])
    return scores.index(max(scores)) + 1, max(scores)


@pytest.mark.parametrize(
    ("dice", "epoch", "median"),
    [
        ([0.0], 1, 0.0),
        ([0.2, 0.4], 2, 0.3),
        ([0.4, 0.2], 1, 0.4),
        ([0.2, 0.6, 0.5], 3, 0.5),
        ([0.5, 0.6, 0.7, 0.8], 4, 0.7),
        ([0.5, 0.6, 0.95, 0.1, 0.7, 0.72], 6, 0.7),  # one lucky epoch among worse ones
        ([0.9, 0.5, 0.95], 3, 0.9),  # of equal medians the better epoch
        ([0.7, 0.7, 0.7, 0.7], 1, 0.7),  # of equals the first
        ([0.0, 0.0, 0.4], 3, 0.0),  # what is found at last
    ],
)
def test_the_best_epoch_has_the_best_median_of_three(dice, epoch, median):
    assert best_of(*dice) == (epoch, (pytest.approx(median), dice[epoch - 1]))


def test_a_dip_is_never_the_best_epoch():
    """The Dice of the best epoch itself is at least the median that it is chosen for."""
    for dice in itertools.product((0.0, 0.3, 0.5, 0.8), repeat=5):
        epoch, (median, of_epoch) = best_of(*dice)
        assert of_epoch == dice[epoch - 1] >= median


def test_the_kept_epoch_is_the_one_in_best(tiny_run, tmp_path):
    """Whatever would be chosen today; a history without it is refused."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    kept = kept_epoch(run)
    assert run.joinpath("best", f"ckpt-{kept['epoch']}.index").exists()
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    (run / "history.csv").write_text("".join(line for line in lines if not line.startswith(f"{kept['epoch']},")))
    with pytest.raises(UserError) as caught:
        kept_epoch(run)
    sentence(caught, run / "history.csv", f"ckpt-{kept['epoch']}", "restore")
