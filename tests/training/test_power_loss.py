"""A training at whose any moment the power may fail: what it says is saved is saved."""

import shutil

import pytest
from conftest import TINY
from failing_power import Disk
from kill_and_resume import assert_same_training, history, state, told

from unet_lowlevel import run_folder
from unet_lowlevel.cli.train import main

FLAGS = [*TINY, "--epochs", "3", "--steps-per-epoch", "3", "--checkpoint-steps", "2", "--ema-decay", "0.9"]


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    """A training without any loss of power, and what one would have left of it at each moment."""
    folder = tmp_path_factory.mktemp("whole")
    run, images = folder / "runs" / "run", []

    def look(recorded):
        for with_names in (False, True):
            image = recorded.after_power_loss(folder / f"image-{len(images)}", with_names=with_names)
            images.append(image / "run")

    run.parent.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorded = Disk(run.parent, monkeypatch, look)
        assert main(["--run", str(run), "--data", str(phantoms), *FLAGS]) == 0
        look(recorded)
        recorded.close()
    return run, images


def test_every_moment_leaves_a_run_of_which_nothing_listed_is_lost(whole):
    run, images = whole
    assert len(images) > 60
    steps = []
    for image in images:
        if not (image / "config.json").exists():
            left = {path.name for path in image.iterdir()} if image.exists() else set()
            assert left <= {".lock", ".split.json.tmp", "split.json", ".plan.json.tmp", "plan.json", ".config.json.tmp"}
            continue
        run_folder.read(image)
        listed = (image / "checkpoints" / "checkpoint").exists()
        steps.append(int(state(image)["memory/step/.ATTRIBUTES/VARIABLE_VALUE"]) if listed else 0)
        if steps[-1] >= 3:
            assert len(history(image)) >= steps[-1] // 3 and state(image, "best")
    for kind in (steps[::2], steps[1::2]):
        assert kind == sorted(kind) and set(kind) == {0, 2, 3, 5, 6, 8, 9}
    for image in images[-2:]:
        assert_same_training(run, image)
        assert told(run) == told(image)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("with_names", [False, True])
def test_after_a_loss_of_power_it_goes_on_bit_for_bit(share, with_names, whole, tmp_path):
    run, images = whole
    left = images[with_names::2]
    torn = tmp_path / "torn"
    shutil.copytree(left[int(share * len(left))], torn)
    assert main(["--run", str(torn), "--resume"]) == 0
    assert_same_training(run, torn)
    assert told(torn) == told(run)
