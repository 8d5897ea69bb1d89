"""ONNX Runtime and OpenVINO in the benchmark: the network as an ONNX graph, for inference only.

The graph is that of `export --format onnx`; both runtimes fold the normalization by themselves.
"""

import numpy as np
import onnx

from benchmark.peers import EPSILON, Task, timed
from unet_lowlevel.export.onnx_graph import network_model


def onnx_unet(task: Task) -> onnx.ModelProto:
    """The network of a task, for its picture."""
    return network_model(task.config.model, task.weights(), task.picture().shape[1], epsilon=EPSILON)


class OnnxRuntime:
    """An inference session on the CPU."""

    def __init__(self, task: Task):
        import onnxruntime

        picture = task.picture()
        self.picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        model = onnx_unet(task).SerializeToString()
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
        onnx.save(onnx_unet(task), path)
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
