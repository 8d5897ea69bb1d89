"""What all tests share: a quiet TensorFlow, and the real data where a machine has it."""

import gc
import os
import shutil

# Before anything imports TensorFlow.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Between operations. oneDNN prepares a convolution anew in each thread that meets it: one of images of one channel now
# and then in another way in one than in the other, so that the last digit depends on which of them comes to it.
os.environ["TF_NUM_INTEROP_THREADS"] = "1"

from pathlib import Path

import pytest

pytest.register_assert_rewrite("kill_and_resume")  # its assertions show both sides, as those of the tests do


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What computes the network is what may differ on a GPU; single other tests are marked where they stand."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).with_name("core")):
            item.add_marker("gpu")


def pytest_collection_finish():
    """What is imported by now stays: who looks for garbage need not go through it."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def all_threads():
    """TensorFlow has all threads within an operation from the start, whichever test comes first.

    Else a prediction of many images would be the first thing in some workers, and leave them with one thread. GPUs
    multiply in float32, not in TF32.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.list_logical_devices()


@pytest.fixture(scope="session")
def processes():
    """The context of multiprocessing whose processes are forked from one that has imported TensorFlow by now."""
    from kill_and_resume import PROCESSES

    first = PROCESSES.Process(target=int)
    first.start()
    first.join()
    return PROCESSES


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder of real data (UNET_DATASETS, else ../shared/datasets beside the project); skips without it."""
    folder = Path(os.environ.get("UNET_DATASETS") or Path(__file__).parents[2] / "shared" / "datasets")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; UNET_DATASETS names another folder")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A folder with images/ and masks/ of 12 small phantoms of 4 patients."""
    from unet_lowlevel.data.phantoms.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, 12, (32, 32), slices_per_patient=3, seed=0)
    return folder


@pytest.fixture(scope="session")
def phantoms_packed(phantoms, tmp_path_factory) -> Path:
    """The phantoms as packed data of three shards."""
    from unet_lowlevel.config import Config
    from unet_lowlevel.data.packing import pack

    folder = tmp_path_factory.mktemp("packed") / "phantoms"
    pack(Config.of(data=str(phantoms)), folder, images_per_shard=5)
    return folder


TINY = ["--base-channels", "2", "--depth", "2", "--epochs", "2", "--batch-size", "4", "--group-regex", "patient-\\d+"]
TINY += ["--plan", "off", "--pictures", "0"]
TINY += ["--threshold", "0.2"]  # in a few steps not much is learned: at 0.5 no foreground would be found


@pytest.fixture(scope="session")
def tiny_run(phantoms, tmp_path_factory) -> Path:
    """A finished training of a tiny network on the phantoms, with the moving average of the weights on."""
    from unet_lowlevel.cli.train import main

    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["--run", str(run), "--data", str(phantoms), "--ema-decay", "0.5", *TINY, "--pictures", "4"]) == 0
    return run


@pytest.fixture
def place(tmp_path, phantoms, tiny_run, monkeypatch) -> Path:
    """A current folder with good data in data/ and a finished run in run/."""
    shutil.copytree(phantoms, tmp_path / "data")
    shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_disk(folder) -> dict:
    """What lies in a folder: of files the content, of links where they lead."""
    paths = sorted(folder.rglob("*"))
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in paths
    }


def refused(command, flags, words, place, capfd) -> str:
    """Asserts that a command ends with exit code 2 and one sentence with all of `words`, and changes nothing."""
    before = on_disk(place)
    assert command.main(flags) == 2
    output, error = capfd.readouterr()
    assert not output or "--resume" in flags  # which has said what it trains on before it opens the checkpoints
    assert error.startswith("error: ") and error.count("\n") == 1 and error.rstrip().endswith((".", "?"))
    assert error[:-1].isprintable() and len(error) < 2000
    for word in words:
        assert word in error
    assert on_disk(place) == before
    return error


def sentence(caught, *words):
    """Asserts that the error is one sentence with all of `words`."""
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert str(word) in message
    return message
