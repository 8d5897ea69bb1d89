"""Whether an exported file computes what the run does: it is opened as others would open it, and predicts an image."""

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.predictor import Prediction

# How far a probability may be off: in float32 forms by the order of sums, in float16 by rounding.
TOLERANCES = {"none": 1e-4, "float16": 2e-2}
# Of 8 bits single probabilities may be far off; of so many pixels the class may differ.
DIFFERENT = 0.02

# images float32 [N, H, W, C] -> {probabilities, mask}
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def opened_saved_model(path: Path) -> Run:
    import tensorflow as tf

    served = tf.saved_model.load(str(path / "1")).signatures["serving_default"]
    return lambda images: {name: value.numpy() for name, value in served(images=tf.constant(images)).items()}


def opened_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def opened_litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=os.cpu_count()).get_signature_runner()
    return lambda images: runner(images=images)


def opened_bioimage(path: Path) -> Run:
    with zipfile.ZipFile(path) as file, tempfile.TemporaryDirectory() as folder:
        return opened_onnx(Path(file.extract("weights.onnx", folder)))


def opened_keras(path: Path) -> Run:
    """Of a file with all that happens before and after the network, see `reference.keras_whole`."""
    from unet_lowlevel.reference.weights import read_keras

    model = read_keras(path)
    return lambda images: model.predict(images, verbose=0)


OPENED: dict[str, Callable[[Path], Run]] = {
    "saved_model": opened_saved_model,
    "onnx": opened_onnx,
    "litert": opened_litert,
    "bioimageio": opened_bioimage,
    "keras": opened_keras,
}


def difference(found: Mapping[str, np.ndarray], expected: Prediction) -> tuple[float, float]:
    """The largest difference of a probability, and the share of pixels whose class differs."""
    far = float(np.max(np.abs(found["probabilities"][0] - expected.probabilities)))
    return far, float(np.mean(found["mask"][0] != expected.mask))


def check_parity(run: Run, image: np.ndarray, expected: Prediction, quantize: str) -> str:
    """Half a sentence on how well the exported file agrees with the run on an image [H, W, C].

    Raises:
        UserError: when it does not.
    """
    far, differing = difference(run(image[np.newaxis].astype(np.float32)), expected)
    told = f"probabilities differ by {far:.1e} at most; the mask differs in {100 * differing:.2g} % of its pixels"
    if not (far <= TOLERANCES[quantize] if quantize in TOLERANCES else differing <= DIFFERENT):
        raise UserError(f"What was exported does not agree with the run ({told}), and is removed: export another form.")
    return told
