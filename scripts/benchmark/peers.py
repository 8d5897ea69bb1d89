"""The libraries that the benchmark measures, and the process of each.

This module imports none of the libraries: each process imports only its own.
"""

import dataclasses
import functools
import importlib
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from unet_lowlevel.config import Config
from unet_lowlevel.machine import peak_bytes

PRECISIONS = ("float32", "bfloat16")
MATRIX_SIZE = 4096  # side of the matrices whose product shows what the machine can do
BATCH_SIZES = (1, 4, 16)  # of the throughput
# Every peer imports for itself what it needs, and nothing that another has imported.
PROCESSES = multiprocessing.get_context("spawn")
# Of batch normalization: that of core/ops/batch_normalization.py, whose import would bring TensorFlow everywhere.
EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library that computes the network: what it needs, and which class does which work."""

    title: str
    packages: tuple[str, ...]
    module: str
    works: Mapping[str, str]  # {training, inference, throughput, ...: class in the module}
    how: str
    precisions: tuple[str, ...] = PRECISIONS


PEERS = {
    "ours": Peer(
        "this project",
        ("tensorflow",),
        "peer_ours",
        {
            "training": "Training",
            "recompute": "Recomputing",
            "plain": "Plain",
            "joined_parts": "JoinedParts",
            "batch_moments": "BatchMoments",
            "bfloat16_elu": "BFloat16Elu",
            "copying_adam": "CopyingAdam",
            "convolutions": "Convolutions",
            "logged_training": "LoggedTraining",
            "logged_inference": "LoggedInference",
            "inference": "Inference",
            "plain_inference": "PlainInference",
            "throughput": "Throughput",
            "whole": "Whole",
            "tiled": "Tiled",
            "matmul": "Matmul",
            "pipeline": "Pipeline",
        },
        "as training and prediction run it; many images by the functions of `predict`",
    ),
    "keras": Peer(
        "Keras",
        ("tensorflow",),
        "peer_keras",
        {"training": "Training", "inference": "Inference", "throughput": "Throughput"},
        "the compiled functions of `fit` and `predict`, called without their loops",
    ),
    "keras_jit": Peer(
        "Keras, `jit_compile`",
        ("tensorflow",),
        "peer_keras",
        {"training": "JitTraining", "inference": "JitInference", "throughput": "JitThroughput"},
        "the same, compiled by XLA",
    ),
    "torch": Peer(
        "PyTorch",
        ("torch",),
        "peer_torch",
        {"training": "Training", "inference": "Inference", "throughput": "Throughput", "matmul": "Matmul"},
        "eager, channels last, fused Adam, autocast to bfloat16; predicts with `fuse_conv_bn_eval`",
    ),
    "torch_compile": Peer(
        "PyTorch, `torch.compile`",
        ("torch",),
        "peer_torch",
        {"training": "CompiledTraining", "inference": "CompiledInference", "throughput": "CompiledThroughput"},
        'the same with `mode="max-autotune"`; predicts with frozen weights',
    ),
    "onnxruntime": Peer(
        "ONNX Runtime",
        ("onnx", "onnxruntime"),
        "peer_onnx",
        {"inference": "OnnxRuntime", "throughput": "OnnxRuntimeThroughput"},
        "all optimizations of the graph",
        ("float32",),  # its convolutions know no bfloat16 on the CPU
    ),
    "openvino": Peer(
        "OpenVINO",
        ("onnx", "openvino"),
        "peer_onnx",
        {"inference": "OpenVino", "throughput": "OpenVinoThroughput"},
        "one image with the hint LATENCY, many with THROUGHPUT and `AsyncInferQueue`",
    ),
}


def missing_packages(peer: str) -> list[str]:
    """The packages of a peer that are not installed."""
    return [name for name in PEERS[peer].packages if importlib.util.find_spec(name) is None]


@dataclasses.dataclass(frozen=True)
class Task:
    """The input of a process.

    Attributes:
        config: of network and training.
        precision: "float32" or "bfloat16"; weights, statistics and loss are float32 in either.
        threads: that one operation may use.
        folder: weights.npz, {name as in `UNet.named_variables`: value}, and batch.npz, {images [N, S, S, 1],
            labels [N, S, S], picture [1, S', S', 1], many [M, S, S, 1]}; also for temporary files.
        large_size: side of the image that is predicted tile by tile, in pixels.
    """

    config: Config
    precision: str
    threads: int
    folder: Path
    large_size: int

    def weights(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "weights.npz") as file:
            return dict(file)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Images float32 [N, S, S, 1] and labels int32 [N, S, S]."""
        with np.load(self.folder / "batch.npz") as file:
            return file["images"], file["labels"]

    def picture(self) -> np.ndarray:
        """The image of the inference, float32 [1, S', S', 1]."""
        with np.load(self.folder / "batch.npz") as file:
            return file["picture"]

    def many(self) -> np.ndarray:
        """The images of the throughput, float32 [M, S, S, 1]."""
        with np.load(self.folder / "batch.npz") as file:
            return file["many"]


def assign(variables: Mapping, values: Mapping[str, np.ndarray]) -> None:
    """Assigns to every variable the value of its name; raises a ValueError for missing or extra names."""
    if variables.keys() != values.keys():
        raise ValueError(f"names differ: {sorted(variables.keys() ^ values.keys())}")
    for name, variable in variables.items():
        variable.assign(values[name])


def timed(work: Callable, times: int) -> tuple[list[float], list]:
    """Seconds and result of each of `times` calls."""
    seconds, results = [], []
    for _ in range(times):
        start = time.perf_counter()
        results.append(work())
        seconds.append(time.perf_counter() - start)
    return seconds, results


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def in_batches(predict: Callable, size: int) -> Callable:
    """Predicts any number of images, `size` at a time."""
    return lambda images: np.concatenate([predict(images[i : i + size]) for i in range(0, len(images), size)])


class Throughput:
    """Many images, in batches of the size of `BATCH_SIZES` that is fastest in a short trial."""

    def __init__(self, images, make: Callable[[int], Callable]):
        """Makes and tries all; `make(size)` returns a function of such images, of which it takes `size` at a time."""
        self.images, trial = images, images[: BATCH_SIZES[-1]]
        made = [make(size) for size in BATCH_SIZES]
        # The first time compiles, and is never the shortest.
        seconds = [[timed(functools.partial(predict, trial), 1)[0][0] for predict in made] for _ in range(4)]
        best = np.min(seconds, axis=0).argmin()
        self.batch_size, self.predict = BATCH_SIZES[best], made[best]

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the probabilities [M, S, S, 1]."""
        seconds, logits = timed(lambda: self.predict(self.images), times)
        return seconds, sigmoid(logits[-1].astype(np.float32))


def serve(name: str, work: str, task: Task, connection) -> None:
    """The loop of the process: does the work as often as told, until the other side closes the pipe.

    Receives how many times; sends {seconds, of each time; output, see `Worker.receive`; batch_size, of the throughput;
    peak_bytes, above the process right after its imports}, or {error} before it ends.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # hides what libraries print; what matters they raise
        os.dup2(nowhere, stream)
    try:
        module = importlib.import_module(f"benchmark.{PEERS[name].module}")
        after_imports = peak_bytes()
        peer = getattr(module, PEERS[name].works[work])(task)
        while True:
            seconds, output = peer.run(connection.recv())
            message = {"seconds": seconds, "output": output, "batch_size": getattr(peer, "batch_size", None)}
            connection.send(message | {"peak_bytes": peak_bytes() - after_imports})
    except (EOFError, BrokenPipeError):
        os._exit(0)  # an orderly end can take a minute, as with TensorFlow's input pipeline
    except Exception as error:  # libraries raise anything; the other peers are measured anyway
        connection.send(
            {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        )


class PeerError(Exception):
    """A peer that cannot be measured, and why."""


class Worker:
    """The process of a peer, seen from the parent process."""

    def __init__(self, name: str, work: str, task: Task):
        """Starts the process; see `serve`."""
        self.connection, child = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=serve, args=(name, work, task, child))
        self.started = time.perf_counter()
        self.process.start()
        child.close()

    def send(self, times: int) -> None:
        """Asks for so many steps, images or products; `receive` waits for them."""
        try:
            self.connection.send(times)
        except BrokenPipeError:
            raise PeerError("its process has ended") from None

    def receive(self) -> dict:
        """The message of `serve`; its output is losses, logits, probabilities of many images, lines of oneDNN, or of
        the pipeline the seconds of fed steps.

        Raises:
            PeerError: when the peer has failed.
        """
        try:
            message = self.connection.recv()
        except EOFError:
            raise PeerError("its process has ended, perhaps for want of memory") from None
        if "error" in message:
            raise PeerError(message["error"])
        return message

    def close(self) -> None:
        self.connection.close()
        self.process.join()
