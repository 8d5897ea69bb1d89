"""Records: what is written is read, by TensorFlow too; what is no record is refused, however large it claims to be."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from unet_lowlevel.data.formats import records

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "image": RANDOM.integers(0, 65536, (5, 7, 3), dtype=np.uint16),
    "label": RANDOM.integers(0, 3, (5, 7), dtype=np.uint8),
    "instances": RANDOM.integers(0, 2**24, (5, 7), dtype=np.int32),
    "target": RANDOM.integers(0, 3, (5, 7), dtype=np.uint8),
    "weights": RANDOM.random((5, 7), dtype=np.float32),
}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}
SMOOTH = (RANDOM.integers(0, 99, (64, 1, 1)) + np.arange(64)[:, None] * 2 + RANDOM.integers(0, 3, (64, 64, 1))).astype(
    np.uint8
)


@pytest.mark.parametrize("image", [ARRAYS["image"], SMOOTH, RANDOM.normal(size=(4, 5, 2)).astype(np.float32)])
def test_what_is_written_is_read(image):
    arrays = ARRAYS | {"image": image}
    found = records.read(records.written("a", "b", arrays), arrays, SHAPES | {"image": image.shape})
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    record = records.written("a", "b", {"image": image})
    assert record == records.written("a", "b", {"image": image.copy(order="F")})


def test_differences_are_smaller_than_pixels():
    assert len(records.written("a", "a", {"image": SMOOTH})) < 0.8 * len(zlib.compress(SMOOTH))


def test_tensorflow_reads_it_as_its_docstring_says():
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("stem", "group", "image", "label")}
    found = tf.io.parse_single_example(records.written("ä", "b", ARRAYS), features)
    assert (found["stem"].numpy().decode(), found["group"].numpy()) == ("ä", b"b")
    image, label = (tf.io.decode_compressed(found[name], "ZLIB") for name in ("image", "label"))
    stored = tf.cast(tf.reshape(tf.io.decode_raw(image, tf.uint16), [5, 7, 3]), tf.int32)
    np.testing.assert_array_equal(tf.cumsum(stored, axis=1) % 2**16, ARRAYS["image"])
    np.testing.assert_array_equal(tf.reshape(tf.io.decode_raw(label, tf.uint8), [5, 7]), ARRAYS["label"])


def test_what_is_no_such_record_is_refused():
    good = records.written("a", "b", ARRAYS)
    for record, shapes in (
        (good[:-3], SHAPES),
        (b"no record", SHAPES),
        (b"", SHAPES),
        (good, SHAPES | {"label": (7, 5)}),
        (records.written("a", "b", ARRAYS | {"label": ARRAYS["label"].astype(np.int32)}), SHAPES),
        (good.replace(zlib.compress(ARRAYS["label"]), zlib.compress(ARRAYS["label"])[:-9] + bytes(9)), SHAPES),
    ):
        with pytest.raises(ValueError):
            records.read(record, ["label"], shapes)


def test_no_more_is_decompressed_than_the_shape_takes():
    bomb = zlib.compress(bytes(10**7))
    found = records.decompressed(bomb, np.dtype(np.uint8), (3, 4))
    assert found.shape == (3, 4) and not found.any()
    with pytest.raises(ValueError):
        records.decompressed(zlib.compress(bytes(11)), np.dtype(np.uint8), (3, 4))
