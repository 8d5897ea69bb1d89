"""The notebooks: clean files that run from top to bottom; the network written by hand is that of the package."""

import importlib.util
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tensorflow as tf
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from unet_lowlevel.config import Config, ModelConfig, OptimizerConfig
from unet_lowlevel.core.losses import dice
from unet_lowlevel.core.optimizers import Adam
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet

FOLDER = Path(__file__).parents[2] / "scripts" / "notebooks"
# Other values of what stands at the top of each notebook, with which it takes seconds.
SHORT = {
    "unet_by_hand": {"SIDE": 32, "STEPS": 2},
    "what_the_curves_say": {"EPOCHS": 2, "DEPTH": 2},
    "your_own_data": {
        "TRAINING": {"plan": "off", "epochs": 1, "depth": 2, "base_channels": 2, "threshold": 0.2, "minutes": 0}
    },
}


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shortened(name):
    """The notebook with the values of `SHORT`."""
    notebook = read(name)
    for constant, value in SHORT[name].items():
        replaced = 0
        for cell in code_of(notebook):
            cell.source, count = re.subn(rf"(?m)^{constant} = .*$", f"{constant} = {value}", cell.source)
            replaced += count
        assert replaced == 1, constant
    return notebook


def test_all_notebooks_are_tested_and_named():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == SHORT.keys()
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.ipynb)" in text for name in SHORT)


@pytest.mark.parametrize("name", SHORT)
def test_files_are_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_of(notebook):
        assert cell.outputs == [] and cell.execution_count is None and cell.metadata == {}
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/home/|/root|/Users/|/tmp|/work|/content|[A-Z]:\\|https?://", text)
    assert len(text) < 30_000
    assert code_of(notebook)[0].source == code_of(read("unet_by_hand"))[0].source  # the same way to install


def first_cell(monkeypatch, folder):
    """Runs the first cell where the package is missing, in `folder`; returns the magics that it calls."""
    called = []

    class Shell:
        def run_line_magic(self, magic, line):
            called.append(f"%{magic} {line}".replace("{wheels[-1]}", str(names["wheels"][-1])))

    names = {"get_ipython": Shell}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(TransformerManager().transform_cell(code_of(read("unet_by_hand"))[0].source), names)
    return called


def test_where_the_package_is_missing_its_wheel_is_installed(monkeypatch, tmp_path):
    for version in ("0.9.0", "1.0.0"):
        (tmp_path / f"unet_lowlevel-{version}-py3-none-any.whl").touch()
    assert first_cell(monkeypatch, tmp_path) == ["%pip install --quiet unet_lowlevel-1.0.0-py3-none-any.whl"]


def test_without_a_wheel_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(ModuleNotFoundError, match=r"put it beside this notebook, and run this cell again\.$"):
        first_cell(monkeypatch, tmp_path)


@pytest.fixture
def page():
    """The names that `unet_by_hand` has defined before it trains; its variables have values as after a training."""
    names, rng = {}, np.random.default_rng(0)
    for cell in code_of(shortened("unet_by_hand"))[1:]:
        if "for number in range(1, STEPS + 1)" in cell.source:
            break
        exec(cell.source, names)
    else:
        raise AssertionError("the cell that trains has not been found")
    for name, variable in (names["weights"] | names["statistics"]).items():
        if not name.endswith("weight"):  # which has random values already
            variable.assign(variable + 0.2 * rng.uniform(size=variable.shape))
    return names


@pytest.fixture
def network(page):
    """The network of the package with the same weights."""
    network = UNet(ModelConfig(in_channels=1, depth=4, base_channels=8), seed=1)
    variables = network.named_variables()
    assert variables.keys() == (page["weights"] | page["statistics"]).keys()
    assert network.trained_variables().keys() == page["weights"].keys()
    for name, variable in variables.items():
        variable.assign((page["weights"] | page["statistics"])[name])
    return network


def assert_equal_variables(page, network):
    for name, variable in network.named_variables().items():
        mine = (page["weights"] | page["statistics"])[name]
        np.testing.assert_allclose(mine.numpy(), variable.numpy(), rtol=0, atol=1e-5, err_msg=name)


def batch(page):
    return tf.constant(page["train_images"][:4]), tf.constant(page["train_labels"][:4])


def test_network_by_hand_has_the_logits_of_the_package(page, network):
    images, _ = batch(page)
    for training in (False, True, False):  # the last one with the moved averages
        mine, theirs = page["unet"](images, training=training), network(images, training=training)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.ptp(theirs))
    assert_equal_variables(page, network)


def test_loss_by_hand_is_that_of_the_package(page):
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 32, 32, 1)), tf.float32)
    labels = tf.concat([page["train_labels"][:3], tf.zeros([1, 32, 32], tf.int32)], 0)
    np.testing.assert_allclose(page["dice_loss"](labels, logits), dice(labels, logits), rtol=1e-6)


def test_adam_by_hand_is_that_of_the_package(page, network):
    weights, rng = [network.trained_variables()[name] for name in page["weights"]], np.random.default_rng(0)
    adam = Adam(weights, OptimizerConfig())
    for step in range(3):
        gradients = [tf.constant(rng.normal(size=weight.shape), tf.float32) for weight in weights]
        page["adam"](gradients)
        adam.apply(weights, gradients, tf.constant(step), page["LEARNING_RATE"])
    assert_equal_variables(page, network)


def test_step_by_hand_is_that_of_the_package(page, network):
    """Both run as they are written, not compiled."""
    images, labels = batch(page)
    rate = page["LEARNING_RATE"]
    config = Config(model=network.config, optimizer=OptimizerConfig(learning_rate=rate, schedule="constant"))
    adam = Adam(list(network.trained_variables().values()), config.optimizer)
    step = TrainStep(network, dice, adam, config, (32, 32), total_steps=1)
    gradients, move = {}, page["adam"]
    page["adam"] = lambda found: (gradients.update(zip(page["weights"], found, strict=True)), move(found))
    loss, found = page["train_step"].python_function(images, labels), step.update(images, labels)
    np.testing.assert_allclose(loss, found["loss"], rtol=1e-5)
    for name, gradient in zip(step.names, found["gradients"], strict=True):
        np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=1e-5, err_msg=name)
    assert max(np.abs(gradient).max() for gradient in gradients.values()) > 1e-2
    assert_equal_variables(page, network)


def run(notebook, folder):
    """Executes a notebook in a kernel of its own; returns all that it has printed and the types of what it shows."""
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return printed, [kind for output in outputs if output.output_type != "stream" for kind in output.data]


def test_unet_by_hand_runs(tmp_path):
    printed, shown = run(shortened("unet_by_hand"), tmp_path)
    assert float(printed.rpartition("those of the package: ")[2]) < 1e-4
    assert "image/png" in shown


@pytest.mark.slow
def test_what_the_curves_say_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    printed, shown = run(shortened("what_the_curves_say"), tmp_path)
    assert "13 masks of 64 look inverted" in printed
    assert shown.count("text/html") == 7 and "image/png" in shown
    assert [path.name[:7] for path in tmp_path.iterdir()] == ["curves-"]  # all that it writes


@pytest.mark.slow
def test_your_own_data_runs(tmp_path):
    printed, shown = run(shortened("your_own_data"), tmp_path)
    assert "good to train on" in printed and "wrote masks of 64 images" in printed
    assert shown.count("image/png") == 4
