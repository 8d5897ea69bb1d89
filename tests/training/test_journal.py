"""What each epoch leaves in the run folder: history.csv and TensorBoard."""

import csv

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_lowlevel.errors import UserError
from unet_lowlevel.training.journal import HISTORY, read_history


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


def test_tensorboard_has_curves_pictures_histograms_graph_and_text(tiny_run):
    train, validation = (EventAccumulator(str(tiny_run / part)) for part in ("train", "validation"))
    for events in (train, validation):
        events.Reload()
        tags = set(events.Tags()["tensors"])
        assert {"epoch/loss", "epoch/dice", "epoch/iou", "epoch/mean_iou"} <= tags
        assert [event.step for event in events.Tensors("epoch/loss")] == [3, 6]
    train_tags, validation_tags = set(train.Tags()["tensors"]), set(validation.Tags()["tensors"])
    for name in ("learning_rate", "gradient_norm", "weight_norm", "images_per_second"):
        assert f"training/{name}" in train_tags
    assert {"weights/encoder/level_1/conv_1/weight", "gradients/decoder/level_1/up/weight"} <= train_tags
    assert "configuration" in train_tags
    assert sum(tag.startswith("image_truth_prediction_errors/") for tag in validation_tags) == 3
    scopes = {
        node.name.split("/")[0] for node in tf.compat.v1.GraphDef.FromString(train.Graph().SerializeToString()).node
    }
    assert {"encoder", "bottleneck", "decoder", "output", "loss", "optimizer"} <= scopes
