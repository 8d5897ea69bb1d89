"""What each epoch leaves in the run folder: history.csv and TensorBoard."""

import csv
import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import sentence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_lowlevel.errors import UserError
from unet_lowlevel.training.journal import HISTORY, criterion, kept_epoch, read_history
from unet_lowlevel.training.summaries import FOLDERS


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


def test_tensorboard_has_curves_pictures_histograms_graphs_and_text(tiny_run):
    train, validation, network, summary = (EventAccumulator(str(tiny_run / part)) for part in FOLDERS)
    for events in (train, validation, network, summary):
        events.Reload()
    for events in (train, validation):
        tags = set(events.Tags()["tensors"])
        assert {"epoch/loss", "epoch/dice", "epoch/iou", "epoch/mean_iou"} <= tags
        assert [event.step for event in events.Tensors("epoch/loss")] == [3, 6]
    train_tags, validation_tags = set(train.Tags()["tensors"]), set(validation.Tags()["tensors"])
    for name in ("learning_rate", "gradient_norm", "weight_norm", "images_per_second"):
        assert f"training/{name}" in train_tags
    for name in ("loss", "learning_rate", "gradient_norm"):
        assert [event.step for event in train.Tensors(f"step/{name}")] == [1, 2, 3, 4, 5, 6]
    for events in (train, validation):
        for tag in events.Tags()["tensors"]:
            if "/weights/" not in tag and "/gradients/" not in tag and tag != "epoch/confusion":
                assert events.SummaryMetadata(tag).summary_description, tag
    assert {"encoder_1/weights/conv_1/filter", "decoder_1/gradients/up/filter"} <= train_tags
    assert {"encoder_1/dead_units", "bottleneck/update_to_weight", "output/gradient_norm"} <= train_tags
    assert {"precision_recall/class_1", "epoch/confusion", "epoch/precision"} <= validation_tags
    drawn = [tag for tag in validation_tags if tag.startswith("pictures/")]
    assert len(drawn) == 3
    for tag in (*drawn, next(tag for tag in validation_tags if tag.startswith("feature_maps/"))):
        assert [event.step for event in validation.Tensors(tag)] == [0, 3, 6]
    parts = {node.name.split("/")[0] for node in nodes_of(network)}
    assert parts == {"images", "encoder", "bottleneck", "decoder", "output"}
    parts = {node.name.split("/")[0] for node in nodes_of(train)} - parts
    assert parts == {"labels", "step", "parts_of_batch", "loss", "counts", "gradient_tape", "optimizer"}
    told = {"configuration", "plan", "model_card", "custom_scalars__config__", "_hparams_/session_start_info"}
    assert told <= set(summary.Tags()["tensors"])
    kept = kept_epoch(tiny_run)
    for name, value in (("dice", kept["validation_dice"]), ("epoch", kept["epoch"])):
        (event,) = summary.Tensors(f"best/{name}")
        assert event.step == kept["step"] and tf.make_ndarray(event.tensor_proto) == np.float32(value)


def nodes_of(events):
    return tf.compat.v1.GraphDef.FromString(events.Graph().SerializeToString()).node
