"""A run as an ONNX file: preparation of the image, network and mask as ONNX operators."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from unet_lowlevel.config import Config
from unet_lowlevel.core.ops.batch_normalization import EPSILON
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.export.onnx_graph import Graph, Network, tensor
from unet_lowlevel.geometry import smallest_valid_size, valid_margin
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.views import Flip


def write_onnx(model: UNet, predictor: Predictor, path: Path) -> None:
    """Writes images float32 [N, H, W, C] as stored -> probabilities [N, H, W, K] and mask uint8 [N, H, W].

    What is computed is that of `whole.Whole`.

    Args:
        model: the network of the run, not folded.
        predictor: of the run.
        path: of the new file.
    """
    onnx.save(onnx_model(model, predictor.config, predictor.views), str(path))


def onnx_model(model: UNet, config: Config, views: Sequence[Flip]) -> onnx.ModelProto:
    """See `write_onnx`."""
    graph, classes = Graph(), config.model.classes
    sides = [side_of("images", axis, graph) for axis in (1, 2)]
    pixels = graph.add("Transpose", "images", perm=[0, 3, 1, 2])
    if config.data.resizes:
        pixels = Resizing(graph, config).area_resized(pixels, sides)
    pixels = normalized(graph, config, pixels)
    weights = {name: variable.numpy() for name, variable in model.named_variables().items()}
    network = Network(graph, config.model, weights, EPSILON)
    each = [turned_back(graph, probabilities(network, config, turned(graph, pixels, view)), view) for view in views]
    found = graph.add("Mean", *each) if len(each) > 1 else each[0]
    if config.data.resizes:
        found = Resizing(graph, config).resized_values(found, sides)
    graph.add("Transpose", found, name="probabilities", perm=[0, 2, 3, 1])
    if classes == 1:
        threshold = np.float32(config.training.decision_threshold)
        inside = graph.add("Squeeze", graph.add("GreaterOrEqual", found, threshold), [1])
    else:
        inside = graph.add("ArgMax", found, axis=1, keepdims=0)
    graph.add("Cast", inside, name="mask", to=TensorProto.UINT8)
    size: list = ["N", "H", "W"]
    return graph.model(
        [tensor("images", [*size, config.model.in_channels])],
        [tensor("probabilities", [*size, classes]), tensor("mask", size, TensorProto.UINT8)],
    )


def probabilities(network: Network, config: Config, pixels: str) -> str:
    """Those of normalized images [N, C, H, W]: [N, K, H, W]."""
    graph = network.graph
    sides = [side_of(pixels, axis, graph) for axis in (2, 3)]
    starts = []
    for axis, side in zip((2, 3), sides, strict=True):
        pixels, start = mirrored(graph, config, pixels, axis, side)
        starts.append(start)
    logits = network.forward(pixels)
    for axis, side, start in zip((2, 3), sides, starts, strict=True):
        logits = graph.add("Slice", logits, start, graph.add("Add", start, side), [axis])
    return graph.add("Sigmoid", logits) if config.model.classes == 1 else graph.add("Softmax", logits, axis=1)


def turned(graph: Graph, pixels: str, view: Flip) -> str:
    """`view.of` each of the images [N, C, H, W]."""
    return reversed_axes(graph, graph.add("Transpose", pixels, perm=[0, 1, 3, 2]) if view.exchanged else pixels, view)


def turned_back(graph: Graph, found: str, view: Flip) -> str:
    """What was found for the views [N, K, H', W'], as that of the images [N, K, H, W]."""
    found = reversed_axes(graph, found, view)
    return graph.add("Transpose", found, perm=[0, 1, 3, 2]) if view.exchanged else found


def reversed_axes(graph: Graph, features: str, view: Flip) -> str:
    axes = [axis for axis, wanted in ((2, view.upside_down), (3, view.left_right)) if wanted]
    last, before_all = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    return graph.add("Slice", features, last, before_all, axes, last) if axes else features


def side_of(features: str, axis: int, graph: Graph) -> str:
    """The length of an axis, int64 [1]."""
    return graph.add("Shape", features, start=axis, end=axis + 1)


def counted(graph: Graph, first: int, count: str) -> str:
    """first ... first + count - 1, int64 [count]; `count` is [1]."""
    stop = graph.add("Add", count, [first])
    return graph.add("Range", np.int64(first), graph.add("Squeeze", stop), np.int64(1))


def normalized(graph: Graph, config: Config, pixels: str) -> str:
    """`samples.normalization` of each image [N, C, H, W], in double precision."""
    pixels, axes, data = graph.add("Cast", pixels, to=TensorProto.DOUBLE), [1, 2, 3], config.data
    if data.normalization == "range":
        low, high = data.normalization_range
        shifted = graph.add("Div", graph.add("Sub", pixels, np.float64(low)), np.float64(high - low))
        return graph.add("Cast", graph.add("Clip", shifted, np.float64(0), np.float64(1)), to=TensorProto.FLOAT)
    low, high = (graph.add(f"Reduce{kind}", pixels, axes=axes, keepdims=1) for kind in ("Min", "Max"))
    if data.normalization == "minmax":
        shift, scale = low, graph.add("Sub", high, low)
    else:
        shift = graph.add("ReduceMean", pixels, axes=axes, keepdims=1)
        deviation = graph.add("Sub", pixels, shift)
        squares = graph.add("ReduceMean", graph.add("Mul", deviation, deviation), axes=axes, keepdims=1)
        scale = graph.add("Sqrt", squares)
    constant = graph.add("Equal", low, high)
    shift, scale = graph.add("Where", constant, low, shift), graph.add("Where", constant, np.float64(1), scale)
    return graph.add("Cast", graph.add("Div", graph.add("Sub", pixels, shift), scale), to=TensorProto.FLOAT)


def mirrored(graph: Graph, config: Config, pixels: str, axis: int, side: str) -> tuple[str, str]:
    """The pixels mirrored along an axis to a side that the network takes; where its output shows them from, [1].

    See `UNet.__call__`, `steps.whole_logits` and `cropping.mirror_indices`.
    """
    multiple, margin = 2 ** (config.model.depth - 1), valid_margin(config.model)
    smallest = smallest_valid_size(config.model) if margin else 0
    missing = graph.add("Max", graph.add("Sub", side, [smallest - margin]), [0])
    steps = graph.add("Div", graph.add("Add", missing, [multiple - 1]), [multiple])
    padded = graph.add("Add", graph.add("Mul", steps, [multiple]), [smallest])
    if margin:
        before, start = graph.constant([margin // 2]), graph.constant([0])
    else:
        before = start = graph.add("Div", graph.add("Sub", padded, side), [2])
    period = graph.add("Max", graph.add("Mul", graph.add("Sub", side, [1]), [2]), [1])
    place = graph.add("Mod", graph.add("Sub", counted(graph, 0, padded), before), period)
    back = graph.add("Where", graph.add("Less", place, side), place, graph.add("Sub", period, place))
    return graph.add("Gather", pixels, back, axis=axis), start


class Resizing:
    """`data/resolution.py` in ONNX operators."""

    def __init__(self, graph: Graph, config: Config):
        self.graph, self.data = graph, config.data

    def working(self, side: str) -> str:
        """The side that the network works at, int64 [1]; see `resolution.working_size`."""
        if self.data.image_size:
            return self.graph.constant([self.data.image_size])
        exact = self.graph.add(
            "Mul", self.graph.add("Cast", side, to=TensorProto.DOUBLE), np.float64(self.data.resolution)
        )
        rounded = self.graph.add("Cast", self.graph.add("Round", exact), to=TensorProto.INT64)
        return self.graph.add("Max", rounded, [1])

    def area_resized(self, pixels: str, sides: list[str]) -> str:
        """`resized_image` of [N, C, H, W]."""
        below, beside = (self.shares(side) for side in sides)
        beside = self.graph.add("Transpose", beside, perm=[1, 0])
        return self.graph.add("MatMul", self.graph.add("MatMul", below, pixels), beside)

    def shares(self, length: str) -> str:
        """`whole.area_shares`, float32 [working, length]."""
        graph, working = self.graph, self.working(length)
        ends = graph.add("Mul", graph.add("Unsqueeze", counted(graph, 1, working), [1]), length)
        others = graph.add("Mul", graph.add("Unsqueeze", counted(graph, 1, length), [0]), working)
        begins, other_begins = graph.add("Sub", ends, length), graph.add("Sub", others, working)
        overlap = graph.add("Sub", graph.add("Min", ends, others), graph.add("Max", begins, other_begins))
        shared = graph.add("Cast", graph.add("Max", overlap, [0]), to=TensorProto.FLOAT)
        return graph.add("Div", shared, graph.add("Cast", length, to=TensorProto.FLOAT))

    def resized_values(self, found: str, sides: list[str]) -> str:
        """`resolution.resized_values` of [N, K, h, w]."""
        before = self.graph.add("Shape", found, start=0, end=2)
        size = self.graph.add("Concat", before, *sides, axis=0)
        return self.graph.add("Resize", found, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
