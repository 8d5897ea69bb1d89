"""Every exported form computes what the run does, for images of any size, where this package is not installed."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tensorflow as tf
from conftest import sentence
from untrained import untrained_run

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.core.ops.batch_normalization import EPSILON
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.phantoms.phantom import draw_phantom
from unet_lowlevel.errors import UserError
from unet_lowlevel.export import parity
from unet_lowlevel.export.litert import write_litert
from unet_lowlevel.export.onnx_file import write_onnx
from unet_lowlevel.export.onnx_graph import network_model
from unet_lowlevel.export.saved_model import write_saved_model
from unet_lowlevel.geometry import span_around, surroundings
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.tiling import read_window
from unet_lowlevel.reference.keras_whole import write_whole_keras
from unet_lowlevel.reference.weights import load_keras, model_variables, read_keras

RUNS = {
    "gray": {"depth": 3, "threshold": 0.4},
    "colours, three classes": {"in_channels": 3, "classes": 3, "normalization": "minmax"},
    "valid": {
        "padding": "valid",
        "depth": 3,
        "activation": "relu",
        "normalization": "range",
        "normalization_range": (10.0, 240.0),
    },
    "image size": {"image_size": 24},
    "four views": {"average_flips": True, "flips": False, "padding": "valid", "depth": 2},
    "resolution": {"resolution": 0.3, "classes": 2, "normalization": "range", "normalization_range": (0.0, 255.0)},
    "bfloat16": {"precision": "bfloat16", "batch_normalization": False, "threshold": 0.5},
}
# A package of bioimage.io holds the ONNX file.
FORMS = {"saved_model": "written", "onnx": "written.onnx", "litert": "written.tflite", "keras": "written.keras"}
# One that is constant, one that is mirrored several times over, odd ones, and one of more than a tile.
SIZES = [(1, 1), (3, 30), (41, 57), (2100, 5)]


def image_of(size, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run") / "run", seed=3, **RUNS[request.param])


@pytest.fixture(scope="module")
def predictor(run):
    return load(run, precision="float32")


@pytest.fixture(scope="module", params=FORMS)
def opened(request, run, predictor, tmp_path_factory):
    """The run, written in a form and opened; `parity.difference` takes what it gives."""
    path = tmp_path_factory.mktemp("form") / FORMS[request.param]
    write(request.param, run, predictor, path)
    return parity.OPENED[request.param](path)


def write(form, run, predictor, path):
    if form == "saved_model":
        write_saved_model(predictor, path)
    elif form == "onnx":
        write_onnx(load(run, plain=True, precision="float32").networks[0].model, predictor, path)
    elif form == "keras":
        write_whole_keras(run, predictor, path)
    else:
        write_litert(predictor, path, "none", [])


def test_a_form_predicts_what_the_run_does(opened, predictor):
    for size in SIZES:
        image = image_of(size, predictor.config.model.in_channels)
        found, expected = opened(image[np.newaxis].astype(np.float32)), predictor.predict(image)
        assert found["probabilities"].shape == (1, *expected.probabilities.shape)
        assert found["mask"].shape == (1, *size) and found["mask"].dtype == np.uint8
        far, _ = parity.difference(found, expected)
        assert far <= 1e-5
        # Masks are equal but for ties.
        ordered = np.sort(expected.probabilities, -1)
        threshold = predictor.config.training.decision_threshold
        sure = np.abs(ordered[..., -1] - (threshold if ordered.shape[-1] == 1 else ordered[..., -2])) > 2e-5
        np.testing.assert_array_equal(found["mask"][0][sure], expected.mask[sure])
        assert sure.mean() > 0.9 or size == (1, 1)


@pytest.mark.parametrize("opened", [form for form in FORMS if form != "litert"], indirect=True)
def test_a_batch_gives_what_its_images_give(opened, predictor):
    images = np.stack([image_of((19, 22), predictor.config.model.in_channels, seed) // (1 + seed) for seed in range(3)])
    found = opened(images.astype(np.float32))["probabilities"]
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one, predictor.predict(image).probabilities, rtol=0, atol=1e-5)


# A SavedModel.


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A predictor, and what is served of its SavedModel."""
    place = tmp_path_factory.mktemp("served")
    predictor = load(untrained_run(place / "run"))
    write_saved_model(predictor, place / "served")
    return predictor, tf.saved_model.load(str(place / "served" / "1"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_of_each_type_are_served(dtype, served):
    predictor, served = served
    image = (image_of((20, 31), 1).astype(np.int64) * (257 if dtype == np.uint16 else 1)).astype(dtype)
    expected = predictor.predict(image)
    name = "serving_default" if dtype == np.float32 else np.dtype(dtype).name
    for found in (served.predict(image[np.newaxis]), served.signatures[name](images=tf.constant(image[np.newaxis]))):
        np.testing.assert_allclose(found["probabilities"][0], expected.probabilities, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found["mask"][0], expected.mask)


def test_a_request_as_json_fits_the_signature(served):
    """What TensorFlow Serving makes of a REST request by rows, and of the answer."""
    predictor, images = served[0], np.stack([image_of((9, 12), 1, s) for s in range(2)])
    signature = served[1].signatures["serving_default"]
    request = json.loads(json.dumps({"signature_name": "serving_default", "instances": images.tolist()}))
    _, inputs = signature.structured_input_signature
    found = signature(images=tf.constant(request["instances"], inputs["images"].dtype))
    assert {name: len(value) for name, value in found.items()} == {"probabilities": 2, "mask": 2}
    answer = json.loads(
        json.dumps([{name: value[i].numpy().tolist() for name, value in found.items()} for i in (0, 1)])
    )
    for image, prediction in zip(images, answer, strict=True):
        np.testing.assert_array_equal(prediction["mask"], predictor.predict(image).mask)


def test_views_are_averaged_within(tmp_path):
    predictor = load(untrained_run(tmp_path / "run", depth=3), average="flips")
    assert len(predictor.views) == 8
    write_saved_model(predictor, tmp_path / "served")
    image = image_of((20, 31), 1)
    found = parity.opened_saved_model(tmp_path / "served")(image[np.newaxis].astype(np.float32))
    np.testing.assert_allclose(found["probabilities"][0], predictor.predict(image).probabilities, rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_windows_of_a_large_image_give_what_the_whole_gives(padding, tmp_path):
    predictor = load(untrained_run(tmp_path / "run", depth=3, padding=padding))
    write_saved_model(predictor, tmp_path / "served")
    served, config = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures, predictor.config.model
    image = image_of((150, 170), 1)
    numbers = served["statistics"](images=tf.constant(image[np.newaxis], tf.float32))
    assert surroundings(config) < 70
    below, beside = span_around(64, 100, 150, config), span_around(80, 96, 170, config)
    window = read_window(image, below, beside)
    assert window.shape[0] < 150 and window.shape[1] < 170
    core = np.array([below.core, beside.core], np.int32)
    found = served["window"](window=tf.constant(window[np.newaxis], tf.float32), core=tf.constant(core), **numbers)
    part = found["probabilities"][0][below.inside : below.inside + 36, beside.inside : beside.inside + 16]
    np.testing.assert_allclose(part, predictor.predict(image).probabilities[64:100, 80:96], rtol=0, atol=1e-5)


ALONE = """
import sys
sys.modules["unet_lowlevel"] = None
import numpy as np
image = np.load("image.npy")[np.newaxis].astype(np.float32)
if sys.argv[1] == "saved_model":
    import tensorflow as tf
    mask = tf.saved_model.load("written/1").signatures["serving_default"](images=tf.constant(image))["mask"].numpy()
elif sys.argv[1] == "onnx":
    import onnxruntime
    mask = onnxruntime.InferenceSession("written.onnx").run(["mask"], {"images": image})[0]
elif sys.argv[1] == "keras":
    import tensorflow as tf
    mask = tf.keras.models.load_model("written.keras").predict(image, verbose=0)["mask"]
else:
    from ai_edge_litert.interpreter import Interpreter
    mask = Interpreter("written.tflite").get_signature_runner()(images=image)["mask"]
np.save("mask.npy", mask[0])
"""


@pytest.mark.parametrize("form", FORMS)
def test_a_form_needs_nothing_of_this_package(form, tmp_path):
    run = untrained_run(tmp_path / "run")
    predictor, image = load(run, precision="float32"), image_of((33, 20), 1)
    write(form, run, predictor, tmp_path / FORMS[form])
    np.save(tmp_path / "image.npy", image)
    subprocess.run([sys.executable, "-c", ALONE, form], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), predictor.predict(image).mask)


# Keras.


def test_the_network_is_a_layer_that_trains(tmp_path):
    """And a .keras file with more than the network does not come back for it."""
    run = untrained_run(tmp_path / "run")
    write_whole_keras(run, load(run), tmp_path / "whole.keras")
    network = read_keras(tmp_path / "whole.keras").get_layer("unet")
    weights = load(run, plain=True).networks[0].model.named_variables()
    found = model_variables(network)
    assert found.keys() == weights.keys() and all(np.array_equal(found[name], weights[name]) for name in weights)
    images = tf.constant(np.random.default_rng(0).normal(size=(1, 8, 8, 1)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images, training=True) ** 2)
    assert all(gradient is not None for gradient in tape.gradient(loss, network.trainable_variables))
    with pytest.raises(UserError) as caught:
        load_keras(tmp_path / "whole.keras", load(run, plain=True).networks[0].model)
    sentence(caught, "whole.keras lacks")


# LiteRT.


OTHER_NETWORKS = [pytest.param(flags, marks=pytest.mark.slow) for flags in ({}, {"activation": "relu"})]


@pytest.mark.parametrize("flags", [*OTHER_NETWORKS, {"image_size": 48, "classes": 3}], ids=str)
def test_fewer_bits_stay_near(flags, tmp_path):
    predictor = load(untrained_run(tmp_path / "run", base_channels=4, depth=3, **flags))
    images = [image_of((64, 64), 1, seed) for seed in range(4)]
    expected, sizes = predictor.predict(images[0]), {}
    for quantize, tolerance in {"none": 1e-5, "float16": 1e-2, "dynamic": 0.2, "int8": 0.2}.items():
        write_litert(predictor, tmp_path / quantize, quantize, images)
        sizes[quantize] = (tmp_path / quantize).stat().st_size
        opened = parity.opened_litert(tmp_path / quantize)
        far, _ = parity.difference(opened(images[0][np.newaxis].astype(np.float32)), expected)
        assert 0 < far < tolerance, quantize
        assert quantize == "none" or sizes[quantize] < sizes["none"]


@pytest.mark.parametrize("average", ["none", "flips"])
def test_8_bits_hardly_change_the_masks_of_a_trained_network(average, tmp_path):
    """With means of 8 bits, of an image or over its views, almost a hundredth of the pixels was of another class."""
    predictor = load("demo", average=average)
    images = [draw_phantom(0, index, 8, (128, 128), 1)[0][..., np.newaxis] for index in range(8)]
    write_litert(predictor, tmp_path / "int8", "int8", images[::2])
    opened = parity.opened_litert(tmp_path / "int8")
    found = [parity.difference(opened(i[np.newaxis].astype(np.float32)), predictor.predict(i)) for i in images[1::2]]
    assert 0 < np.mean([differing for _, differing in found]) < 0.002


# ONNX.


def test_the_network_alone_has_its_normalization_as_nodes():
    model = UNet(ModelConfig(in_channels=2, depth=3, base_channels=2))
    weights = {name: variable.numpy() for name, variable in model.named_variables().items()}
    graph = network_model(model.config, weights, 16, epsilon=EPSILON).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == kinds.count("BatchNormalization") + 1 == 11 and kinds.count("ConvTranspose") == 2
    assert [onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in graph.input] == [np.float32]
