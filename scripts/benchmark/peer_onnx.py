"""ONNX Runtime and OpenVINO in the benchmark: the network as an ONNX graph, for inference only.

The graph is written node by node, as an exporter would write it; both runtimes fold the normalization by themselves.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmark.peers import EPSILON, Task, timed
from unet_lowlevel.config import ModelConfig

ACTIVATIONS = {"elu": "Elu", "relu": "Relu"}


class Graph:
    """Nodes in the order of computation; a node is named after its output."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self.weights = weights
        self.nodes, self.initializers = [], []

    def add(self, kind: str, name: str, inputs: list[str], parameters: tuple[str, ...] = (), **attributes) -> str:
        """Adds a node whose `parameters` are variables below the scope `name`; returns its output."""
        for parameter in (f"{name}/{last}" for last in parameters):
            value = self.weights[parameter]
            # [h, w, in, out] -> [out, in, h, w]; of a transposed convolution [h, w, out, in] -> [in, out, h, w].
            turned = np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value
            self.initializers.append(numpy_helper.from_array(turned, parameter))
            inputs = [*inputs, parameter]
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def block(self, config: ModelConfig, scope: str, features: str) -> str:
        """Convolution, batch normalization, activation; a few times over."""
        pads = [config.kernel_size // 2] * 4
        for i in range(1, config.convolutions_per_block + 1):
            parameters = ("weight",) if config.batch_normalization else ("weight", "bias")
            features = self.add("Conv", f"{scope}/conv_{i}", [features], parameters, pads=pads)
            if config.batch_normalization:
                parameters = ("gamma", "beta", "moving_mean", "moving_variance")
                name = f"{scope}/batch_normalization_{i}"
                features = self.add("BatchNormalization", name, [features], parameters, epsilon=EPSILON)
            features = self.add(ACTIVATIONS[config.activation], f"{scope}/activation_{i}", [features])
        return features


def onnx_unet(config: ModelConfig, weights: Mapping[str, np.ndarray], size: int) -> onnx.ModelProto:
    """images [1, in_channels, size, size] -> logits [1, classes, size, size]; "same" padding only."""
    graph = Graph(weights)
    features, skips = "images", []
    for level in range(1, config.depth):
        skips.append(graph.block(config, f"encoder/level_{level}", features))
        features = graph.add("MaxPool", f"encoder/level_{level}/pool", [skips[-1]], kernel_shape=[2, 2], strides=[2, 2])
    features = graph.block(config, "bottleneck", features)
    for level in range(config.depth - 1, 0, -1):
        scope = f"decoder/level_{level}"
        up = graph.add("ConvTranspose", f"{scope}/up", [features], ("weight", "bias"), strides=[2, 2])
        features = graph.block(config, scope, graph.add("Concat", f"{scope}/concat", [skips.pop(), up], axis=1))
    graph.add("Conv", "output", [features], ("weight", "bias"))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, config.in_channels, size, size])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, config.classes, size, size])
    whole = helper.make_graph(graph.nodes, "unet", [images], [logits], graph.initializers)
    # Versions that all runtimes of the last years can read.
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class OnnxRuntime:
    """An inference session on the CPU."""

    def __init__(self, task: Task):
        import onnxruntime

        picture = task.picture()
        self.picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        model = onnx_unet(task.config.model, task.weights(), picture.shape[1]).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.session.run(None, {"images": self.picture})[0], times)
        return seconds, logits[-1].transpose(0, 2, 3, 1)


class OpenVino:
    """A model compiled for the CPU, for the latency of one image."""

    def __init__(self, task: Task):
        import openvino

        picture = task.picture()
        self.picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        path = task.folder / f"openvino_{task.precision}.onnx"
        onnx.save(onnx_unet(task.config.model, task.weights(), picture.shape[1]), path)
        settings = {
            "INFERENCE_NUM_THREADS": task.threads,
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[task.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.model = openvino.Core().compile_model(path, "CPU", settings)

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.model(self.picture)[0], times)
        return seconds, np.array(logits[-1]).transpose(0, 2, 3, 1)
