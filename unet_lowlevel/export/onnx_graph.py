"""The network as a graph of ONNX operators, written node by node. Imports neither TensorFlow nor our network."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unet_lowlevel.config import ModelConfig
from unet_lowlevel.geometry import lost_by_block

ACTIVATIONS = {"elu": "Elu", "relu": "Relu"}
# Versions that all runtimes of the last years can read.
OPSET, IR = 17, 8


class Graph:
    """Nodes in the order of computation; a node is named after its output."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.uses: Counter[str] = Counter()

    def add(self, kind: str, *inputs: Any, name: str = "", **attributes) -> str:
        """Adds a node; returns its output. Inputs that are no names of outputs are constants.

        A name that comes again gets a number, as that of a layer that is used for several views of an image.
        """
        name = name or f"{kind}_{len(self.nodes)}"
        self.uses[name] += 1
        name += f"_use_{self.uses[name]}" if self.uses[name] > 1 else ""
        names = [given if isinstance(given, str) else self.constant(given) for given in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def constant(self, value: Any, name: str = "") -> str:
        """Adds a constant: an array, or whole numbers as int64; returns its name."""
        name = name or f"constant_{len(self.constants)}"
        array = value if isinstance(value, np.ndarray | np.generic) else np.array(value, np.int64)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def model(self, inputs: list, outputs: list) -> onnx.ModelProto:
        """The checked model."""
        graph = helper.make_graph(self.nodes, "unet", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(model, full_check=True)
        return model


class Network:
    """Adds the network with its `weights`, {name as in `UNet.named_variables`: value}, to a graph.

    Batch normalization stays as it is: all runtimes fold it into the convolutions.
    """

    def __init__(self, graph: Graph, config: ModelConfig, weights: Mapping[str, np.ndarray], epsilon: float):
        self.graph, self.config, self.epsilon = graph, config, epsilon
        # [h, w, in, out] -> [out, in, h, w]; of a transposed convolution [h, w, out, in] -> [in, out, h, w].
        for name, value in weights.items():
            graph.constant(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value, name)

    def layer(self, kind: str, scope: str, features: str, parameters: tuple[str, ...], **attributes) -> str:
        """Adds a node whose `parameters` are variables below the scope."""
        names = (f"{scope}/{parameter}" for parameter in parameters)
        return self.graph.add(kind, features, *names, name=scope, **attributes)

    def block(self, scope: str, features: str) -> str:
        """Convolution, batch normalization, activation; a few times over."""
        config = self.config
        pads = [config.kernel_size // 2 if config.padding == "same" else 0] * 4
        for i in range(1, config.convolutions_per_block + 1):
            parameters = ("weight",) if config.batch_normalization else ("weight", "bias")
            features = self.layer("Conv", f"{scope}/conv_{i}", features, parameters, pads=pads)
            if config.batch_normalization:
                parameters = ("gamma", "beta", "moving_mean", "moving_variance")
                name = f"{scope}/batch_normalization_{i}"
                features = self.layer("BatchNormalization", name, features, parameters, epsilon=self.epsilon)
            features = self.graph.add(ACTIVATIONS[config.activation], features, name=f"{scope}/activation_{i}")
        return features

    def forward(self, features: str) -> str:
        """[N, C, H, W] -> logits [N, K, H', W'], of sides that the network takes without padding."""
        graph, skips = self.graph, []
        for level in range(1, self.config.depth):
            scope = f"encoder/level_{level}"
            skips.append(self.block(scope, features))
            features = graph.add("MaxPool", skips[-1], name=f"{scope}/pool", kernel_shape=[2, 2], strides=[2, 2])
        features = self.block("bottleneck", features)
        lost = lost_by_block(self.config) if self.config.padding == "valid" else 0
        border = 0
        for level in range(self.config.depth - 1, 0, -1):
            scope = f"decoder/level_{level}"
            up = self.layer("ConvTranspose", f"{scope}/up", features, ("weight", "bias"), strides=[2, 2])
            skip = skips.pop()
            # Lost below at each side, in pixels of this level: by the deepest block, and by two at each other level.
            border = 2 * border + (lost if level == self.config.depth - 1 else 2 * lost)
            if border:
                skip = graph.add("Slice", skip, [border, border], [-border, -border], [2, 3])
            joined = graph.add("Concat", skip, up, name=f"{scope}/concat", axis=1)
            features = self.block(scope, joined)
        return self.layer("Conv", "output", features, ("weight", "bias"))


def tensor(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """An input or an output of a model; sides that are strings are open."""
    return helper.make_tensor_value_info(name, kind, shape)


def network_model(
    config: ModelConfig, weights: Mapping[str, np.ndarray], size: int, *, epsilon: float, batch: int = 1
) -> onnx.ModelProto:
    """The network alone, "same": images [batch, C, size, size] -> output [batch, K, size, size], logits."""
    graph = Graph()
    Network(graph, config, weights, epsilon).forward("images")
    shapes = ([batch, channels, size, size] for channels in (config.in_channels, config.classes))
    return graph.model([tensor("images", next(shapes))], [tensor("output", next(shapes))])
