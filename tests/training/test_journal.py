"""What the epochs of a training leave in TensorBoard."""

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_lowlevel.training.history import kept_epoch
from unet_lowlevel.training.summaries import FOLDERS


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
