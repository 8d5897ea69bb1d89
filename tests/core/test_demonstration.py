"""What the files of the book show of themselves: it runs, fits a terminal, and fails where an op is wrong."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from mutate import ROOT, mutations

from unet_lowlevel.core import by_hand, demonstration

CORE = ROOT / "unet_lowlevel" / "core"
SHOWN = sorted(path for path in CORE.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
# Those of the table of mutations that change what is shown.
BREAKS = {
    "core/ops/activations.py: ELU is scaled",
    "core/ops/batch_normalization.py: a smaller epsilon",
    "core/ops/batch_normalization.py: the variance is divided by n - 1",
    "core/ops/batch_normalization.py: the root has no epsilon",
    "core/ops/convolution.py: every second pixel",
    "core/ops/convolution.py: no bias",
    "core/ops/convolution.py: the filter is flipped",
    "core/ops/cropping.py: the mirror repeats the border",
    "core/ops/cropping.py: one pixel beside the middle",
    "core/ops/cropping.py: the skip comes last",
    "core/ops/dropout.py: what stays is not enlarged",
    "core/ops/dropout.py: the others are dropped",
    "core/ops/initializers.py: half the variance",
    "core/losses.py: Dice without smoothing above",
    "core/losses.py: Dice with squares",
    "core/optimizers.py: Adam's first moment is not corrected",
    "core/optimizers.py: Adam's second moment is not corrected",
    "core/optimizers.py: beta_2 is 0.99",
    "core/optimizers.py: no Nesterov",
    "core/ops/pooling.py: the mean",
    "core/ops/pooling.py: one pixel at a time",
    "core/ops/transposed_convolution.py: no bias",
    "core/ops/transposed_convolution.py: the filter is flipped",
}
BROKEN = [mutation for mutation in mutations() if str(mutation) in BREAKS]


@pytest.fixture
def silent(monkeypatch):
    """oneDNN stays silent, and is asked in a process of its own: it would speak in all later tests of this one."""
    monkeypatch.setattr(demonstration, "onednn_lines", lambda: contextlib.nullcontext([]))


def run(path, code=None):
    exec(compile(code or path.read_text(encoding="utf-8"), path, "exec"), {"__name__": "__main__"})


def test_every_op_shows_itself():
    ops = {path.name for path in (CORE / "ops").glob("*.py")} - {"__init__.py"}
    assert ops | {"losses.py", "optimizers.py"} == {path.name for path in SHOWN}


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_what_is_shown(path, silent, capsys):
    run(path)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert output.count("by hand") == output.count("Output") > 0
    assert "DIFFER" not in output and "nan" not in output
    assert ("finite differences" in output) == (path.stem not in ("initializers", "optimizers"))


@pytest.mark.parametrize("mutation", BROKEN, ids=str)
def test_a_wrong_op_is_noticed(mutation, silent, capsys):
    path = ROOT / mutation.module
    code = path.read_text(encoding="utf-8").replace(mutation.old, mutation.new)
    # Outputs of another shape cannot be shown side by side.
    with pytest.raises((SystemExit, ValueError), match=r"is not what the loop computes|longer|shorter|broadcast"):
        run(path, code)


def test_the_table_of_mutations_has_those_that_are_tried():
    assert len(BROKEN) == len(BREAKS)


def test_a_wrong_gradient_is_noticed(silent, capsys):
    """Of an op whose values are right."""
    import tensorflow as tf

    @tf.custom_gradient
    def relu(images):
        """output = max(x, 0)."""
        return tf.nn.relu(images), lambda upstream: upstream

    values = demonstration.array("-1 2", 1, 1, 2, 1)
    with pytest.raises(SystemExit, match="relu is not"):
        demonstration.show(relu, by_hand.relu, values)
    output, gradient = capsys.readouterr().out.split("Gradients")
    assert "DIFFER" not in output and "DIFFER" in gradient


def test_arrays_are_read_as_they_look():
    np.testing.assert_array_equal(demonstration.array("1 2  3 4", 1, 2, 2, 1)[0, :, :, 0], [[1, 2], [3, 4]])
    blocks = demonstration.lines_of(demonstration.array("1 2  3 -4.5  5 6  7 8", 1, 2, 2, 2))
    assert blocks == ["  channel 0", "  1 3", "  5 7", "  channel 1", "     2 -4.5", "     6    8"]


def test_it_tells_what_onednn_ran(silent):
    """As typed; the warning would be that a module is loaded twice."""
    assert demonstration.onednn_text("forward", [])[0].endswith("does not use oneDNN at all")
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "unet_lowlevel.core.ops.pooling"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = done.stdout.partition("What oneDNN ran")[2]
    if "does not use oneDNN at all" not in told:  # as on other processors
        assert "onednn_verbose,v1,primitive,exec,cpu,pooling," in told.replace("\n      ", "")
        assert "gradient: nothing; TensorFlow's own kernels" in told
    assert max(map(len, done.stdout.splitlines())) <= 80
