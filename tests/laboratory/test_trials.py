"""What the experiments share: slices, a training, and shares of wrong pixels, counted by hand."""

import signal

import numpy as np
import pytest
from small_experiments import SMALL

from unet_lowlevel.laboratory.trials import (
    HELD_OUT,
    SLICES,
    config_of,
    course,
    scores,
    shares,
    slices,
    train,
    training_slices,
    wrong_at,
)
from unet_lowlevel.training.interruption import Stopped
from unet_lowlevel.training.trainer import Trainer


def test_settings_of_a_trial():
    config = config_of(SMALL, depth=3, learning_rate=0.5)
    assert (config.model.depth, config.model.base_channels, config.optimizer.learning_rate) == (3, 2, 0.5)
    assert (config.training.epochs, config.training.plan, config.training.keep) == (2, "off", "last")


def test_slices_are_those_of_their_patients():
    training, held_out = training_slices(SMALL)
    assert (len(training), len(held_out)) == (SLICES * SMALL.patients, SLICES * SMALL.held_out)
    (again,) = (sample for sample in slices([1], SMALL.side) if sample.stem == training[-1].stem)
    assert np.array_equal(again.image, training[-1].image) and training[-1].label.max() == 1
    assert not {sample.stem for sample in training} & {sample.stem for sample in held_out}
    assert held_out[0].stem == f"patient-{HELD_OUT}_slice-0"
    assert abs(held_out[0].normalized().mean()) < 1e-5
    turned = slices([1], SMALL.side, lambda image, mask, rng: (image.T, mask.T))
    assert np.array_equal(turned[0].label, slices([1], SMALL.side)[0].label.T)


def test_a_training_has_a_history_and_scores_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    training, held_out = training_slices(SMALL)
    trainer = train(config_of(SMALL), training, held_out)
    assert course(trainer)["x"] == [2, 4] and not list(tmp_path.iterdir())
    assert course(trainer, "learning_rate")["y"][0] > course(trainer, "learning_rate")["y"][1] > 0
    assert scores(trainer, held_out)["dice"] == pytest.approx(course(trainer)["y"][-1])
    assert capsys.readouterr().out == ""


def test_wrong_pixels_at_each_distance():
    distance = np.array([[1, 1, 2], [3, 5, 9]])
    wrong = np.array([[True, False, True], [False, True, True]])
    assert wrong_at([distance], [wrong], 5) == {"x": [1, 2, 3, 5], "y": [50, 100, 0, 100]}
    assert wrong_at([distance], [wrong], 3) == {"x": [1, 2, 3], "y": [50, 100, 0]}  # further away is not counted
    twice = [distance, distance], [wrong, ~wrong]
    assert wrong_at(*twice, 3) == {"x": [1, 2, 3], "y": [50, 50, 50]}
    assert shares([distance], [wrong], 2) == pytest.approx((100 * 2 / 3, 100 * 2 / 3))
    assert shares([distance], [wrong], 1) == pytest.approx((50, 75))


@pytest.mark.parametrize("epoch", [1, SMALL.epochs])
def test_ctrl_c_ends_an_experiment_in_any_epoch_with_one_line(epoch, monkeypatch, capsys):
    original = Trainer.validate

    def validate(self, number):
        if number == epoch:
            signal.raise_signal(signal.SIGTERM)
        return original(self, number)

    monkeypatch.setattr(Trainer, "validate", validate)
    with pytest.raises(Stopped) as caught:
        train(config_of(SMALL), *training_slices(SMALL))
    assert caught.value.signal == signal.SIGTERM and capsys.readouterr() == ("", "interrupted\n")
