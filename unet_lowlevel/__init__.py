"""U-Net for medical image segmentation, written from scratch on TensorFlow's low-level API.

import unet_lowlevel

unet_lowlevel.train(unet_lowlevel.Config.of(data="data/mine"), "runs/mine")
mask = unet_lowlevel.load("runs/mine").predict("image.png").mask
"""

import importlib

TYPE_CHECKING = False  # not that of `typing`, whose import takes so long that Ctrl-C may meet it
if TYPE_CHECKING:
    from unet_lowlevel.config import Config as Config
    from unet_lowlevel.core.unet import UNet as UNet
    from unet_lowlevel.inference.cross_validation import cross_validate as cross_validate
    from unet_lowlevel.inference.evaluation import evaluate as evaluate
    from unet_lowlevel.inference.predictor import load as load
    from unet_lowlevel.training.train import train as train

__version__ = "1.0.0"

# Where the public names live: imported when they are asked for, since TensorFlow takes seconds.
_PUBLIC = {
    "Config": "config",
    "UNet": "core.unet",
    "cross_validate": "inference.cross_validation",
    "evaluate": "inference.evaluation",
    "load": "inference.predictor",
    "train": "training.train",
}
__all__ = ["Config", "UNet", "__version__", "cross_validate", "evaluate", "load", "train"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
