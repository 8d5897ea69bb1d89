"""Packaging of unet-lowlevel: `pip install -e .`, with the tests' tools `pip install -e '.[test]'`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = Path(__file__).with_name("unet_lowlevel")
VERSION = re.search(r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.M)[1]

setup(
    name="unet-lowlevel",
    version=VERSION,
    description="U-Net for medical image segmentation, from scratch on TensorFlow's low-level API",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["unet_lowlevel", "unet_lowlevel.*"]),
    package_data={"unet_lowlevel": ["py.typed", "CHANGELOG.md", "*/README.md", "demo/*", "demo/best/*"]},
    entry_points={"console_scripts": ["unet-lowlevel = unet_lowlevel.__main__:main"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow>=2.21",  # before it, each version asks for a TensorBoard of its own number
        "keras>=3.12",  # before it, safe mode could be got round by the files that it is to guard against
        "tensorboard>=2.21",  # before it, it needs pkg_resources, which setuptools 82 no longer has
        "numpy>=1.26.4",
        "scikit-image>=0.24",
        "pillow>=11",
        "tifffile>=2024.8.10",
        "tqdm>=4.66.3",
    ],
    extras_require={
        "medical": ["pydicom>=3.0", "nibabel>=5.0", "highdicom>=0.25"],
        # More kinds of TIFF, by the first that works with NumPy 2; regions of interest for Fiji.
        "formats": ["imagecodecs>=2024.6.1", "roifile>=2024.5.24"],
        # With pydantic 2.14 the descriptions of bioimageio.spec 0.5.12 fail.
        "export": ["onnx>=1.17", "onnxruntime>=1.20", "ai-edge-litert>=2.1", "bioimageio.core>=0.11", "pydantic<2.14"],
        "cluster": ["ray[data,train]>=2.50"],
        "test": [
            *("pytest>=8", "pytest-xdist>=3.6", "pytest-cov>=6", "hypothesis>=6.100", "ruff>=0.9", "mypy>=1.15"),
            *("pydicom>=3.0", "nibabel>=5.0", "highdicom>=0.25", "imagecodecs>=2024.6.1", "roifile>=2024.5.24"),
            *("onnx>=1.17", "onnxruntime>=1.20", "ai-edge-litert>=2.1", "bioimageio.core>=0.11", "pydantic<2.14"),
            "ray[data,train]>=2.50",
            *("nbclient>=0.10", "ipykernel>=6.29"),  # to run the notebooks of scripts/notebooks as Jupyter would
        ],
        "benchmark": ["torch", "onnx", "onnxruntime", "openvino"],
    },
)
