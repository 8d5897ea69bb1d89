"""Settings and run folders that are damaged, of another network or of another version: refused in one sentence.

Each refusal is tested where it is raised; that commands make an exit code of it, for one or two of each.
"""

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from conftest import on_disk, refused, sentence

from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli import cross_validate, evaluate, export, predict, train
from unet_lowlevel.core import fast
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.evaluation import evaluate as evaluation
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.training.checkpoints import Checkpoints, Progress, by_name
from unet_lowlevel.training.journal import Journal
from unet_lowlevel.training.steps import train_step
from unet_lowlevel.training.train import train as training

SETTINGS = [
    ("no JSON", "model: depth: 3", ["not readable as JSON"]),
    ("empty", "", ["not readable as JSON"]),
    ("torn", '{"model": {"depth": 3', ["not readable as JSON"]),
    ("no text", b"\xff\xfe{\0}\0", ["not readable as JSON"]),
    ("deep", "[" * 100_000, ["not readable as JSON"]),
    ("endless number", '{"model": {"depth": ' + "9" * 5000 + "}}", ["not readable as JSON"]),
    ("list", "[1, 2]", ["no JSON object"]),
    ("section no object", '{"model": [3]}', ["[3]", "section 'model'"]),
    ("unknown section", '{"modell": {}}', ["'modell'", "model, loss"]),
    ("unknown key", '{"model": {"deepth": 3}}', ["model.deepth", "depth"]),
    ("of a later version", '{"model": {"attention": true}}', ["model.attention", "depth"]),
    ("long key", json.dumps({"x" * 10**6: {}}), ["xxx...xxx", "unknown section"]),
    ("key of two lines", '{"model": {"a\\nb": 1}}', [r"model.a\nb"]),
    ("text for a number", '{"model": {"depth": "3"}}', ["model.depth", "'3'", "whole number"]),
    ("fraction", '{"model": {"depth": 3.5}}', ["model.depth", "3.5", "whole number"]),
    ("true for a number", '{"training": {"epochs": true}}', ["training.epochs", "True", "whole number"]),
    ("number for a switch", '{"augmentation": {"augment": 1}}', ["augmentation.augment", "true or false"]),
    ("number for a text", '{"data": {"data": 7}}', ["data.data", "7", "a text"]),
    ("list for a text", '{"data": {"data": ["a", "b"]}}', ["data.data", "a text"]),
    ("nested for a number", '{"model": {"depth": ' + '{"a": ' * 500 + "1" + "}" * 502, ["model.depth", "..."]),
    ("too small", '{"training": {"batch_size": 0}}', ["training.batch_size in c.json is 0", "at least 1"]),
    ("negative", '{"training": {"epochs": -3}}', ["training.epochs", "-3", "at least 1"]),
    ("too large", '{"model": {"depth": 99}}', ["model.depth", "99", "at most 8"]),
    ("huge", '{"training": {"epochs": 1' + "0" * 400 + "}}", ["training.epochs", "whole number"]),
    ("huge fraction", '{"optimizer": {"learning_rate": 1e999}}', ["optimizer.learning_rate", "inf"]),
    ("NaN", '{"optimizer": {"learning_rate": NaN}}', ["optimizer.learning_rate", "nan"]),
    ("half a character", '{"data": {"data": "a\\ud800"}}', ["data.data", "UTF-8"]),
    ("zero character", '{"data": {"data": "a\\u0000b"}}', ["data.data", "UTF-8"]),
    ("unknown choice", '{"loss": {"loss": "import os"}}', ["loss.loss", "'import os'", "dice"]),
    ("weights of 3 classes", '{"loss": {"class_weights": [1, 2, 3]}}', ["--class-weights has 3"]),
    ("negative weights", '{"loss": {"class_weights": [1, -2]}}', ["loss.class_weights", "-2"]),
]


@pytest.mark.parametrize(("content", "words"), [row[1:] for row in SETTINGS], ids=[row[0] for row in SETTINGS])
def test_settings(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = on_disk(tmp_path)
    with pytest.raises(UserError) as caught:
        settings.resolve(file="c.json")
    message = sentence(caught, *words)
    assert message.isprintable() and len(message) < 2000
    assert on_disk(tmp_path) == before


def text(name, content):
    """Replaces a file of the run."""
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def shorter(pattern):
    """Cuts the files of the run that match `pattern` to their first half."""

    def change(run):
        for path in run.glob(pattern):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def without(pattern):
    def change(run):
        for path in run.glob(pattern):
            path.unlink()

    return change


def setting(section, name, value):
    def change(run):
        content = json.loads((run / "config.json").read_text())
        content[section][name] = value
        (run / "config.json").write_text(json.dumps(content))

    return change


def other_names(run):
    """Best weights as another version might have called them."""
    config, *_ = run_folder.read(run)
    variables = {f"{name}/v2": variable for name, variable in UNet(config.model, seed=0).named_variables().items()}
    shutil.rmtree(run / "best")
    tf.train.CheckpointManager(tf.train.Checkpoint(variables=variables), str(run / "best"), max_to_keep=1).save(1)


def named(name):
    return lambda run: (run / "best" / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')


RUNS = [
    ("empty config", text("config.json", ""), ["config.json", "not readable as JSON"]),
    ("torn config", shorter("config.json"), ["config.json", "not readable as JSON"]),
    ("config of a later version", setting("model", "attention", True), ["config.json", "model.attention"]),
    ("config without channels", setting("model", "in_channels", 0), ["config.json", "model.in_channels 0"]),
    ("torn split", shorter("split.json"), ["split.json", "not readable as JSON"]),
    ("empty split", text("split.json", '{"training": [], "validation": []}'), ["split.json", "does not list"]),
    ("no split", without("split.json"), ["split.json does not exist"]),
    ("no weights", lambda run: shutil.rmtree(run / "best"), ["best holds no checkpoint"]),
    ("torn index", shorter("best/*.index"), ["best", "restore the run folder"]),
    ("empty index", lambda run: [p.write_bytes(b"") for p in run.glob("best/*.index")], ["best", "restore the run"]),
    ("torn weights", shorter("best/*.data-*"), ["best", "restore the run folder"]),
    ("lost index", without("best/*.index"), ["best/checkpoint", "lost"]),
    ("lost weights", without("best/*.data-*"), ["best", "restore the run folder"]),
    ("empty note", text("best/checkpoint", ""), ["best/checkpoint is damaged"]),
    ("torn note", shorter("best/checkpoint"), ["best/checkpoint is damaged"]),
    ("binary note", text("best/checkpoint", b"\xff\0\xfe" * 30), ["best/checkpoint is damaged"]),
    ("note of nothing", named("ckpt-77"), ["best/checkpoint", "lost"]),
    ("note of elsewhere", named("../checkpoints/ckpt-6"), ["best/checkpoint names", "elsewhere"]),
    ("deeper network", setting("model", "depth", 3), ["does not fit this network"]),
    ("shallower network", setting("model", "depth", 1), ["does not fit this network"]),
    ("wider network", setting("model", "base_channels", 3), ["does not fit this network"]),
    ("more classes", setting("model", "classes", 4), ["does not fit this network"]),
    ("no batch normalization", setting("model", "batch_normalization", False), ["does not fit this network"]),
    ("other kernels", setting("model", "kernel_size", 5), ["does not fit this network"]),
    ("other version", other_names, ["does not fit this network"]),
]
# What the commands that use a run call.
CALLS = {
    "predict": load,
    "evaluate": lambda run: evaluation(run, "out"),
    "export": functools.partial(load, network=KerasUNet),
}


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    """A finished run in run/ of the current folder, whose data lie elsewhere."""
    shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def refuses(work, words) -> None:
    """Asserts that a call is refused in a sentence, and changes nothing in the current folder."""
    before = on_disk(Path.cwd())
    with pytest.raises(UserError) as caught:
        work()
    message = sentence(caught, *words)
    assert message.isprintable() and len(message) < 2000
    assert on_disk(Path.cwd()) == before


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("change", "words"), [row[1:] for row in RUNS], ids=[row[0] for row in RUNS])
def test_runs_to_use(change, words, call, run):
    change(run)
    refuses(lambda: call(run), words)


@functools.cache
def network_and_step(config):
    """What a training of a run has in memory; a run that is refused is not in need of its own."""
    model = fast.network(config.model, seed=0)
    return model, train_step(model, config, (32, 32), 6)


def hostile_state(**values):
    """Puts `values` into the newest state of a run, in place of what the training has noted of itself."""

    def change(run):
        model, memory = network_and_step(run_folder.read(run)[0])
        progress = Progress()
        state = Checkpoints(run, 1, model=model, memory=memory, progress=progress)
        state.newest.restore()
        for name, value in values.items():
            getattr(progress, name).assign(value)
        shutil.rmtree(run / "checkpoints")
        Checkpoints(run, 1, model=model, memory=memory, progress=progress).newest.save(6)

    return change


def old_note(run):
    note = run / "checkpoints" / "checkpoint"
    note.write_text(note.read_text() + 'all_model_checkpoint_paths: "../../mine/ckpt-1"\n')


# What is refused before the training has built its network, or because of that.
RESUMED = [
    ("deeper network", setting("model", "depth", 3), ["does not fit this network"]),
    ("another optimizer", setting("optimizer", "optimizer", "sgd"), ["does not fit this network"]),
    ("no averages", setting("optimizer", "ema_decay", 0.0), ["does not fit this network"]),
    ("other images", text("split.json", '{"training": ["a"], "validation": ["b"]}'), ["split.json names a, b"]),
    ("of another trainer", setting("run", "implementation", "keras"), ["not made by train_lowlevel.py"]),
    ("other data", setting("run", "data_fingerprint", "0"), ["The data of run has changed"]),
    ("a link", lambda run: (run / "train" / "more").symlink_to("/tmp"), ["run/train/more is a link"]),
]  # fmt: skip
# What the journal refuses.
STATES = [
    ("torn state", shorter("checkpoints/*.data-*"), ["checkpoints", "restore the run folder"]),
    ("torn index", shorter("checkpoints/*.index"), ["checkpoints", "restore the run folder"]),
    ("lost state", without("checkpoints/*.index"), ["checkpoints/checkpoint", "lost"]),
    ("empty note", text("checkpoints/checkpoint", ""), ["checkpoints/checkpoint is damaged"]),
    ("old states elsewhere", old_note, ["checkpoints/checkpoint names", "mine/ckpt-1", "elsewhere"]),
    ("best elsewhere", named("../../mine/ckpt-1"), ["best/checkpoint", "restore the run folder"]),
    ("no history", without("history.csv"), ["history.csv", "restore the file"]),
    ("short history", lambda run: text("history.csv", (run / "history.csv").read_text().splitlines()[0] + "\n")(run),
     ["history.csv has 0 epochs", "the checkpoint has 2"]),
    ("torn history", shorter("history.csv"), ["history.csv", "restore the file"]),
    ("endless history", text("history.csv", "epoch\n" + "9" * 200_000), ["history.csv", "field larger"]),
    ("history of another version", text("history.csv", "epoch,loss\n1,0.5\n2,0.4\n"), ["history.csv", "'step'"]),
    ("no tally", hostile_state(tally='{"steps": 3}'), ["checkpoints", "no training has saved"]),
    ("broken tally", hostile_state(tally="["), ["checkpoints", "no training has saved"]),
    ("best of never", hostile_state(best_epoch=9), ["checkpoints", "epoch 9 the best of 2"]),
    ("epochs to come", hostile_state(epoch=10**12), ["history.csv has 2 epochs", "the checkpoint has 1000000000000"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in RESUMED], ids=[row[0] for row in RESUMED])
def test_runs_to_resume(change, words, run):
    change(run)

    def go_on():
        config = settings.apply(run_folder.read(run)[0], {"epochs": 3})
        training(config, run, resume=True)

    refuses(go_on, words)


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_states_to_resume(change, words, run):
    change(run)
    config = run_folder.read(run)[0]
    refuses(lambda: Journal(config, run, *network_and_step(config), resume=True), words)


predict_by_keras = SimpleNamespace(__name__="predict_keras", main=lambda argv: predict.main(argv, by_keras=True))
USE = "--run run --images data/images --output out"
RESUME = "--run run --resume --epochs 3"
CASES = {name: (change, words) for rows in (RUNS, RESUMED, STATES) for name, change, words in rows}
BROKEN_SETTINGS = {name: (text("../c.json", content), words) for name, content, words in SETTINGS}
END_TO_END = [
    (train, "--data data --config c.json", BROKEN_SETTINGS, ["torn", "unknown key", "too small", "half a character"]),
    (cross_validate, "--data data --config c.json", BROKEN_SETTINGS, ["list"]),
    (predict, USE, CASES, ["torn config", "binary note", "deeper network"]),
    (predict_by_keras, USE, CASES, ["torn weights", "wider network"]),
    (evaluate, "--run run --data data --output out", CASES, ["torn split", "lost index", "more classes"]),
    (
        export,
        "--run run --format keras --output model.keras",
        CASES,
        ["config without channels", "note of elsewhere", "other version"],
    ),
    (
        export,
        "--run run --format saved_model --output model",
        {"other plan": (text("plan.json", '{"plan": [1]}'), ["run/plan.json does not hold the plan", "restore"])},
        ["other plan"],
    ),
    (train, RESUME, CASES, ["torn state", "best elsewhere", "another optimizer", "no history", "endless history"]),
    (train, RESUME, CASES, ["other images", "other data", "of another trainer", "a link", "epochs to come"]),
]


@pytest.mark.parametrize(
    ("command", "flags", "change", "words"),
    [(command, flags, *cases[name]) for command, flags, cases, names in END_TO_END for name in names],
    ids=[f"{command.__name__.split('.')[-1]}: {name}" for command, _, _, names in END_TO_END for name in names],
)
def test_commands_end_with_exit_code_2(command, flags, change, words, place, capfd):
    change(place / "run")
    refused(command, flags.split(), words, place, capfd)


def test_a_run_can_be_resumed_at_all(run):
    """What the cases above have changed is what they are refused for."""
    hostile_state()(run)
    assert train.main(RESUME.split()) == 0
    assert len((run / "history.csv").read_text().splitlines()) == 4


def test_weights_fit_under_their_names(place):
    """So does what `other_names` is refused for."""
    config, *_ = run_folder.read(place / "run")
    model = UNet(config.model, seed=0)
    shutil.rmtree(place / "run" / "best")
    tf.train.CheckpointManager(by_name(model), str(place / "run" / "best"), max_to_keep=1).save(1)
    assert predict.main(USE.split()) == 0
