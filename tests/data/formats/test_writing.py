"""Results are written whole or not at all, and never over what is there."""

import numpy as np
import pytest
from conftest import sentence
from image_files import DEEP, DEEP_RGB, GRAY, RGB
from PIL import Image

from unet_lowlevel.data import files
from unet_lowlevel.data.formats import writing
from unet_lowlevel.errors import UserError


@pytest.mark.parametrize("array", [GRAY, GRAY[..., None], RGB, DEEP, GRAY[::2, ::-1]])
def test_written_images_come_back(array, tmp_path):
    path = tmp_path / "ü 1.png"
    writing.write_image(path, array)
    expected = array if array.ndim == 3 else array[..., None]
    np.testing.assert_array_equal(files.read_image(path), expected)
    assert [item.name for item in tmp_path.iterdir()] == ["ü 1.png"]


def test_writing_never_overwrites(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"the user's")
    with pytest.raises(UserError) as caught:
        writing.write_image(path, GRAY)
    sentence(caught, path, "exists already", "another folder")
    assert path.read_bytes() == b"the user's"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(self, path, format):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError) as caught:
        writing.write_image(tmp_path / "a.png", GRAY)
    sentence(caught, tmp_path / "a.png", "No space left", "name a folder")
    assert list(tmp_path.iterdir()) == []


def test_writing_into_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        writing.write_image(tmp_path / "none" / "a.png", GRAY)
    sentence(caught, tmp_path / "none" / "a.png", "No such file")


@pytest.mark.parametrize(("name", "array"), [("a.jpg", GRAY), ("a.png", GRAY / 2), ("a.png", DEEP_RGB)])
def test_writing_takes_what_png_holds(name, array, tmp_path):
    with pytest.raises(ValueError, match="no PNG"):
        writing.write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "empty/new/below"):
        writing.check_new_output(tmp_path / name)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").touch()
    for name, words in (("file", "is a file"), ("full", "is not empty")):
        with pytest.raises(UserError) as caught:
            writing.check_new_output(tmp_path / name)
        sentence(caught, f"--output {tmp_path / name} {words}", "choose another name")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_an_output_is_made_where_it_is_missing(tmp_path):
    for _ in range(2):
        writing.make_output(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(UserError) as caught:
            writing.make_output(tmp_path / name)
        sentence(caught, f"--output {tmp_path / name} cannot be made", "choose another folder")
