"""What a training says of its data before it begins."""

import shutil

import numpy as np
import pytest
from checked_data import change, path, write_clean
from conftest import TINY
from low_memory import memory_information

from unet_lowlevel.cli import check, cross_validate, train
from unet_lowlevel.data.check import report
from unet_lowlevel.training import train as training

FLAGS = [*TINY, "--group-regex", r"patient-\d+"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_clean(tmp_path_factory.mktemp("data") / "clean")


@pytest.fixture
def data(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Trains until the steps would begin; returns the exit code and what stood on stderr."""

    class Begins(Exception):
        pass

    def begin(*arguments, **more):
        raise Begins

    monkeypatch.setattr(training, "run_training", begin)

    def said(data, *flags, main=train.main):
        try:
            code = main(["--run", str(tmp_path / "run"), "--data", str(data), *FLAGS, *flags])
        except Begins:
            code = "begins"
        return code, capsys.readouterr().err.strip().replace("\n  ", " ")  # a warning on one line

    return said


def empty_all(data):
    for file in (data / "masks").iterdir():
        change(file, np.zeros_like)


def test_clean_data_begins_in_silence(clean, said):
    assert said(clean) == ("begins", "")


def test_empty_masks_are_no_surprise_at_the_end(data, said):
    empty_all(data)
    code, warning = said(data)
    assert code == "begins"
    assert warning == (
        "warning: no mask marks anything; see whether these are the right masks, and whether --mask-values is right"
    )


def test_no_check_is_silent(data, said):
    empty_all(data)
    assert said(data, "--no-check") == ("begins", "")


def test_inverted_masks_and_torn_patients_are_warned_of(data, said):
    for index in (4, 9):
        change(path(data, "masks", index), lambda mask: 255 - mask)
    for kind in ("images", "masks"):  # names in which no patient is found
        for index, file in enumerate(sorted((data / kind).iterdir())):
            file.rename(file.with_name(f"scan{index // 3}-{index % 3}.png"))
    code, warnings = said(data, "--group-regex", "")
    assert code == "begins"
    first, second = warnings.splitlines()
    assert first.startswith("warning: 2 masks of 24 look inverted beside the others: scan1-1, scan3-0;")
    assert second.startswith("warning: the names of images look as if some were of one patient, whom the split")


def test_a_cross_validation_warns_too(data, said, monkeypatch):
    empty_all(data)
    monkeypatch.setattr("unet_lowlevel.inference.cross_validation.run_folds", training.run_training)
    code, warning = said(data, main=cross_validate.main)
    assert code == "begins" and warning.startswith("warning: no mask marks anything;")
    assert warning.count("\n") == 0


@pytest.mark.parametrize("flags", [(), ("--stream",)])
def test_a_step_beyond_the_memory_is_refused_before_it_begins(clean, said, flags, tmp_path, monkeypatch, capsys):
    """By training and by the check, in the same words."""
    memory_information(monkeypatch, tmp_path, 2**20)  # KiB
    monkeypatch.setattr(report, "peak_speed", lambda: 1e11)
    flags = ("--batch-size", "3000", "--crop-size", "512", *flags)
    words = "training step takes about "
    code, error = said(clean, *flags)
    assert code == 2 and words in error and not (tmp_path / "run").exists()
    assert error.startswith("error: A training step takes about ") and error.endswith("or --no-check to try it.")
    assert check.main(["--data", str(clean), *FLAGS[: FLAGS.index("--epochs")], *flags]) == 1
    assert words in capsys.readouterr().out
    assert said(clean, *flags, "--no-check")[0] == "begins"


def test_exchanged_images_and_masks_are_recognised(data, said, capsys):
    (data / "images").rename(data / "other")
    (data / "masks").rename(data / "images")
    (data / "other").rename(data / "masks")
    code, error = said(data)
    assert code == 2 and "looks like a mask" in error and error.endswith("exchange images and masks.")
    assert check.main(["--data", str(data)]) == 1
    assert "looks like a mask" in capsys.readouterr().out


def test_a_split_far_from_the_fraction_is_warned_of(data, said):
    """Two patients, of which one must be held out: half of the images instead of a fifth."""
    for kind in ("images", "masks"):
        for file in sorted((data / kind).iterdir())[6:]:
            file.unlink()
    code, warning = said(data)
    assert code == "begins"
    assert warning == (
        "warning: 3 of 6 images are held out, where --validation-fraction 0.2 asks for 1, because images of one group "
        "stay together; choose them by --validation-list, or set --validation-fraction to what is meant"
    )
    assert said(data, "--validation-fraction", "0.5") == ("begins", "")
