"""ONNX Runtime and OpenVINO in the benchmark: the network as an ONNX graph, for inference only.

The graph is that of `export --format onnx`; both runtimes fold the normalization by themselves.
"""

from collections.abc import Callable

import numpy as np
import onnx

from benchmark.peers import EPSILON, Task, Throughput, in_batches, timed
from unet_lowlevel.export.onnx_graph import network_model


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def onnx_unet(task: Task, side: int, batch: int) -> onnx.ModelProto:
    """The network of a task, for so many images of this side."""
    return network_model(task.config.model, task.weights(), side, epsilon=EPSILON, batch=batch)


def onnx_session(task: Task, side: int, batch: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Images [batch, 1, side, side] -> logits [batch, side, side, 1], by an inference session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = onnx_unet(task, side, batch).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0].transpose(0, 2, 3, 1)


class OnnxRuntime:
    """One image."""

    def __init__(self, task: Task):
        self.picture = channels_first(task.picture())
        self.predict = onnx_session(task, self.picture.shape[-1])

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.predict(self.picture), times)
        return seconds, logits[-1]


class OnnxRuntimeThroughput(Throughput):
    """Many images."""

    def __init__(self, task: Task):
        images = channels_first(task.many())
        super().__init__(images, lambda size: in_batches(onnx_session(task, images.shape[-1], size), size))


def openvino_model(task: Task, hint: str, side: int, batch: int = 1):
    """The network compiled for the CPU."""
    import openvino

    path = task.folder / f"openvino_{task.precision}_{batch}x{side}.onnx"
    onnx.save(onnx_unet(task, side, batch), path)
    settings = {
        "INFERENCE_NUM_THREADS": task.threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[task.precision],
        "PERFORMANCE_HINT": hint,
    }
    return openvino.Core().compile_model(path, "CPU", settings)


class OpenVino:
    """One image, with the least latency."""

    def __init__(self, task: Task):
        self.picture = channels_first(task.picture())
        self.model = openvino_model(task, "LATENCY", self.picture.shape[-1])

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.model(self.picture)[0], times)
        return seconds, np.array(logits[-1]).transpose(0, 2, 3, 1)


class OpenVinoThroughput(Throughput):
    """Many images, as many batches at once as OpenVINO thinks best."""

    def __init__(self, task: Task):
        images = channels_first(task.many())
        super().__init__(images, lambda size: self.queued(openvino_model(task, "THROUGHPUT", images.shape[-1], size)))

    @staticmethod
    def queued(model) -> Callable[[np.ndarray], np.ndarray]:
        import openvino

        queue, size = openvino.AsyncInferQueue(model), model.input().shape[0]

        def predict(images: np.ndarray) -> np.ndarray:
            found = np.empty(images.shape, np.float32)
            queue.set_callback(lambda request, part: np.copyto(found[part], request.get_output_tensor().data))
            for i in range(0, len(images), size):
                part = slice(i, i + size)
                queue.start_async({0: images[part]}, part, share_inputs=True)
            queue.wait_all()
            return found.transpose(0, 2, 3, 1)

        return predict
