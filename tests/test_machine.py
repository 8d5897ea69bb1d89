"""What the machine tells of its memory, and a TensorFlow that starts quietly."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from low_memory import memory_information

from unet_lowlevel import machine

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")


@pytest.mark.parametrize("kilobytes", [0, 1, 47, 10**9])
def test_available_memory_is_what_the_system_tells(kilobytes, tmp_path, monkeypatch):
    memory_information(monkeypatch, tmp_path, kilobytes)
    assert machine.available_memory() == 1024 * kilobytes


@pytest.mark.parametrize("content", [None, "", "MemTotal: 5 kB\n"])
def test_where_the_system_does_not_tell_its_memory_it_is_not_known(content, tmp_path, monkeypatch):
    file = tmp_path / "meminfo"
    monkeypatch.setattr(machine, "MEMORY_INFORMATION", file)
    if content is not None:
        file.write_text(content)
    assert machine.available_memory() is None


@on_linux
def test_the_memory_of_this_machine_is_known():
    assert 2**20 < machine.available_memory() < 2**50


@on_linux
def test_the_peak_is_that_of_this_process_and_stays():
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = machine.peak_bytes()
    array = np.ones(2**26, np.uint8)
    after = machine.peak_bytes()
    assert 2**20 < before < after - 2**25 < before + 2**26
    del array
    assert machine.peak_bytes() > after - 2**21  # Linux counts pages in bundles


NOISY = """
import os, sys, types, unet_lowlevel.machine as machine
class Noisy:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            os.write(2, b"from below Python\\n")
            print("from Python", file=sys.stderr, flush=True)
            if "broken" in sys.argv:
                raise ImportError("no tensorflow")
            import importlib.machinery
            return importlib.machinery.ModuleSpec("tensorflow", Loader())
class Loader:
    def create_module(self, spec): return None
    def exec_module(self, module):
        module.config = types.SimpleNamespace(list_physical_devices=lambda kind: [])
sys.meta_path.insert(0, Noisy())
print("before", file=sys.stderr)
try:
    machine.start_tensorflow()
except ImportError as error:
    print(error, file=sys.stderr)
os.write(2, b"after\\n")
print("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_what_tensorflow_prints_while_it_starts_is_not_seen(broken):
    """Of a stand-in, which takes no seconds; what others print before and after is, also when it cannot start."""
    result = subprocess.run(
        [sys.executable, "-c", NOISY, *(["broken"] if broken else [])], capture_output=True, text=True, check=True
    )
    assert result.stderr.splitlines() == ["before", *(["no tensorflow"] if broken else []), "after"]
    assert result.stdout == f"{not broken}\n"
