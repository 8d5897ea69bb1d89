"""What is put in its place is whole, whenever the power fails."""

import errno
import os

import numpy as np
import pytest
from failing_power import Disk

from unet_lowlevel import disk, run_folder
from unet_lowlevel.data.formats.writing import write_image, written_whole
from unet_lowlevel.data.phantoms.phantom import write_phantoms
from unet_lowlevel.disk import put_in_place, sync


def write_folder(path):
    with written_whole(path) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "file").write_text("content")


WRITERS = {
    "text": lambda path: run_folder.write_text(path, "content"),
    "image": lambda path: write_image(path.with_suffix(".png"), np.zeros([3, 3], np.uint8)),
    "folder": write_folder,
    "phantoms": lambda path: write_phantoms(path, 2, (32, 32), slices_per_patient=1, seed=0),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_is_written_is_on_the_disk(write, tmp_path, monkeypatch):
    """Before it is renamed, as `Disk` asserts; and so is its name afterwards."""
    recorded = Disk(tmp_path, monkeypatch)
    write(tmp_path / "new")
    assert recorded.is_kept(tmp_path) and len(list(tmp_path.iterdir())) == 1
    recorded.close()


@pytest.mark.parametrize("with_names", [False, True])
def test_a_loss_of_power_leaves_the_old_or_the_new(with_names, tmp_path, monkeypatch):
    found, images = [], iter(range(99))

    def look(recorded):
        image = recorded.after_power_loss(tmp_path / f"image-{next(images)}", with_names=with_names)
        found.append((image / "notes").read_text())

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes").write_text("old")
    recorded = Disk(folder, monkeypatch, look)
    run_folder.write_text(folder / "notes", "new")
    look(recorded)
    assert found[0] == "old" and found[-1] == "new" and set(found) == {"old", "new"}
    recorded.close()


def test_where_folders_cannot_be_synced_files_are(tmp_path, monkeypatch):
    (tmp_path / "temporary").write_text("content")
    monkeypatch.setattr(os, "fsync", lambda descriptor: fail(errno.EINVAL))
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        put_in_place(tmp_path / "temporary", tmp_path / "file")
    monkeypatch.setattr(os, "fsync", lambda descriptor: fail(errno.EIO))
    with pytest.raises(OSError, match="error"):
        sync(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


def fail(number):
    raise OSError(number, os.strerror(number))


def test_on_windows_only_files_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(disk.os, "fsync", synced.append)
    monkeypatch.setattr(disk.os, "name", "nt")
    sync(tmp_path)
    assert synced == []
