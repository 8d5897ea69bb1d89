"""A run as a .tflite file for LiteRT."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel.config import Config
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.export.whole import Whole
from unet_lowlevel.inference.predictor import Predictor

# What "int8" leaves in float32: all that prepares the image and makes probabilities, because a mean or a deviation of 8
# bits would spoil all that follows. Nor has ELU a kernel of 8 bits: each is a float32 island between convolutions.
IN_FLOAT32 = [
    *("MEAN", "SQUARED_DIFFERENCE", "SQRT", "REDUCE_MIN", "REDUCE_MAX", "SUB", "DIV", "MUL", "MINIMUM", "MAXIMUM"),
    *("SELECT", "SELECT_V2", "GATHER", "STRIDED_SLICE", "SLICE", "TRANSPOSE", "BATCH_MATMUL", "RESIZE_BILINEAR"),
    *("RESHAPE", "FULLY_CONNECTED", "ELU", "LOGISTIC", "SOFTMAX", "REVERSE_V2", "ADD_N"),
]


# Images by which "int8" finds the range of values; more change it little.
CALIBRATION = 100


def read_some(images: Sequence[Path | Slice], config: Config) -> list[np.ndarray]:
    """`CALIBRATION` of the images, evenly, or a few more: [H, W, C] each."""
    return [read_image(image, config.data) for image in images[:: max(len(images) // CALIBRATION, 1)]]


def write_litert(predictor: Predictor, path: Path, quantize: str, images: Sequence[np.ndarray]) -> None:
    """Writes images float32 [1, H, W, C] as stored -> probabilities and mask, see `Whole`.

    Args:
        predictor: of the run.
        path: of the new file.
        quantize: of `QUANTIZED`.
        images: [H, W, C] of the training, by which "int8" finds the range of values of every feature.
    """
    whole = Whole(predictor, statistics=tf.float32)  # there are no float64 kernels
    spec = tf.TensorSpec([1, None, None, whole.channels], tf.float32, "images")
    with tempfile.TemporaryDirectory() as folder:  # from there the names of inputs and outputs are taken along
        function = tf.function(whole, autograph=False).get_concrete_function(spec)
        tf.saved_model.save(tf.Module(), folder, signatures=function)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(in_int8(converter, images) if quantize == "int8" else converter.convert())


def in_int8(converter: tf.lite.TFLiteConverter, images: Sequence[np.ndarray]) -> bytes:
    """The content of a .tflite file in which all but `IN_FLOAT32` is computed in 8 bits."""

    def calibration() -> Iterator[list[np.ndarray]]:
        yield from ([image[np.newaxis].astype(np.float32)] for image in images)

    converter.representative_dataset = calibration
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=IN_FLOAT32)
    with warnings.catch_warnings():  # it uses tf.lite.Interpreter, which warns of its own end
        warnings.simplefilter("ignore")
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=calibration, debug_options=options
        )
    return debugger.get_nondebug_quantized_model()
