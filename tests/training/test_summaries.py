"""What TensorBoard is given."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny_training import tiny_config

from unet_lowlevel import settings
from unet_lowlevel.config import IGNORED
from unet_lowlevel.pictures import CONFUSED, INVENTED, MISSED
from unet_lowlevel.scoring.counts import CURVE, threshold_counts
from unet_lowlevel.training.summaries import BEST, Summaries, add_result, forget_after


@pytest.mark.parametrize("values", [normal(1000), np.zeros(7), np.ones([3, 3, 1, 2]), np.full(2, -1e30)])
def test_histograms_are_those_of_tensorflow(values, tmp_path):
    summaries = Summaries(tmp_path)
    weight, gradient = tf.Variable(values, dtype=tf.float32), tf.constant(-values, tf.float32)
    summaries.histograms(1, ["output/weight"], [weight], [gradient])
    with summaries.writers["train"].as_default(step=1):
        tf.summary.histogram("expected", weight)
    summaries.close()
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={TENSORS: 0})
    events.Reload()

    def read(tag):
        (event,) = events.Tensors(tag)
        return tf.make_ndarray(event.tensor_proto)

    found, expected = read("output/weights/filter"), read("expected")
    assert events.SummaryMetadata("output/weights/filter") == events.SummaryMetadata("expected")
    assert found.shape == expected.shape and found[:, 2].sum() == expected[:, 2].sum() == values.size
    if np.ptp(values):  # of equal values TensorFlow makes one bucket without width
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(read("output/gradients/filter")[::-1, 2], found[:, 2])
    else:
        edges = found[found[:, 2] > 0, :2]
        assert len(edges) == 1 and edges[0, 0] <= values.flat[0] <= edges[0, 1]


def test_pictures_tell_what_their_colours_mean(tmp_path):
    summaries = Summaries(tmp_path)
    picture = np.arange(84, dtype=np.uint8).reshape(2, 14, 3)
    summaries.pictures(1, {"pictures/a": picture})
    summaries.close()
    events = EventAccumulator(str(tmp_path / "validation"))
    events.Reload()
    told = events.SummaryMetadata("pictures/a")
    assert "blue missed, red found too much" in told.summary_description and told.plugin_data.plugin_name == "images"
    width, height, png = tf.make_ndarray(events.Tensors("pictures/a")[0].tensor_proto)
    assert (width, height) == (b"14", b"2")
    np.testing.assert_array_equal(tf.io.decode_png(png), picture)
    assert MISSED.argmax() == 2 and INVENTED.argmax() == 0 and CONFUSED[:2].min() > 150 > CONFUSED[2]


@pytest.mark.parametrize("torn", [False, True])
def test_what_lies_after_a_step_is_forgotten(torn, tmp_path):
    summaries = Summaries(tmp_path)
    for step in range(1, 5):
        summaries.scalars("train", step, {"loss": 1 / step})
    summaries.close()
    (path,) = (tmp_path / "train").iterdir()
    if torn:  # in the middle of the last record
        path.write_bytes(path.read_bytes()[:-5])
    forget_after(tmp_path, 3 if torn else 2)
    assert list((tmp_path / "train").iterdir()) == [path]
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={TENSORS: 0})
    events.Reload()
    assert [event.step for event in events.Tensors("loss")] == ([1, 2, 3] if torn else [1, 2])


def test_precision_and_recall_are_those_of_each_threshold(tmp_path):
    """Against the pixels themselves; two classes, and pixels without a label."""
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, (1, 6, 7)).astype(np.int32), rng.random((1, 6, 7, 3)).astype(np.float32)
    labels[0, 0] = IGNORED
    counts = threshold_counts(tf.constant(labels), tf.constant(probabilities), IGNORED, CURVE)[0].numpy()
    summaries = Summaries(tmp_path)
    summaries.curves(3, counts)
    summaries.close()
    events = EventAccumulator(str(tmp_path / "validation"))
    events.Reload()
    for k in (1, 2):
        tag = f"precision_recall/class_{k}"
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == "pr_curves"
        found = tf.make_ndarray(events.Tensors(tag)[0].tensor_proto)
        truth, sure = labels[0, 1:] == k, probabilities[0, 1:, :, k]
        for i, threshold in enumerate(np.linspace(0, 1, 41)):
            positive = sure >= np.float32(round(threshold, 3))
            tp, fp, fn = (truth & positive).sum(), (~truth & positive).sum(), (truth & ~positive).sum()
            assert found[:4, i].tolist() == [tp, fp, (~truth & ~positive).sum(), fn]
            expected = [tp / (tp + fp) if tp + fp else 0.0, tp / (tp + fn)]
            assert found[4:, i].tolist() == pytest.approx(expected)


def test_a_run_has_its_settings_its_scores_and_a_table_of_confusion(tmp_path):
    config = tiny_config(learning_rate=0.02, flips=False)
    summaries = Summaries(tmp_path)
    summaries.configuration(config)
    summaries.confusion(4, np.array([[90, 10], [1, 3]]))
    row = {"step": 4, "epoch": 2} | {
        f"{part}_{name}": i for i, part in enumerate(("validation", "train")) for name in BEST
    }
    summaries.result(row)
    summaries.close()
    summary, validation = (EventAccumulator(str(tmp_path / part)) for part in ("summary", "validation"))
    for events in (summary, validation):
        events.Reload()
    content = summary.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = HParamsPluginData.FromString(content).session_start_info
    assert session.group_name == f"{tmp_path.parent.name}/{tmp_path.name}"  # of equal settings each run has its row
    given = session.hparams
    assert given["learning_rate"].number_value == 0.02 and given["loss"].string_value == "dice_cross_entropy"
    assert given["flips"].bool_value is False and set(given) == set(settings.settings())
    (event,) = summary.Tensors("best/dice")
    assert tf.make_ndarray(event.tensor_proto) == 0 and event.step == 4
    told = tf.make_ndarray(validation.Tensors("epoch/confusion")[0].tensor_proto).item().decode()
    assert told.splitlines()[2:] == [
        "| background | 90.00% | 10.00% | 100 |",
        "| class 1 | 25.00% | 75.00% | 4 |",
    ]
    assert "plan" not in summary.Tags()["tensors"] and "model_card" not in summary.Tags()["tensors"]


def test_a_full_disk_after_the_training_is_no_error(tmp_path):
    (tmp_path / "summary").write_text("in the way")
    add_result(tmp_path, {"step": 4, "epoch": 2} | {f"validation_{name}": 0.5 for name in BEST})
