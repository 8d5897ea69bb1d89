"""Packages that are installed, and those that are not."""

import sys

import numpy as np
import pytest
from conftest import sentence

from unet_lowlevel.errors import UserError
from unet_lowlevel.packages import installed_version, optional_package


def test_installed_version():
    assert installed_version("numpy")[0].isdigit()
    assert installed_version("no-such-package-anywhere") == "not installed"


def test_optional_packages(monkeypatch):
    assert optional_package("numpy", "a file") is np
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError) as caught:
        optional_package("nibabel", "--format new", "export")
    sentence(caught, "--format new needs the package nibabel", "pip install -e '.[export]'")
