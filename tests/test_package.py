"""The package from Python: what it offers, and that importing it costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

import unet_lowlevel

IMPORT = """
import sys, time
start = time.perf_counter()
import unet_lowlevel
seconds = time.perf_counter() - start
assert dir(unet_lowlevel) and unet_lowlevel.__version__
print(seconds, *(name for name in ("tensorflow", "numpy", "keras") if name in sys.modules))
"""


def test_importing_it_is_quick_and_imports_no_tensorflow():
    seconds = []
    for _ in range(3):
        command = [sys.executable, "-c", IMPORT]
        process = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert process.returncode == 0, process.stderr
        time, *heavy = process.stdout.split()
        assert heavy == []
        seconds.append(float(time))
    assert min(seconds) < 0.2


def test_what_it_offers():
    names = ["Config", "UNet", "__version__", "cross_validate", "evaluate", "load", "train"]
    assert dir(unet_lowlevel) == sorted(unet_lowlevel.__all__) == sorted(names)
    for name in names:
        assert getattr(unet_lowlevel, name) is not None
    from unet_lowlevel.config import Config
    from unet_lowlevel.core.unet import UNet
    from unet_lowlevel.inference.cross_validation import cross_validate
    from unet_lowlevel.inference.evaluation import evaluate
    from unet_lowlevel.inference.predictor import load
    from unet_lowlevel.training.train import train

    assert (unet_lowlevel.Config, unet_lowlevel.UNet, unet_lowlevel.train) == (Config, UNet, train)
    assert (unet_lowlevel.cross_validate, unet_lowlevel.evaluate, unet_lowlevel.load) == (
        cross_validate,
        evaluate,
        load,
    )


def test_what_it_does_not_offer():
    with pytest.raises(AttributeError, match=r"module 'unet_lowlevel' has no attribute 'predict'"):
        unet_lowlevel.predict  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Unet'"):
        from unet_lowlevel import Unet  # noqa: F401
