"""The record of an image in a packed data set: a `tf.train.Example`, whose arrays are compressed without loss.

stem, group         text
NAME                bytes of an array, by zlib; NAME is one of `DTYPES`
NAME_dtype          as NumPy calls it, little-endian
NAME_shape          integers

An image of whole numbers is stored as differences along its rows, as PNG does it, which halves the file:

    stored[y, x] = image[y, x] - image[y, x - 1],  modulo 2^8 or 2^16

Other programs read it with `tf.io.parse_single_example`, `tf.io.decode_compressed`, `tf.io.decode_raw`, `tf.cumsum`.
"""

import functools
import math
import zlib
from collections.abc import Collection, Mapping

import numpy as np

from unet_lowlevel.machine import start_tensorflow

# {array: what its numbers may be}
DTYPES = {
    "image": ("uint8", "uint16", "float32"),
    "label": ("uint8",),
    "instances": ("int32",),
    "target": ("uint8",),
    "weights": ("float32",),
}


def written(stem: str, group: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The record of these arrays: equal bytes for equal arrays."""
    train = messages()

    def text(value: bytes):
        return train.Feature(bytes_list=train.BytesList(value=[value]))

    features = {"stem": text(stem.encode()), "group": text(group.encode())}
    for name, array in arrays.items():
        stored = np.diff(array, axis=1, prepend=array.dtype.type(0)) if differences(name, array.dtype) else array
        stored = np.ascontiguousarray(stored, array.dtype.newbyteorder("<"))
        features[name] = text(zlib.compress(stored))
        features[f"{name}_dtype"] = text(str(array.dtype).encode())
        features[f"{name}_shape"] = train.Feature(int64_list=train.Int64List(value=array.shape))
    example = train.Example(features=train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def read(record: bytes, names: Collection[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """{name: array} of a record.

    Args:
        record: from anywhere; no more of it is decompressed than the shapes take.
        names: of `DTYPES`.
        shapes: of all arrays that the record may have.

    Raises:
        ValueError: when it is no such record, or its arrays have other shapes.
    """
    from google.protobuf.message import DecodeError

    try:
        features = messages().Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError(str(error)) from None
    arrays = {}
    for name in names:
        dtype = b"".join(features[f"{name}_dtype"].bytes_list.value).decode()
        shape = tuple(features[f"{name}_shape"].int64_list.value)
        if dtype not in DTYPES[name] or shape != shapes[name]:
            raise ValueError(f"{name} is {dtype or 'missing'} {list(shape)}")
        arrays[name] = decompressed(b"".join(features[name].bytes_list.value), np.dtype(dtype), shape)
        if differences(name, arrays[name].dtype):
            arrays[name] = np.cumsum(arrays[name], axis=1, dtype=dtype)
    return arrays


@functools.cache
def messages():
    """The module `tf.train`, whose import takes seconds."""
    start_tensorflow()
    from tensorflow import train

    return train


def decompressed(content: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array that zlib has made `content` of."""
    try:
        pixels = zlib.decompressobj().decompress(content, math.prod(shape) * dtype.itemsize)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return np.frombuffer(pixels, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


def differences(name: str, dtype: np.dtype) -> bool:
    """Whether an array is stored as differences along its rows."""
    return name == "image" and dtype.kind == "u"
