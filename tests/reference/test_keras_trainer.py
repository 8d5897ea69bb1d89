"""The three trainings write one kind of run folder, resume exactly, and predict alike."""

import csv
import functools
import json
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from checked_data import change
from conftest import TINY, sentence
from kill_and_resume import assert_same_training, history
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import interrupt_in_epoch_two, samples, tiny_config
from untrained import untrained_run

from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli import evaluate, export, predict, train
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.files import read_image
from unet_lowlevel.errors import UserError
from unet_lowlevel.reference.keras_trainer import KerasTrainer
from unet_lowlevel.reference.keras_unet import KerasUNet
from unet_lowlevel.reference.weights import load_keras, read_keras
from unet_lowlevel.training.checkpoints import restore_best
from unet_lowlevel.training.summaries import FOLDERS

IMPLEMENTATIONS = ("lowlevel", "highlevel", "keras")


@pytest.fixture(scope="module")
def runs(phantoms, tmp_path_factory):
    """{implementation: run folder} of the same short training."""
    folder = tmp_path_factory.mktemp("three")
    for name in IMPLEMENTATIONS:
        assert train.main(["--run", str(folder / name), "--data", str(phantoms), *TINY, "--pictures", "4"], name) == 0
    return {name: folder / name for name in IMPLEMENTATIONS}


def tags(run):
    found = {}
    for part in FOLDERS:
        events = EventAccumulator(str(run / part))
        events.Reload()
        found[part] = set(events.Tags()["tensors"]), events.Tags()["graph"]
    return found


def test_run_folders_are_alike(runs):
    files = {name: {path.name for path in run.iterdir()} for name, run in runs.items()}
    assert files["highlevel"] == files["lowlevel"] and files["keras"] == files["lowlevel"] | {"best.keras"}
    for name, run in runs.items():
        content = json.loads((run / "config.json").read_text())
        assert content["run"]["implementation"] == name
        assert content["training"]["patience"] == (10 if name == "keras" else 0)
        assert (run / "split.json").read_bytes() == (runs["lowlevel"] / "split.json").read_bytes()


def test_tensorboard_tags_are_the_same(runs):
    """But for what lies within blocks of layers, and for what `fit` does not hand out."""
    expected = tags(runs["lowlevel"])
    assert len(expected["train"][0]) > 20 and expected["network"] == (set(), True)

    def without(*words):
        return {
            part: ({n for n in names if not any(w in n for w in words)}, graph)
            for part, (names, graph) in expected.items()
        }

    assert tags(runs["highlevel"]) == without("/activation_", "/dead_units", "feature_maps/")
    found = without(
        "step/",
        "/gradient_norm",
        "/update_",
        "/activation_",
        "/dead_units",
        "feature_maps/",
        "receptive_field/",
        "epoch/precision",
        "epoch/recall",
        "epoch/confusion",
        "precision_recall/",
    )
    found["train"] = found["train"][0] | {"training/gradient_norm"}, False
    assert tags(runs["keras"]) == found


def test_histories_are_the_same_up_to_rounding(runs):
    for other in ("highlevel", "keras"):
        for row, expected in zip(history(runs[other]), history(runs["lowlevel"]), strict=True):
            assert list(row) == list(expected)
            for name, value in row.items():
                assert float(value) == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-5), name


def test_every_setting_trains_alike(phantoms, tmp_path):
    """Warm-up, schedule, clipping, decay, Nesterov's momentum, class weights, weight maps, elastic deformation, valid
    padding, an odd rest of images, masks that are labelled in part, images that are shrunk."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    for mask in (data / "masks").iterdir():
        change(mask, lambda pixels: np.where(np.arange(32) < 20, pixels, 254).astype(np.uint8))
    flags = [
        "--data",
        str(data),
        "--ignore-value",
        "254",
        *TINY,
        "--classes",
        "2",
        "--padding",
        "valid",
        "--optimizer",
        "sgd",
        "--nesterov",
    ]
    flags += ["--learning-rate", "0.01", "--warmup-steps", "4", "--clip-norm", "0.5", "--weight-decay", "0.1"]
    flags += ["--loss", "focal", "--class-weights", "1,2", "--schedule", "polynomial", "--dropout-position", "block"]
    flags += ["--weight-map", "--elastic", "2", "--no-output-bias-prior", "--resolution", "0.7"]
    rows = {}
    for name in IMPLEMENTATIONS:
        assert train.main(["--run", str(tmp_path / name), *flags], name) == 0
        rows[name] = history(tmp_path / name)
    for other in ("highlevel", "keras"):
        for row, expected in zip(rows[other], rows["lowlevel"], strict=True):
            for name, value in row.items():
                assert float(value) == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("name", ["highlevel", "keras"])
def test_evaluate_and_predict_take_any_run(runs, name, phantoms, tmp_path):
    best = max(history(runs[name]), key=lambda row: float(row["validation_dice"]))  # of two epochs
    assert evaluate.main(["--run", str(runs[name]), "--output", str(tmp_path / "scores")]) == 0
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    for score in ("dice", "iou", "mean_iou"):
        assert result[score] == pytest.approx(float(best[f"validation_{score}"]), abs=1e-3)
    flags = ["--run", str(runs[name]), "--images", str(phantoms / "images"), "--probabilities", "--output"]
    for folder, by_keras in (("ours", False), ("theirs", True)):
        assert predict.main([*flags, str(tmp_path / folder)], by_keras=by_keras) == 0
    written = sorted((tmp_path / "ours").glob("*_probability.png"))
    assert len(written) == 12
    for path in written:
        ours, theirs = (read_image(tmp_path / folder / path.name).astype(int) for folder in ("ours", "theirs"))
        assert np.abs(ours - theirs).max() <= 1


def test_best_keras_holds_the_best_weights(runs):
    config, _, _ = run_folder.read(runs["keras"])
    best, model = UNet(config.model, seed=8), UNet(config.model, seed=9)
    restore_best(best, runs["keras"])
    load_keras(runs["keras"] / "best.keras", model)
    for name, variable in model.named_variables().items():
        np.testing.assert_array_equal(variable, best.named_variables()[name], err_msg=name)


def test_export_and_predict_with_the_file(runs, phantoms, tmp_path, capsys):
    path = tmp_path / "new" / "model.keras"
    assert export.main(["--run", str(runs["lowlevel"]), "--format", "keras", "--output", str(path)]) == 0
    assert read_keras(path).input_shape == (None, None, None, 1) and "resized" not in capsys.readouterr().out
    shrunk = untrained_run(tmp_path / "shrunk", resolution=0.25)
    assert export.main(["--run", str(shrunk), "--format", "keras", "--output", str(tmp_path / "shrunk.keras")]) == 0
    assert "images resized to 0.25 of their sides by the mean of the area, then normalized" in capsys.readouterr().out
    flags = ["--images", str(phantoms / "images"), "--output"]
    assert predict.main(["--run", str(runs["lowlevel"]), *flags, str(tmp_path / "a")]) == 0
    # The weights are the file's, whatever the run's are.
    other = tmp_path / "other"
    shutil.copytree(runs["highlevel"], other)
    config, _, _ = run_folder.read(other)
    model = UNet(config.model, seed=77)
    tf.train.CheckpointManager(
        tf.train.Checkpoint(variables=model.named_variables()), str(other / "best"), max_to_keep=1
    ).save()
    arguments = ["--run", str(other), *flags]
    assert predict.main([*arguments, str(tmp_path / "b"), "--model", str(path)], by_keras=True) == 0
    assert predict.main([*arguments, str(tmp_path / "c")], by_keras=True) == 0
    same = [(tmp_path / "a" / p.name).read_bytes() == p.read_bytes() for p in sorted((tmp_path / "b").iterdir())]
    assert len(same) == 12 and sum(same) >= 11  # a probability may round to the other side of the threshold
    assert any((tmp_path / "a" / p.name).read_bytes() != p.read_bytes() for p in (tmp_path / "c").iterdir())
    capsys.readouterr()
    assert export.main(["--run", str(runs["lowlevel"]), "--format", "keras", "--output", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err


LONG = [*TINY, "--epochs", "3", "--dropout-rate", "0.3", "--clip-norm", "1"]


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    """The run folder of a longer training of an implementation that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def trained(name):
        assert train.main(["--run", str(folder / name), "--data", str(phantoms), *LONG], name) == 0
        return folder / name

    return trained


@pytest.mark.parametrize("name", [pytest.param("highlevel", marks=pytest.mark.slow), "keras"])
def test_an_interrupted_training_goes_on_bit_for_bit(name, whole, phantoms, tmp_path, monkeypatch):
    """So the same command twice gives the same bits, dropout's hidden random numbers included.

    Of an end after the checkpoint, see the signal below.
    """
    torn = tmp_path / "torn"
    interrupt_in_epoch_two(monkeypatch)
    assert train.main(["--run", str(torn), "--data", str(phantoms), *LONG], name) == 130
    monkeypatch.undo()
    assert train.main(["--run", str(torn), "--resume"], name) == 0
    assert_same_training(whole(name), torn)


@pytest.mark.slow
def test_a_jump_of_the_learning_rate_is_told(runs, tmp_path, capsys):
    run = shutil.copytree(runs["keras"], tmp_path / "run")
    assert train.main(["--run", str(run), "--resume", "--epochs", "4"], "keras") == 0
    jump = "note: the learning rate was 1e-05 in the last step and goes on at 0.000435: with --epochs 4 and"
    assert jump in capsys.readouterr().err


def test_a_run_goes_on_with_the_script_that_made_it(runs, capsys):
    for made_by in IMPLEMENTATIONS:
        for other in IMPLEMENTATIONS:
            if other != made_by:
                assert train.main(["--run", str(runs[made_by]), "--resume", "--epochs", "3"], other) == 2
                assert f"was not made by train_{other}.py" in capsys.readouterr().err


def test_early_stopping(tmp_path, capsys):
    """At learning rate 0 and without batch statistics nothing ever gets better than in the first epoch."""
    config = tiny_config(epochs=9, learning_rate=0.0, patience=2, batch_normalization=False)
    best = KerasTrainer(config, tmp_path, samples(), samples()).fit()
    assert best["epoch"] == 1 and len(history(tmp_path)) == 3
    assert "stopped: validation Dice, the median of 3 epochs, was not better than " in capsys.readouterr().out
    assert KerasTrainer(config, tmp_path, samples(), samples()).fit(resume=True)["epoch"] == 1
    assert len(history(tmp_path)) == 3


@pytest.mark.slow
def test_last_weights_are_kept_where_wished(tmp_path):
    config = tiny_config(epochs=2, learning_rate=0.0, batch_normalization=False, keep="last")
    trainer = KerasTrainer(config, tmp_path, samples(), samples())
    assert trainer.fit()["epoch"] == 2 and trainer.journal.progress.best_epoch == 1


def test_patience_of_ten_unless_told_otherwise():
    for flags, patience in (([], 10), (["--patience", "0"], 0), (["--preset", "original"], 10)):
        assert patience_of("keras", flags) == patience
    assert patience_of("lowlevel", []) == 0


def patience_of(name, flags):
    from unet_lowlevel.cli.arguments import Parser, add_settings, resolved_config

    parser = Parser("A test.", "train")
    add_settings(parser, defaults=train.DEFAULTS.get(name))
    return resolved_config(parser.parse_args(flags)).training.patience


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    bad = samples()
    bad[2].image[3, 3] = np.inf
    trainer = KerasTrainer(tiny_config(batch_normalization=False, augment=False), tmp_path, bad, samples())
    with pytest.raises(UserError) as caught:
        trainer.fit()
    sentence(caught, "loss is nan at step", "--learning-rate", "nothing was saved yet")


def test_predictions_of_one_class_are_warned_of(tmp_path, capsys):
    trainer = KerasTrainer(tiny_config(epochs=1, learning_rate=0.0), tmp_path, samples(), samples())
    trainer.unet.output.bias.assign([-50.0])
    trainer.fit()
    assert "warning: all validation pixels are predicted as class 0" in capsys.readouterr().out


def test_averaged_weights_are_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        KerasTrainer(tiny_config(ema_decay=0.9), tmp_path, samples(), samples())
    sentence(caught, "--ema-decay is 0.9", "train_lowlevel.py")


def test_one_trace_whole_images_of_any_size_and_steps_that_are_told(tmp_path):
    """A smaller last batch, crops that need padding, and validation images of two sizes.

    What is told while it happens, numbers and mean losses, has the same figures as history.csv.
    """
    config = tiny_config(epochs=2, depth=3, crop_size=14)
    trainer = KerasTrainer(config, tmp_path, samples(5), samples(2, size=16) + samples(1, size=23))
    forward, calls, told = trainer.unet.forward, [], []
    trainer.unet.forward = lambda images, **how: (calls.append(how["training"]), forward(images, **how))[1]
    trainer.fit(on_step=lambda *step: told.append(step))
    assert calls.count(True) == 1
    assert int(tf.reduce_sum(trainer.scores.confusion)) == 2 * 16**2 + 23**2
    assert isinstance(trainer.unet, KerasUNet)
    assert [step for step, _ in told] == [1, 2, 3, 4, 5, 6]
    with (tmp_path / "history.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert [told[2][1], told[5][1]] == losses


@pytest.mark.slow
def test_a_signal_ends_at_the_end_of_the_epoch(whole, phantoms, tmp_path, capsys):
    run = tmp_path / "run"

    def stop(step, loss):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)

    assert train.main(["--run", str(run), "--data", str(phantoms), *LONG], "keras", stop) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 3" in capsys.readouterr().err
    assert len(history(run)) == 1
    assert train.main(["--run", str(run), "--resume"], "keras") == 0
    assert len(history(run)) == 3
    assert_same_training(whole("keras"), run)


@pytest.mark.parametrize("learning_rate", [1e10, 1e30])
def test_a_training_that_diverges_in_its_last_step_saves_nothing(learning_rate, tmp_path):
    config = tiny_config(epochs=1, steps_per_epoch=1, optimizer="sgd", batch_normalization=False)
    config = settings.apply(config, {"learning_rate": learning_rate})
    with pytest.raises(UserError) as caught:
        KerasTrainer(config, tmp_path, samples(), samples()).fit()
    sentence(caught, "diverged by step 1", "lower --learning-rate or set --clip-norm 1", "nothing was saved yet")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and "events" not in path.name} == set()


def test_only_what_is_finite_is_saved(tmp_path):
    """The optimizer's memory, too."""
    trainer = KerasTrainer(tiny_config(), tmp_path, samples(), samples())

    def spoil(step, loss):
        if step == 4:
            trainer.model.optimizer.variables[-1].assign(np.full(trainer.model.optimizer.variables[-1].shape, np.nan))

    with pytest.raises(UserError) as caught:
        trainer.fit(on_step=spoil)
    sentence(caught, "diverged by step 4", f"the checkpoints in {tmp_path} are as they were")
    assert len(history(tmp_path)) == 1
