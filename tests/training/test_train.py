"""Training as a whole: what it writes, that it repeats itself bit for bit, resumes, stops and warns."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY
from kill_and_resume import assert_same_training, history, told
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_lowlevel import run_folder
from unet_lowlevel.cli.train import NETWORKS, main
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data import storage
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve
from unet_lowlevel.training.checkpoints import Checkpoints, restore_best
from unet_lowlevel.training.journal import HISTORY, read_history
from unet_lowlevel.training.totals import Tally
from unet_lowlevel.training.trainer import Trainer


def test_run_folder_has_everything(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert names == {"config.json", "split.json", "history.csv", "checkpoints", "best", "train", "validation"}
    content = json.loads((tiny_run / "config.json").read_text())
    assert content["model"]["in_channels"] == 1 and content["training"]["crop_size"] == 32
    assert content["run"]["versions"]["tensorflow"] == tf.__version__ and len(content["run"]["data_fingerprint"]) == 64
    split = json.loads((tiny_run / "split.json").read_text())
    patients = [{stem[:11] for stem in split[part]} for part in ("training", "validation")]
    assert len(split["training"]) == 9 and len(split["validation"]) == 3 and not patients[0] & patients[1]


def test_history_starts_with_the_promised_columns(tiny_run):
    rows = (tiny_run / "history.csv").read_text().splitlines()
    assert rows[0].startswith(
        "epoch,step,seconds,train_loss,validation_loss,validation_dice,validation_iou,validation_mean_iou,"
        "images_per_second"
    )
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "3"], ["2", "6"]]


def test_tensorboard_has_curves_pictures_histograms_graph_and_text(tiny_run):
    train, validation = (EventAccumulator(str(tiny_run / part)) for part in ("train", "validation"))
    for events in (train, validation):
        events.Reload()
        tags = set(events.Tags()["tensors"])
        assert {"epoch/loss", "epoch/dice", "epoch/iou", "epoch/mean_iou"} <= tags
        assert [event.step for event in events.Tensors("epoch/loss")] == [3, 6]
    train_tags, validation_tags = set(train.Tags()["tensors"]), set(validation.Tags()["tensors"])
    for name in ("learning_rate", "gradient_norm", "weight_norm", "images_per_second"):
        assert f"training/{name}" in train_tags
    assert {"weights/encoder/level_1/conv_1/weight", "gradients/decoder/level_1/up/weight"} <= train_tags
    assert "configuration" in train_tags
    assert sum(tag.startswith("image_truth_prediction_errors/") for tag in validation_tags) == 3
    scopes = {
        node.name.split("/")[0] for node in tf.compat.v1.GraphDef.FromString(train.Graph().SerializeToString()).node
    }
    assert {"encoder", "bottleneck", "decoder", "output", "loss", "optimizer"} <= scopes


def test_the_same_command_twice_gives_the_same_bits(tiny_run, phantoms, tmp_path):
    again = tmp_path / "again"
    assert main(["--run", str(again), "--data", str(phantoms), "--ema-decay", "0.5", *TINY]) == 0
    assert_same_training(tiny_run, again)


def interrupt_in_epoch_two(monkeypatch, moment):
    """Lets a training meet Ctrl-C "before the checkpoint" of its second epoch, or after it."""
    original, saved = Checkpoints.save, []

    def save(self, step):
        saved.append(step)
        if len(saved) == 2 and moment == "before the checkpoint":
            raise KeyboardInterrupt
        original(self, step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save)


@pytest.mark.parametrize("moment", ["before the checkpoint", "after the checkpoint"])
def test_an_interrupted_training_goes_on_bit_for_bit(phantoms, tmp_path, monkeypatch, moment):
    """Interrupted in epoch 2 of 3, with dropout, momentum, schedule, warm-up and average all at work."""
    flags = ["--data", str(phantoms), *TINY, "--epochs", "3", "--dropout-rate", "0.3", "--ema-decay", "0.9"]
    flags += ["--warmup-steps", "4", "--clip-norm", "1", "--weight-decay", "0.01"]
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert main(["--run", str(whole), *flags]) == 0
    interrupt_in_epoch_two(monkeypatch, moment)
    assert main(["--run", str(torn), *flags]) == 130
    monkeypatch.undo()
    assert main(["--run", str(torn), "--resume"]) == 0
    assert_same_training(whole, torn)
    assert told(torn) == told(whole)  # TensorBoard had been told of the epoch, but it was not saved


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_killed_process_goes_on_bit_for_bit(phantoms, tmp_path, stream):
    """SIGKILL as soon as the first epoch is on disk: no handler can tidy up, and decoded/ is not to be trusted."""
    flags = ["--data", str(phantoms), *TINY, "--epochs", "6", "--steps-per-epoch", "20"]
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    program = "import sys; from unet_lowlevel.cli.train import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", program, "--run", str(torn), *flags, *stream])
    deadline = time.monotonic() + 120
    while not (torn / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (torn / "decoded").exists() == bool(stream)
    for file in torn.glob("decoded/*"):
        file.write_bytes(b"torn")
    assert main(["--run", str(whole), *flags]) == 0
    assert main(["--run", str(torn), "--resume"]) == 0
    assert not (torn / "decoded").exists()
    assert_same_training(whole, torn)


@pytest.mark.parametrize("implementation", NETWORKS)
def test_from_files_the_training_is_the_same_bit_for_bit(phantoms, tmp_path, implementation):
    """Also when only its second half comes from files, for a machine with less memory."""
    flags = ["--data", str(phantoms), *TINY, "--schedule", "constant"]
    runs = memory, files, both = [tmp_path / name for name in ("memory", "files", "both")]
    assert main(["--run", str(memory), *flags], implementation) == 0
    assert main(["--run", str(files), *flags, "--stream"], implementation) == 0
    assert main(["--run", str(both), *flags, "--epochs", "1"], implementation) == 0
    assert main(["--run", str(both), "--resume", "--epochs", "2", "--stream"], implementation) == 0
    for run in runs[1:]:
        assert_same_training(memory, run)
        assert {path.name for path in run.iterdir()} == {path.name for path in memory.iterdir()}


def test_bad_data_leaves_no_run_folder(phantoms, tmp_path, capsys):
    run = tmp_path / "runs" / "one"
    assert main(["--run", str(run), "--data", str(phantoms), *TINY, "--stream", "--in-channels", "3"]) == 2
    assert "--in-channels is 3" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_interrupted_while_reading_there_is_nothing_to_go_on_with(phantoms, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "with_normalization", interrupt)
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), *TINY, "--stream"]) == 130
    assert "--resume" not in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_resume_without_a_checkpoint_starts_anew(tiny_run, phantoms, tmp_path):
    config, run, split = run_folder.read(tiny_run)
    torn = tmp_path / "torn"
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


def test_changed_data_is_noticed_on_resume(phantoms, tmp_path, capsys):
    data = tmp_path / "data"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
        for path in (phantoms / kind).iterdir():
            (data / kind / path.name).write_bytes(path.read_bytes())
    run = tmp_path / "run"
    assert main(["--run", str(run), "--data", str(data), *TINY, "--epochs", "1"]) == 0
    one, other = sorted((data / "images").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    assert main(["--run", str(run), "--resume", "--epochs", "2"]) == 2
    assert "has changed" in capsys.readouterr().err


def samples(count=4, size=16, value=1.0):
    rng = np.random.default_rng(0)
    images = [(value * rng.normal(size=(size, size, 1))).astype(np.float32) for _ in range(count)]
    return [Sample(f"s{i}", image, (image[..., 0] > 0).astype(np.uint8)) for i, image in enumerate(images)]


def tiny_config(**flags):
    defaults = {"in_channels": 1, "base_channels": 2, "depth": 2, "crop_size": 16, "batch_size": 2, "epochs": 3}
    return resolve(flags=defaults | flags)


def test_a_loss_that_is_not_finite_names_step_and_files(tmp_path):
    bad = samples()
    bad[2].image[3, 3] = np.inf
    trainer = Trainer(tiny_config(batch_normalization=False, augment=False), tmp_path, bad, samples())
    with pytest.raises(UserError, match=r"loss is nan at step \d .*s2.*--learning-rate"):
        trainer.fit()


def test_predictions_of_one_class_are_warned_of(tmp_path, capsys):
    trainer = Trainer(tiny_config(epochs=1, learning_rate=0.0), tmp_path, samples(), samples())
    trainer.model.output.bias.assign([-50.0])
    trainer.fit()
    assert "warning: all validation pixels are predicted as class 0" in capsys.readouterr().out


def test_early_stopping_waits_for_its_patience(tmp_path, capsys):
    """At learning rate 0 and without batch statistics nothing ever gets better than in the first epoch."""
    config = tiny_config(epochs=9, learning_rate=0.0, patience=2, batch_normalization=False)
    best = Trainer(config, tmp_path, samples(), samples()).fit()
    assert best["epoch"] == 1 and len(history(tmp_path)) == 3
    assert "stopped: validation mean IoU was not better" in capsys.readouterr().out
    assert Trainer(config, tmp_path, samples(), samples()).fit(resume=True)["epoch"] == 1
    assert len(history(tmp_path)) == 3


def test_last_weights_are_kept_where_wished(tmp_path, monkeypatch):
    """With a validation that gets worse from epoch to epoch; patience goes by it all the same."""
    scores = Tally.scores
    for keep, epoch in (("best", 1), ("last", 3)):
        config = tiny_config(epochs=9, patience=2, keep=keep)
        trainer, falling = Trainer(config, tmp_path / keep, samples(), samples()), iter(np.arange(1.0, 0.0, -0.05))
        monkeypatch.setattr(Tally, "scores", lambda tally: scores(tally) | {"mean_iou": next(falling)})  # noqa: B023
        assert trainer.fit()["epoch"] == epoch and len(history(tmp_path / keep)) == 3
        kept = UNet(config.model)
        restore_best(kept, tmp_path / keep)
        assert np.array_equal(kept.output.weight, trainer.model.output.weight) == (keep == "last")
        assert Trainer(config, tmp_path / keep, samples(), samples()).fit(resume=True)["epoch"] == epoch


def test_validation_is_whole_images_of_any_size_and_moves_nothing(tmp_path):
    validation = samples(2, size=16) + samples(1, size=23)
    trainer = Trainer(tiny_config(epochs=1), tmp_path, samples(), validation)
    trainer.fit()
    before = [variable.numpy() for variable in trainer.model.variables]
    tally = Tally()
    for sample in validation:
        result = trainer.evaluation_step(
            tf.constant(sample.image[np.newaxis]), tf.constant(sample.label[np.newaxis].astype(np.int32))
        )
        assert result["probabilities"].shape[1:3] == sample.label.shape
        tally.add(result, 1)
    assert tally.confusion.sum() == 2 * 16**2 + 23**2
    assert tally.scores()["dice"] == pytest.approx(float(history(tmp_path)[0]["validation_dice"]), abs=1e-12)
    for variable, value in zip(trainer.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_train_step_traces_once(tmp_path):
    trainer = Trainer(tiny_config(epochs=2), tmp_path, samples(5), samples(2, size=16) + samples(1, size=23))
    trainer.fit()
    assert trainer.train_step.compiled.experimental_get_tracing_count() == 1
    assert trainer.evaluation_step.compiled.experimental_get_tracing_count() == 1


def test_output_bias_starts_at_the_share_of_foreground(tmp_path):
    trainer = Trainer(tiny_config(), tmp_path, samples(), samples())
    share = np.mean([sample.label.mean() for sample in samples()])
    assert float(tf.sigmoid(trainer.model.output.bias)[0]) == pytest.approx(share, abs=1e-6)


def test_average_of_the_weights_is_validated_and_kept_as_best(tmp_path):
    """best/ holds the averages; the weights go on from where they were."""
    trainer = Trainer(tiny_config(epochs=1, ema_decay=0.5), tmp_path, samples(), samples())
    trainer.fit()
    best = UNet(trainer.config.model)
    restore_best(best, tmp_path)
    for variable, average in zip(best.variables, trainer.train_step.average.averages, strict=True):
        np.testing.assert_array_equal(variable, average)
    assert not np.array_equal(best.output.weight, trainer.model.output.weight)


def test_overfitting_one_batch(phantoms, tmp_path, capsys):
    flags = ["--data", str(phantoms), "--base-channels", "4", "--depth", "3", "--batch-size", "3", "--epochs", "5"]
    flags += ["--learning-rate", "0.01", "--overfit-one-batch"]
    assert main(["--run", str(tmp_path / "run"), *flags]) == 0
    assert "one batch was learned by heart" in capsys.readouterr().out
    assert main(["--run", str(tmp_path / "lazy"), *flags, "--learning-rate", "0", "--stream"]) == 0
    assert "one batch was not learned by heart" in capsys.readouterr().out


def test_paper_preset_trains(phantoms, tmp_path):
    """The paper's settings, at a size for tests: valid padding with mirrored surroundings, two classes."""
    flags = ["--preset", "paper", "--base-channels", "2", "--depth", "3", "--crop-size", "60", "--epochs", "1"]
    assert main(["--run", str(tmp_path / "run"), "--data", str(phantoms), *flags]) == 0
    assert np.isfinite(float(history(tmp_path / "run")[0]["validation_loss"]))


def test_history_reads_back_exactly(tiny_run):
    rows = read_history(tiny_run / "history.csv", 2)
    with (tiny_run / "history.csv").open() as file:
        for row, text in zip(rows, csv.DictReader(file), strict=True):
            assert {name: str(row[name]) for name in HISTORY} == text
    with pytest.raises(UserError, match="has 2 epochs, but the checkpoint has 3"):
        read_history(tiny_run / "history.csv", 3)


def test_a_damaged_checkpoint_is_refused_in_a_sentence(tiny_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    data = next((run / "checkpoints").glob("ckpt-6.data*"))
    data.write_bytes(data.read_bytes()[:100])
    assert main(["--run", str(run), "--resume", "--epochs", "3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "ckpt-6" in error


def test_a_checkpoint_of_another_network_is_refused(tiny_run, tmp_path):
    config, _, _ = run_folder.read(tiny_run)
    for changes in ({"depth": 3}, {"base_channels": 4}, {"batch_normalization": False}):
        with pytest.raises(UserError, match="does not fit this network"):
            restore_best(UNet(dataclasses.replace(config.model, **changes)), tiny_run)
    os.makedirs(tmp_path / "empty" / "best")
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_best(UNet(config.model), tmp_path / "empty")
