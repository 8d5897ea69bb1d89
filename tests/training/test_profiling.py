"""The profile of some training steps."""

import pytest
from tiny_training import samples, tiny_config

from unet_lowlevel.training.profiling import SKIPPED
from unet_lowlevel.training.trainer import Trainer


@pytest.mark.parametrize("steps", [0, 2, 99])
def test_a_profile_is_written_if_it_was_asked_for(steps, tmp_path):
    """Also when the training ends before it."""
    trainer = Trainer(tiny_config(epochs=2, profile=steps), tmp_path, samples(), samples())
    trainer.fit()
    assert int(trainer.train_step.step) > SKIPPED
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == bool(steps)
