"""PyTorch in the benchmark: eager and compiled, channels last, with the fused Adam."""

import functools
import os
import tempfile

import numpy as np
import torch
import torch._inductor.config

from benchmark import peers
from benchmark.peers import MATRIX_SIZE, Task, in_batches, timed
from benchmark.torch_unet import TorchUNet, dice


def channels_first(images: np.ndarray) -> torch.Tensor:
    """[N, H, W, C] -> [N, C, H, W] with the same order in memory: PyTorch's channels_last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def compiled(function, task: Task):
    """`torch.compile` for the given shapes, with a cache of its own: every measurement includes the compilation."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=task.folder)
    return torch.compile(function, mode="max-autotune", dynamic=False)


class Training:
    """Forward, backward and update on a constant batch."""

    def __init__(self, task: Task):
        torch.set_num_threads(task.threads)
        images, labels = task.batch()
        self.images, self.labels = channels_first(images), channels_first(labels[..., np.newaxis].astype(np.float32))
        self.network = TorchUNet(task.config.model, task.weights()).to(memory_format=torch.channels_last).train()
        self.in_bfloat16 = task.precision == "bfloat16"
        self.smooth = task.config.loss.dice_smooth
        rate = task.config.optimizer.learning_rate
        self.optimizer = torch.optim.Adam(self.network.parameters(), rate, eps=1e-7, fused=True)
        self.loss_of = self.loss

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):
            logits = self.network(images)
        return dice(labels, logits.float(), self.smooth)

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss_of(self.images, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each step."""
        return timed(self.step, steps)


class CompiledTraining(Training):
    """`Training` with network and loss compiled together."""

    def __init__(self, task: Task):
        super().__init__(task)
        self.loss_of = compiled(self.loss, task)


class Inference:
    """One image, by the folded network in inference mode."""

    def __init__(self, task: Task):
        torch.set_num_threads(task.threads)
        self.picture = channels_first(task.picture())
        self.network = TorchUNet(task.config.model, task.weights()).folded().to(memory_format=torch.channels_last)
        self.in_bfloat16 = task.precision == "bfloat16"

    def logits(self, images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):
            return self.network(images).float().permute(0, 2, 3, 1).numpy()

    def run(self, times: int) -> tuple[list[float], np.ndarray]:
        """Seconds of each time, and the logits [1, S, S, 1]."""
        seconds, logits = timed(lambda: self.logits(self.picture), times)
        return seconds, logits[-1]


class CompiledInference(Inference):
    """`Inference` compiled with frozen weights, which oneDNN lays out once."""

    def __init__(self, task: Task):
        super().__init__(task)
        torch._inductor.config.freezing = True
        self.network = compiled(self.network, task)


class Throughput(peers.Throughput):
    """Many images."""

    inference = Inference

    def __init__(self, task: Task):
        predict = self.inference(task).logits
        super().__init__(channels_first(task.many()), functools.partial(in_batches, predict))


class CompiledThroughput(Throughput):
    """`Throughput`, compiled for each size of a batch."""

    inference = CompiledInference


class Matmul:
    """torch.mm of square matrices."""

    def __init__(self, task: Task):
        torch.set_num_threads(task.threads)
        self.matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE).to(getattr(torch, task.precision))

    def run(self, times: int) -> tuple[list[float], None]:
        """Seconds of each product."""
        return timed(lambda: torch.mm(self.matrix, self.matrix)[0, 0].item(), times)[0], None
