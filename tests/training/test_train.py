"""A training as a whole, from Python and by the command: what it writes, that it repeats itself, what it refuses."""

import contextlib
import errno
import io
import json
import shlex
import shutil
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, on_disk, sentence
from kill_and_resume import assert_same_training, history, told
from PIL import Image
from skimage.measure import label

import unet_lowlevel
from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli.cross_validate import main as cross_validate
from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.main import main as unet_lowlevel_command
from unet_lowlevel.cli.train import main, report, to_predict
from unet_lowlevel.data import storage
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.phantoms import phantom
from unet_lowlevel.errors import NothingFound, UserError
from unet_lowlevel.inference.best_thresholds import store_thresholds
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.separation import Separation, read_separation
from unet_lowlevel.inference.threshold import read_threshold
from unet_lowlevel.training.history import kept_epoch, read_history
from unet_lowlevel.training.interruption import Stopped
from unet_lowlevel.training.summaries import FOLDERS
from unet_lowlevel.training.train import nothing_found, resumed, with_default_data

# What TINY says, for Python; and what `tiny_run` has beside it.
SETTINGS = {"base_channels": 2, "depth": 2, "epochs": 2, "batch_size": 4, "group_regex": "patient-\\d+"}
SETTINGS |= {"threshold": 0.2, "plan": "off"}
AVERAGED = {"ema_decay": 0.5}
# The two training loops; highlevel has that of lowlevel.
LOOPS = ["lowlevel", "keras"]
ONE_QUICKLY = ["lowlevel", pytest.param("keras", marks=pytest.mark.slow)]


def stop_at_step(*wanted):
    """An `on_step` that ends a training after any of these steps."""
    return lambda step, loss: signal.raise_signal(signal.SIGTERM) if step in wanted else None


def test_run_folder_has_everything(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    written = {"config.json", "split.json", "plan.json", "history.csv", "model_card.md", "model_card.json"}
    assert names == {*written, "checkpoints", "best", *FOLDERS}
    plan = json.loads((tiny_run / "plan.json").read_text())
    assert plan["plan"] == [] and plan["fingerprint"]["images"] == 12 and plan["fingerprint"]["groups"] == 4
    content = json.loads((tiny_run / "config.json").read_text())
    assert content["model"]["in_channels"] == 1 and content["training"]["crop_size"] == 32
    assert content["run"]["versions"]["tensorflow"] == tf.__version__ and len(content["run"]["data_fingerprint"]) == 64
    split = json.loads((tiny_run / "split.json").read_text())
    patients = [{stem[:11] for stem in split[part]} for part in ("training", "validation")]
    assert len(split["training"]) == 9 and len(split["validation"]) == 3 and not patients[0] & patients[1]


def test_a_planned_training_keeps_what_is_given_and_can_be_repeated(phantoms, tmp_path, capsys):
    """Its plan is printed and written, and what --minutes has decided is stored as numbers."""
    given = ["--base-channels", "2", "--depth", "2", "--batch-size", "4", "--epochs", "2", "--threshold", "0.1"]
    flags = ["--data", str(phantoms), "--group-regex", "patient-\\d+", *given]
    assert main(["--run", str(tmp_path / "run"), *flags, "--minutes", "0.01"]) in (0, 1)
    config, _, _ = run_folder.read(tmp_path / "run")
    written = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    chosen = {choice["setting"]: choice["value"] for choice in written}
    assert {name: settings.value_of(config, name) for name in chosen} == chosen
    assert not {"base_channels", "depth", "batch_size", "epochs"} & chosen.keys()
    assert chosen["ema_decay"] == 0.998 and chosen["crop_size"] == 32 and chosen["steps_per_epoch"] >= 1
    output = capsys.readouterr().out
    assert "planned for this data" in output and f"steps_per_epoch {chosen['steps_per_epoch']}: 0.01 minutes" in output
    assert main(["--run", str(tmp_path / "again"), "--config", str(tmp_path / "run" / "config.json")]) in (0, 1)
    assert_same_training(tmp_path / "run", tmp_path / "again")
    assert "planned for" not in capsys.readouterr().out


def test_the_same_command_twice_gives_the_same_bits(tiny_run, phantoms, tmp_path):
    again = tmp_path / "again"
    assert main(["--run", str(again), "--data", str(phantoms), "--ema-decay", "0.5", *TINY]) == 0
    assert_same_training(tiny_run, again)


def test_python_trains_as_the_command_does(tiny_run, phantoms, tmp_path):
    """The same run folder to the bit, of which only times differ."""
    run, seen = tmp_path / "runs" / "mine", []
    config = unet_lowlevel.Config.of(data=str(phantoms), **SETTINGS, **AVERAGED)
    kept = unet_lowlevel.train(config, str(run), on_step=lambda step, loss: seen.append((step, loss)))
    assert_same_training(tiny_run, run)
    assert told(run) == told(tiny_run)
    assert {path.name for path in run.iterdir()} == {path.name for path in tiny_run.iterdir()}
    for name in ("config.json", "split.json"):
        assert (run / name).read_bytes() == (tiny_run / name).read_bytes()
    rows = read_history(run / "history.csv")
    assert kept == kept_epoch(run)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6] and seen[-1][1] == rows[-1]["train_loss"]


def test_python_goes_on_with_the_same_config(tiny_run, phantoms, tmp_path):
    """Although the run has settled what the configuration leaves to the data."""
    run = tmp_path / "run"
    config = unet_lowlevel.Config.of(data=str(phantoms), **SETTINGS, **AVERAGED)
    with pytest.raises(Stopped, match="SIGTERM after step 4"):
        unet_lowlevel.train(config, run, on_step=stop_at_step(4))
    kept = unet_lowlevel.train(config, str(run), resume=True)
    assert_same_training(tiny_run, run)
    assert kept == read_history(run / "history.csv")[kept["epoch"] - 1]


def test_python_goes_on_with_what_was_planned(tiny_run, phantoms):
    """The planned number of epochs stays, unless another one is given."""
    planned = run_folder.read(tiny_run)[0].training.epochs
    assert planned != unet_lowlevel.Config().training.epochs
    network = {name: value for name, value in SETTINGS.items() if name not in ("epochs", "plan")} | AVERAGED
    for given, epochs in (({}, planned), ({"epochs": 99}, 99)):
        config = unet_lowlevel.Config.of(data=str(phantoms), **network, **given)
        assert resumed(config, tiny_run, "lowlevel")[0].training.epochs == epochs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 3}, "--depth 2, not 3"),
        ({"momentum": 0.5}, "--momentum 0.9, not 0.5"),
        ({"loss": "dice"}, "--loss dice_cross_entropy, not dice"),
        ({"ema_decay": 0.0}, "--ema-decay 0.5, not 0.0"),
        ({"flips": False}, "--flips True, not False"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"plain": True}, "--plain False, not True"),
        ({"group_regex": ""}, None),
        ({"group_regex": r"\d+"}, r"--group-regex patient-\d+, not \d+"),
        ({"in_channels": 1, "crop_size": 32}, None),
        ({"in_channels": 3}, "--in-channels 1, not 3"),
        ({"crop_size": 64}, "--crop-size 32, not 64"),
        ({"data": "elsewhere"}, "not elsewhere"),
        ({"data": ""}, None),
        ({"epochs": 3, "stream": True, "learning_rate": 0.01, "clip_norm": 1.0}, None),
    ],
)
def test_another_config_than_the_runs_is_refused(changes, words, tiny_run, phantoms, monkeypatch):
    """By the name of the setting, unless a training that goes on may change it, or has settled it."""
    reached = []

    def no_further(data):
        reached.append(data.data)
        raise UserError("The data is read next.")

    monkeypatch.setattr("unet_lowlevel.training.train.find_pairs", no_further)
    config = unet_lowlevel.Config.of(data=str(phantoms), **SETTINGS, **AVERAGED)
    before = on_disk(tiny_run)
    with pytest.raises(UserError) as caught:
        unet_lowlevel.train(settings.apply(config, changes), tiny_run, resume=True)
    sentence(caught, *([tiny_run, "was begun with", words, "own settings"] if words else ["is read next"]))
    assert reached == ([] if words else [str(phantoms)])
    assert on_disk(tiny_run) == before


def test_learning_one_batch_goes_on_with_the_same_config(phantoms, tmp_path):
    """Although it has done without what is random in it."""
    config = unet_lowlevel.Config.of(
        data=str(phantoms), **SETTINGS | {"threshold": 0.0}, overfit_one_batch=True, dropout_rate=0.2
    )
    changes = {"epochs": 1, "schedule": "constant", "steps_per_epoch": 0, "learning_rate": 0.1}
    unet_lowlevel.train(settings.apply(config, changes), tmp_path / "run")
    unet_lowlevel.train(settings.apply(config, changes | {"epochs": 2}), tmp_path / "run", resume=True)
    assert [row["step"] for row in history(tmp_path / "run")] == ["20", "40"]
    assert not (tmp_path / "run" / "threshold.json").exists()  # it is no network to predict with
    with pytest.raises(UserError) as caught:
        unet_lowlevel.train(settings.apply(config, changes | {"steps_per_epoch": 5}), tmp_path / "run", resume=True)
    sentence(caught, "--steps-per-epoch 20, not 5")
    with pytest.raises(UserError) as caught:
        ordinary = settings.apply(config, changes | {"overfit_one_batch": False})
        unet_lowlevel.train(ordinary, tmp_path / "run", resume=True)
    sentence(caught, "--overfit-one-batch True, not False")


@pytest.mark.parametrize("implementation", ONE_QUICKLY)
def test_from_files_the_training_is_the_same_bit_for_bit(phantoms, tmp_path, implementation):
    """Its second half comes from files, for a machine with less memory.

    The images are half as large a side; what they score in the training they score in the evaluation.
    """
    flags = ["--data", str(phantoms), *TINY, "--schedule", "constant", "--resolution", "0.5", "--learning-rate", "0.1"]
    memory, both = tmp_path / "memory", tmp_path / "both"
    assert main(["--run", str(memory), *flags], implementation) == 0
    assert main(["--run", str(both), *flags], implementation, stop_at_step(3)) == 128 + signal.SIGTERM
    assert main(["--run", str(both), "--resume", "--stream"], implementation) == 0
    assert_same_training(memory, both)
    assert {path.name for path in both.iterdir()} == {path.name for path in memory.iterdir()}
    assert run_folder.read(memory)[0].training.crop_size == 16
    kept, scores = kept_epoch(memory), unet_lowlevel.evaluate(memory, tmp_path / "scores")
    for name in ("dice", "iou", "mean_iou"):
        assert scores[name] == pytest.approx(
            kept[f"validation_{name}"], abs=1e-9 if implementation != "keras" else 1e-3
        )
    assert 0 < scores["dice"] < 1


def test_bad_data_leaves_no_run_folder(phantoms, tmp_path, capsys):
    run = tmp_path / "runs" / "one"
    assert main(["--run", str(run), "--data", str(phantoms), *TINY, "--stream", "--in-channels", "3"]) == 2
    assert "--in-channels is 3" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["--run", "runs/mine"], []])
@pytest.mark.parametrize("command", [main, cross_validate])
def test_of_two_at_once_in_one_new_folder_one_trains(command, flags, tmp_path, monkeypatch, capsys):
    """Held to the moment before they read their data, where both have begun; without --run each has its own folder."""
    monkeypatch.chdir(tmp_path)
    read, together = [], threading.Barrier(2)

    def reads(_):
        read.append(list(Path("runs").glob("*")))
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        raise UserError("The data is read: look.")

    for module in ("training.train", "inference.cross_validation"):
        monkeypatch.setattr(f"unet_lowlevel.{module}.find_pairs", reads)
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(command, [["--data", "data", *flags]] * 2))
    error = capsys.readouterr().err
    assert codes == [2, 2] and error.count("\n") == 2
    if flags:
        assert len(read) == 1 and "--run runs/mine is in use by another training" in error
    else:
        assert len(read) == 2 and "in use" not in error and len(max(read, key=len)) == 2
    # Empty, it stays if the one has made it and the other, which came when it was there, was faster to lock it.
    assert not any((tmp_path / "runs").glob("*/*"))


def test_a_training_ends_though_nobody_listens(tiny_run, phantoms, tmp_path, monkeypatch):
    """As when `| tee log` was killed."""

    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Broken())
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), "--ema-decay", "0.5", *TINY]) == 0
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms)]) == 2
    assert_same_training(tiny_run, tmp_path / "run")


def test_bad_data_leaves_an_empty_folder_of_the_user(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for _ in range(2):
        assert main(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "none")]) == 2
        assert "--data" in capsys.readouterr().err and list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_phantoms_that_another_training_has_drawn_meanwhile_are_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write = phantom.write_phantoms

    def late(folder, *_, **options):
        write(folder, 1, (32, 32), 1, 0)
        write(folder, 1, (32, 32), 1, 0)

    monkeypatch.setattr(phantom, "write_phantoms", late)
    assert with_default_data(unet_lowlevel.Config()).data.data == "data/phantoms"
    assert capsys.readouterr().out == ""


def test_phantoms_that_are_drawn_are_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(phantom, "write_phantoms", lambda folder, **_: folder.mkdir(parents=True))
    for _ in range(2):
        with_default_data(unet_lowlevel.Config())
    assert capsys.readouterr().out == "drew 160 phantoms into data/phantoms\n"


def test_interrupted_while_reading_there_is_nothing_to_go_on_with(phantoms, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "with_normalization", interrupt)
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), *TINY, "--stream"]) == 130
    assert "--resume" not in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_resume_without_a_checkpoint_starts_anew(tiny_run, tmp_path):
    config, run, split = run_folder.read(tiny_run)
    torn = tmp_path / "torn"
    torn.mkdir()
    run_folder.create(torn, config, split["training"], split["validation"], run["data_fingerprint"])
    assert main(["--run", str(torn), "--resume"]) == 0
    assert_same_training(tiny_run, torn)


def test_more_epochs_extend_a_finished_training(phantoms, tmp_path):
    """With a constant learning rate, 1 epoch and 1 more are the same as 2."""
    flags = ["--data", str(phantoms), *TINY, "--schedule", "constant"]
    assert main(["--run", str(tmp_path / "whole"), *flags, "--epochs", "2"]) == 0
    assert main(["--run", str(tmp_path / "grown"), *flags, "--epochs", "1"]) == 0
    assert main(["--run", str(tmp_path / "grown"), "--resume", "--epochs", "2"]) == 0
    assert_same_training(tmp_path / "whole", tmp_path / "grown")


@pytest.fixture
def labelled(phantoms, tmp_path):
    """The phantoms with instance labels, and the flags that train on them for a weight map."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    (data / "instances").mkdir()
    for path in (data / "masks").iterdir():
        numbers = label(read_image(path)[..., 0] > 0, connectivity=1)
        Image.fromarray(numbers.astype(np.uint16)).save(data / "instances" / path.name)
    return data, ["--data", str(data), *TINY, "--weight-map", "--loss", "cross_entropy"]


def test_a_training_with_instance_labels_ends_with_the_choice_of_thresholds(labelled, tmp_path, capsys):
    """It is that of `evaluate --choose-thresholds`; a resumed training chooses anew, with the same result."""
    run = tmp_path / "run"
    assert main(["--run", str(run), *labelled[1], "--learning-rate", "0.1", "--threshold", "0"]) == 0
    printed = capsys.readouterr().out
    assert "choosing on held-out images the threshold of the mask and the thresholds that separate objects" in printed
    mask = read_threshold(run)
    assert f"threshold of the mask: {mask:g}, " in printed and load(run).config.training.threshold == mask > 0
    stored = (run / "instances.json").read_bytes()
    assert json.loads(stored)["border"] == 1 and load(run).separation == read_separation(run)
    for change in ("{}", None):
        for name in ("instances.json", "threshold.json"):
            (run / name).unlink() if change is None else (run / name).write_text(change)
        assert main(["--run", str(run), "--resume"]) == 0
        assert (run / "instances.json").read_bytes() == stored and read_threshold(run) == mask
    (run / "instances.json").unlink()
    assert load(run).separation == Separation(border=1)
    flags = ["--run", str(run), "--scores", "instances", "--choose-thresholds", "--output", str(tmp_path / "scores")]
    assert evaluate(flags) == 0
    assert (run / "instances.json").read_bytes() == stored


def test_without_instance_labels_no_thresholds_are_chosen(tiny_run, labelled, tmp_path, capsys):
    """Nor where they cannot be used: the training is finished all the same, and says why."""
    assert not (tiny_run / "instances.json").exists()
    run, data = shutil.copytree(tiny_run, tmp_path / "run"), labelled[0]
    for path in (data / "instances").iterdir():
        Image.fromarray(np.zeros((5, 5), np.uint16)).save(path)
    config = json.loads((run / "config.json").read_text())
    config["data"]["data"] = str(data)
    (run / "config.json").write_text(json.dumps(config))
    store_thresholds(run)
    assert "no thresholds were chosen: " in capsys.readouterr().err
    assert not (run / "instances.json").exists()


@pytest.mark.parametrize("implementation", ONE_QUICKLY)
def test_a_training_that_diverged_goes_on_more_carefully(implementation, phantoms, tmp_path, capsys):
    """From the last checkpoint, with the remedies that the message names."""
    run = tmp_path / "run"
    flags = ["--data", str(phantoms), *TINY, "--optimizer", "sgd", "--schedule", "constant", "--no-batch-normalization"]
    assert main(["--run", str(run), *flags, "--epochs", "1"], implementation) == 0
    again = ["--run", str(run), "--resume", "--epochs", "2"]
    before = on_disk(run / "checkpoints"), on_disk(run / "best"), history(run)
    assert main([*again, "--learning-rate", "1e30"], implementation) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "are as they were" in error
    assert "lower --learning-rate or set --clip-norm 1 (train takes both also with --resume)" in error
    assert before == (on_disk(run / "checkpoints"), on_disk(run / "best"), history(run))
    assert main([*again, "--learning-rate", "1e-4", "--clip-norm", "1"], implementation) == 0
    assert [float(row["learning_rate"]) for row in history(run)] == pytest.approx([1e-3, 1e-4])


def test_a_jump_of_the_learning_rate_is_told(tiny_run, tmp_path, capsys):
    """Only where there is one."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    jumps = "note: the learning rate was 1e-05 in the last step and goes on at 0.000435: with --epochs 4 and"
    for flags, jump in ([], False), (["--epochs", "1"], False), (["--epochs", "4"], True), (["--epochs", "4"], False):
        assert main(["--run", str(run), "--resume", *flags]) == 0
        error = capsys.readouterr().err
        assert (jumps in error) == ("note: " in error) == jump


def test_a_jump_within_an_epoch_is_told(phantoms, tmp_path, capsys):
    """From the rate of the last step, whatever its epoch."""
    run = tmp_path / "run"
    begin = ["--data", str(phantoms), *TINY, "--schedule", "constant"]
    for flags in (begin, ["--resume", "--learning-rate", "0.01"]):
        assert main(["--run", str(run), *flags], on_step=stop_at_step(1, 4)) == 128 + signal.SIGTERM
    assert "was 0.001 in the last step and goes on at 0.01: with" in capsys.readouterr().err
    assert main(["--run", str(run), "--resume"]) == 0
    assert "was 0.01 in the last step and goes on at 0.001: with" in capsys.readouterr().err
    assert history(run)[-1]["learning_rate"] == str(float(np.float32(0.001)))


def test_a_stopped_training_says_with_which_settings_it_goes_on(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    again = ["--run", str(run), "--resume", "--epochs", "4", "--learning-rate", "0.0001", "--stream"]
    assert main(again, on_step=stop_at_step(7)) == 128 + signal.SIGTERM
    assert "--resume --epochs 4 --learning-rate 0.0001 --stream\n" in capsys.readouterr().err.replace(" \\\n     ", "")


def test_changed_data_is_noticed_on_resume(place, capsys):
    path = place / "run" / "config.json"
    config = json.loads(path.read_text())
    config["data"]["data"] = str(place / "data")
    path.write_text(json.dumps(config))
    again = ["--run", "run", "--resume", "--epochs", "3"]
    assert main(again, on_step=stop_at_step(7)) == 128 + signal.SIGTERM  # elsewhere, it is the same data
    one, other = sorted((place / "data" / "images").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    assert main(again) == 2
    assert "has changed" in capsys.readouterr().err


def test_overfitting_one_batch(phantoms, tmp_path, capsys):
    flags = ["--data", str(phantoms), "--base-channels", "4", "--depth", "3", "--batch-size", "3", "--epochs", "5"]
    flags += ["--learning-rate", "0.01", "--overfit-one-batch"]
    assert main(["--run", str(tmp_path / "run"), *flags]) == 0
    output, error = capsys.readouterr()
    assert "one batch was learned by heart" in output and "predict" not in output and "tensorboard.main" in output
    assert "both sides" not in error  # of a split, where nothing is split
    lazy = ["--learning-rate", "0", "--stream", "--epochs", "1"]
    assert main(["--run", str(tmp_path / "lazy"), *flags, *lazy]) == 0
    assert "one batch was not learned by heart" in capsys.readouterr().out


def test_the_commands_at_the_end_run_as_they_are_printed(place, phantoms, capsys, monkeypatch):
    """Score, predict and look. A network for the default phantoms has new ones to predict, of their size."""
    shutil.copytree(phantoms, "data/phantoms")
    settings_of_run = json.loads(Path("run/config.json").read_text())
    settings_of_run["data"]["data"] = "data/phantoms"
    Path("run/config.json").write_text(json.dumps(settings_of_run))
    monkeypatch.setattr("sys.argv", ["unet_lowlevel/__main__.py"])
    printed = []
    for _ in range(2):
        report(Path("run"), dict.fromkeys(["epoch", "validation_dice", "validation_iou", "validation_mean_iou"], 0))
        lines = capsys.readouterr().out.replace(" \\\n", "").splitlines()
        printed.append([shlex.split(line)[3:] for line in lines if line.startswith("  ")])
        if len(printed) == 1:
            assert [unet_lowlevel_command(command) for command in printed[0][:-1]] == [0, 0, 0]
            capsys.readouterr()
    first, again = printed
    assert [command[0] for command in first] == ["evaluate", "phantoms", "predict", "--logdir"]
    assert again == [first[0], *first[2:]]  # the new phantoms are there
    assert read_image(Path("data/new_phantoms/images/patient-001_slice-07.png")).shape == (128, 128, 1)
    names = {path.name for path in Path("predictions/run").iterdir()}
    assert len(names) == 32 and "patient-001_slice-07_overlay.png" in names
    assert Path("scores/run/pictures.png").is_file()


def test_other_data_is_predicted_from_a_folder_of_ones_own(tiny_run):
    text = to_predict(run_folder.read(tiny_run)[0], [tiny_run], "tiny")
    assert "phantoms" not in text and "--images new_images" in text and "--overlays" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--batch-size", "10"],
            "--batch-size 10 is more than the 9 images to train on: every epoch is one step, of all",
        ),
        (["--batch-size", "10", "--steps-per-epoch", "1"], "every step takes images several times"),
        (["--batch-size", "9"], None),
    ],
)
def test_a_batch_larger_than_the_data_is_noted(flags, words, phantoms, tmp_path, capsys):
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), *TINY, "--epochs", "1", *flags]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == (1 if words else 0) and (not words or words in notes[0])
    assert history(tmp_path / "run")[0]["step"] == "1"


def test_paper_preset_trains(phantoms, tmp_path):
    """The paper's settings, at a size for tests: valid padding with mirrored surroundings, two classes."""
    flags = ["--preset", "paper", "--base-channels", "2", "--depth", "3", "--crop-size", "60", "--epochs", "1"]
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), *flags]) == 0
    assert np.isfinite(float(history(tmp_path / "run")[0]["validation_loss"]))


@pytest.mark.parametrize("implementation", ONE_QUICKLY)
def test_a_network_that_finds_no_foreground_is_no_result(implementation, phantoms, tmp_path, capsys):
    """In three steps from outputs that are all background; the run folder stays for its curves, and can go on."""
    run, flags = tmp_path / "run", ["--data", str(phantoms), *TINY, "--epochs", "1", "--schedule", "constant"]
    assert main(["--run", str(run), *flags, "--threshold", "0"], implementation) == 1
    printed = capsys.readouterr()
    assert "Dice 0.0000" in printed.out and "best epoch" not in printed.out and "predict:" not in printed.out
    (error,) = printed.err.splitlines()
    assert error.startswith(f"error: {run} is no result, because its network finds none of the foreground in ")
    for words in ("validation Dice 0 in its best epoch, 1", "--learning-rate than 0.001", "--epochs", "masks"):
        assert words in error
    assert len(history(run)) == 1 and (run / "best" / "checkpoint").exists()
    assert not (run / "threshold.json").exists()
    again = ["--run", str(run), "--resume", "--epochs", "8", "--learning-rate", "0.1"]
    assert main(again, implementation) == 0
    assert float(history(run)[-1]["validation_dice"]) > 0 and (run / "threshold.json").exists()


def test_python_raises_where_no_foreground_is_found(phantoms, tmp_path):
    config = unet_lowlevel.Config.of(data=str(phantoms), **SETTINGS | {"threshold": 0.5, "epochs": 1, "keep": "last"})
    with pytest.raises(NothingFound) as caught:
        unet_lowlevel.train(config, tmp_path / "run")
    sentence(caught, tmp_path / "run", "in its last epoch, 1")
    assert isinstance(caught.value, UserError) and len(history(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    ("classes", "labels", "dice", "iou", "nothing"),
    [
        (1, {0, 1}, 0.0, 0.0, True),
        (1, {0, 1}, 0.1, 0.05, False),
        (1, {0}, 1.0, 1.0, False),  # there is none to be found
        (1, {0}, 0.0, 0.0, False),  # too much was found
        (1, {0, 1}, 1.0, 1.0, False),
        (3, {0, 1}, 0.5, 0.5, True),  # class 2 is neither there nor predicted, which scores 1
        (3, {0, 1, 2}, 0.5, 0.5, False),  # one class is found exactly, one not at all
        (3, {0, 1, 2}, 0.0, 0.0, True),
        (3, {0, 1}, 0.5, 0.4, False),
        (3, {0}, 1.0, 1.0, False),
    ],
)
def test_what_finding_nothing_is(classes, labels, dice, iou, nothing):
    kept = {"epoch": 4, "validation_dice": dice, "validation_iou": iou}
    trainer = SimpleNamespace(
        config=unet_lowlevel.Config.of(classes=classes),
        run=Path("run"),
        validation=[SimpleNamespace(truth=np.array([[label, 0]])) for label in labels],
        journal=SimpleNamespace(kept=lambda: kept),
    )
    assert (nothing_found(trainer) is not None) == nothing
