"""The loop over epochs: validation, early stopping, what is kept, and what it warns of."""

import numpy as np
import pytest
import tensorflow as tf
from kill_and_resume import history
from tiny_training import samples, tiny_config

from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.training.checkpoints import restore_best
from unet_lowlevel.training.totals import Totals
from unet_lowlevel.training.trainer import Trainer


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
    scores = Totals.scores
    for keep, epoch in (("best", 1), ("last", 3)):
        config = tiny_config(epochs=9, patience=2, keep=keep)
        trainer, falling = Trainer(config, tmp_path / keep, samples(), samples()), iter(np.arange(1.0, 0.0, -0.05))
        monkeypatch.setattr(Totals, "scores", lambda totals: scores(totals) | {"mean_iou": next(falling)})  # noqa: B023
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
