"""The loop over epochs: validation, early stopping, what is kept, and what it warns of."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import sentence
from kill_and_resume import history, state
from PIL import Image
from tiny_training import samples, tiny_config

from unet_lowlevel.config import DataConfig
from unet_lowlevel.core import fast
from unet_lowlevel.core.step import TrainStep
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.samples import Sample, at_working_size
from unet_lowlevel.errors import UserError
from unet_lowlevel.pictures import SMALLEST_PANEL, colour_labels, fitting
from unet_lowlevel.reference.layers_unet import LayersUNet
from unet_lowlevel.settings import apply
from unet_lowlevel.training import journal
from unet_lowlevel.training.checkpoints import restore_best
from unet_lowlevel.training.drawings import picture
from unet_lowlevel.training.history import kept_epoch
from unet_lowlevel.training.totals import Totals
from unet_lowlevel.training.trainer import Trainer


def test_a_loss_that_is_not_finite_names_step_and_files(tmp_path):
    bad = samples()
    bad[2].image[3, 3] = np.inf
    trainer = Trainer(tiny_config(batch_normalization=False, augment=False), tmp_path, bad, samples())
    with pytest.raises(UserError, match=r"loss is nan at step \d .*s2.*--learning-rate"):
        trainer.fit()


@pytest.mark.parametrize(("learning_rate", "network"), [(1e10, fast.network), (1e30, fast.network), (1e10, LayersUNet)])
def test_a_training_that_diverges_in_its_last_step_saves_nothing(learning_rate, network, tmp_path):
    config = tiny_config(epochs=1, steps_per_epoch=1, optimizer="sgd", batch_normalization=False)
    config = apply(config, {"learning_rate": learning_rate})
    with pytest.raises(UserError) as caught:
        Trainer(config, tmp_path, samples(), samples(), network).fit()
    sentence(caught, "lower --learning-rate or set --clip-norm 1", "nothing was saved yet")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and "events" not in path.name} == set()


# What can stop being finite behind a loss that still is.
PARTS = {
    "weight": lambda trainer: trainer.model.output.weight,
    "moment": lambda trainer: next(v for name, v in trainer.model.named_variables().items() if "variance" in name),
    "slot": lambda trainer: trainer.train_step.optimizer.second[0],
    "average": lambda trainer: trainer.train_step.average.averages[-1],
}


@pytest.mark.parametrize(("part", "step"), [("weight", 4), ("moment", 3), ("slot", 4), ("average", 3)])
def test_only_what_is_finite_is_saved(part, step, tmp_path):
    """In the middle of the second epoch, where every step is saved, and at its end.

    That a training goes on from there is in `test_train.py`.
    """
    config = tiny_config(ema_decay=0.5, checkpoint_steps=1)
    trainer = Trainer(config, tmp_path, samples(), samples())

    def spoil(number, loss):
        if number == step:
            PARTS[part](trainer).assign(np.full(PARTS[part](trainer).shape, np.nan))

    with pytest.raises(UserError) as caught:
        trainer.fit(on_step=spoil)
    sentence(caught, f"diverged by step {step}", "--learning-rate", f"the checkpoints in {tmp_path} are as they were")
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith(f"ckpt-{step - 1}")
    assert len(history(tmp_path)) == 1
    for folder in ("checkpoints", "best"):
        for name, value in state(tmp_path, folder).items():
            assert isinstance(value, bytes) or np.isfinite(value).all(), name


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
    assert "stopped: validation Dice, the median of 3 epochs, was not better than " in capsys.readouterr().out
    assert Trainer(config, tmp_path, samples(), samples()).fit(resume=True)["epoch"] == 1
    assert len(history(tmp_path)) == 3


def validated(monkeypatch, **scores):
    """Lets the epochs of a training have these scores on the validation images, whatever the network predicts."""
    validate = Trainer.validate

    def scored(trainer, epoch):
        return validate(trainer, epoch) | {f"validation_{name}": scores[name][epoch - 1] for name in scores}

    monkeypatch.setattr(Trainer, "validate", scored)


def test_the_best_epoch_is_that_of_the_dice_not_of_the_mean_iou(tmp_path, monkeypatch):
    """Mean IoU counts the background, so that a network without any foreground may have the highest."""
    validated(monkeypatch, dice=[0.0, 0.5, 0.6], iou=[0.0, 0.4, 0.5], mean_iou=[0.42, 0.40, 0.41])
    trainer = Trainer(tiny_config(epochs=3, patience=2), tmp_path, samples(), samples())
    assert trainer.fit()["epoch"] == 3
    assert kept_epoch(tmp_path) == trainer.journal.kept()


def test_last_weights_are_kept_where_wished(tmp_path, monkeypatch):
    """With a validation that gets worse from epoch to epoch; patience goes by it all the same."""
    validated(monkeypatch, dice=np.arange(1.0, 0.5, -0.05))
    for keep, epoch in (("best", 1), ("last", 3)):
        (tmp_path / keep).mkdir()
        config = tiny_config(epochs=9, patience=2, keep=keep)
        trainer = Trainer(config, tmp_path / keep, samples(), samples())
        assert trainer.fit()["epoch"] == epoch and len(history(tmp_path / keep)) == 3
        kept = UNet(config.model)
        restore_best(kept, tmp_path / keep)
        assert np.array_equal(kept.output.weight, trainer.model.output.weight) == (keep == "last")
        assert Trainer(config, tmp_path / keep, samples(), samples()).fit(resume=True)["epoch"] == epoch
        assert kept_epoch(tmp_path / keep)["epoch"] == epoch


def test_a_run_whose_best_epoch_was_chosen_otherwise_goes_on_from_it(tmp_path, monkeypatch, capsys):
    """By mean IoU, as by version 0.1: the epoch stays in best/ until one has a better Dice, and a note says so."""
    dice, mean_iou = [0.3, 0.5, 0.6, 0.2, 0.9, 0.1], [0.9, 0.7, 0.6, 0.5, 0.4, 0.3]
    validated(monkeypatch, dice=dice, mean_iou=mean_iou)
    config = tiny_config(epochs=3, schedule="constant")
    with monkeypatch.context() as patch:
        patch.setattr(journal, "criterion", lambda history: [(row["validation_mean_iou"],) for row in history])
        assert Trainer(config, tmp_path, samples(), samples()).fit()["epoch"] == 1
    for epochs, kept in ((3, 1), (4, 1), (6, 5)):
        trainer = Trainer(apply(config, {"epochs": epochs}), tmp_path, samples(), samples())
        assert trainer.fit(resume=True)["epoch"] == kept_epoch(tmp_path)["epoch"] == kept
        assert "note: best/ holds epoch 1," in capsys.readouterr().err
    trainer.fit(resume=True)
    assert "note: best/" not in capsys.readouterr().err


def test_validation_is_whole_images_of_any_size_and_moves_nothing(tmp_path):
    validation = samples(2, size=16) + samples(1, size=23)
    trainer = Trainer(tiny_config(epochs=1), tmp_path, samples(), validation)
    trainer.fit()
    before = [variable.numpy() for variable in trainer.model.variables]
    totals = Totals()
    for sample in validation:
        result = trainer.evaluation_step(
            tf.constant(sample.image[np.newaxis]), tf.constant(sample.label[np.newaxis].astype(np.int32))
        )
        assert result["probabilities"].shape[1:3] == sample.label.shape
        totals.add(result, 1)
    assert totals.confusion.sum() == 2 * 16**2 + 23**2
    assert totals.scores()["dice"] == pytest.approx(float(history(tmp_path)[0]["validation_dice"]), abs=1e-12)
    for variable, value in zip(trainer.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_pictures_of_shrunk_images_have_the_size_as_stored():
    rng = np.random.default_rng(0)
    stored = Sample("a", rng.integers(0, 256, (9, 7, 1), np.uint8), rng.integers(0, 2, (9, 7), np.uint8))
    sample = at_working_size(stored, DataConfig(resolution=0.5))
    shown = picture(sample, np.zeros([9, 7, 1], np.float32), tiny_config())
    height, width = fitting((9, 7), SMALLEST_PANEL)
    truth = Image.fromarray(colour_labels(stored.label, 1)).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(shown[20 : height + 20, width + 8 :], np.asarray(truth))


def test_a_smaller_last_batch_counts_by_its_images(tmp_path, monkeypatch):
    """The loss of an epoch is the mean over its five images, of which the last batch has one."""
    losses, call = [], TrainStep.__call__

    def noted(step, images, *labels):
        result = call(step, images, *labels)
        losses.extend([float(result["loss"])] * len(images))
        return result

    monkeypatch.setattr(TrainStep, "__call__", noted)
    told = []
    Trainer(tiny_config(epochs=1), tmp_path, samples(5), samples()).fit(on_step=lambda step, loss: told.append(loss))
    assert len(losses) == 5 and losses[0] == losses[1] != losses[4]
    assert told == pytest.approx([np.mean(losses[:2]), np.mean(losses[:4]), np.mean(losses)], rel=1e-12)
    assert float(history(tmp_path)[0]["train_loss"]) == told[-1]


def test_train_step_traces_once(tmp_path):
    trainer = Trainer(tiny_config(epochs=2), tmp_path, samples(5), samples(2, size=16) + samples(1, size=23))
    trainer.fit()
    assert trainer.train_step.compiled.experimental_get_tracing_count() == 1
    assert trainer.evaluation_step.compiled.experimental_get_tracing_count() == 1


def test_seed_and_length_of_the_training_reach_network_and_schedule(tmp_path):
    """Three epochs of three steps; the first weights are those of the seed."""
    trainers = [Trainer(tiny_config(seed=seed), tmp_path, samples(5), samples()) for seed in (0, 1)]
    assert [trainer.train_step.total_steps for trainer in trainers] == [9, 9]
    for seed, trainer in enumerate(trainers):
        expected = UNet(trainer.config.model, seed=seed).output.weight
        np.testing.assert_array_equal(trainer.model.output.weight, expected)
    assert not np.array_equal(*(trainer.model.output.weight for trainer in trainers))


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
