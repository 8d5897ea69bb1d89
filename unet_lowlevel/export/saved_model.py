"""A run as a SavedModel: for TensorFlow, and for TensorFlow Serving."""

from pathlib import Path

import tensorflow as tf

from unet_lowlevel.core.losses import probabilities
from unet_lowlevel.export.whole import Whole, shift_and_scale
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.tiling import tile_logits

# {signature: what images may be stored as, without a conversion by whoever asks}
DTYPES = {"serving_default": tf.float32, "uint8": tf.uint8, "uint16": tf.uint16}


def write_saved_model(predictor: Predictor, folder: Path) -> None:
    """Writes FOLDER/1/, the layout of TensorFlow Serving, whose versions are numbers.

    Signatures:
        serving_default: images float32 [N, H, W, C] of any size -> probabilities and mask, see `Whole`.
        uint8, uint16: the same for images of these types.
        statistics: images float32 [N, H, W, C] -> shift and scale float64 [N, 1, 1, 1] of their normalization.
        window: part of an image as stored, float32 [1, h, w, C], shift and scale of the whole image, core int32 [2, 2]
            -> probabilities of the core; see `tiling.tile_logits`.

    The last two are for images that are too large at once, and see them in one view only. They are missing where images
    are resized for the network, or their normalization needs no statistics.
    """
    whole = Whole(predictor)
    shape = [None, None, None, whole.channels]
    served = tf.Module("unet")
    served.predict = tf.function(whole, autograph=False)
    images = {name: tf.TensorSpec(shape, dtype, "images") for name, dtype in DTYPES.items()}
    signatures = {name: served.predict.get_concrete_function(spec) for name, spec in images.items()}
    if not whole.data.resizes and whole.data.normalization != "range":
        model = predictor.networks[0].model
        window = tf.TensorSpec([1, *shape[1:]], tf.float32, "window")
        number = tf.TensorSpec([1, 1, 1, 1], tf.float64)

        def statistics(images):
            return dict(zip(("shift", "scale"), shift_and_scale(tf.cast(images, tf.float64), whole.data), strict=True))

        def of_window(window, shift, scale, core):
            pixels = tf.cast((tf.cast(window, tf.float64) - shift) / scale, tf.float32)
            return {"probabilities": probabilities(tile_logits(model, pixels, core))}

        signatures["statistics"] = tf.function(statistics, autograph=False).get_concrete_function(
            images["serving_default"]
        )
        signatures["window"] = tf.function(of_window, autograph=False).get_concrete_function(
            window, number, number, tf.TensorSpec([2, 2], tf.int32)
        )
    tf.saved_model.save(served, str(folder / "1"), signatures=signatures)
