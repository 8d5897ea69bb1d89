"""Packaging of unet-lowlevel: `pip install -e .`, with the tests' tools `pip install -e '.[test]'`."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="unet-lowlevel",
    version="0.1.0",
    description="U-Net for medical image segmentation, from scratch on TensorFlow's low-level API",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["unet_lowlevel", "unet_lowlevel.*"]),
    python_requires=">=3.10,<3.14",
    install_requires=["tensorflow>=2.18", "numpy", "scikit-image", "tqdm", "tensorboard"],
    extras_require={
        "test": ["pytest", "ruff"],
        "benchmark": ["torch", "onnx", "onnxruntime", "openvino"],
    },
)
