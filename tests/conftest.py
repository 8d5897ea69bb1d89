"""What all tests share: a quiet TensorFlow, and the real data where a machine has it."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # before anything imports tensorflow

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder of real data (UNET_DATASETS, else ../shared/datasets beside the project); skips without it."""
    folder = Path(os.environ.get("UNET_DATASETS") or Path(__file__).parents[2] / "shared" / "datasets")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; UNET_DATASETS names another folder")
    return folder
