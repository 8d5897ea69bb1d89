"""What TensorBoard is given."""

import numpy as np
import pytest
import tensorflow as tf
from op_checks import normal
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from unet_lowlevel.pictures import CONFUSED, INVENTED, MISSED
from unet_lowlevel.training.summaries import Summaries, forget_after


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
