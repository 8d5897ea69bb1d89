"""Where images lie, which mask belongs to which, and what channels become."""

import math

import numpy as np
import pytest
import tifffile
from conftest import sentence

from unet_lowlevel.config import IGNORED, DataConfig
from unet_lowlevel.data import files, masks
from unet_lowlevel.errors import UserError


def folder_of(path, *names):
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_bytes(b"")
    return path


def test_listing_passes_over_what_is_no_image(tmp_path):
    folder = folder_of(
        tmp_path / "x", "b.PNG", "a.tiff", ".hidden.png", "Thumbs.db", "notes.txt", "c", "d.jpeg", "10.gif"
    )
    folder_of(folder / "e.png", "inside.png")
    assert list(files.list_images(str(folder))) == ["10", "a", "b", "d"]
    assert files.list_images(folder)["b"] == folder / "b.PNG"


def test_no_format_is_read_and_refused():
    assert not {*files.SUFFIXES} & {*files.UNREADABLE} and {*files.COMMON} <= {*files.SUFFIXES}


def test_pairs_are_matched_by_stem_and_not_by_position(tmp_path):
    images = folder_of(
        tmp_path / "images", "10.png", "9.jpg", "ä ö.tif", "Z.BMP", "a.b.png", "a.png", "a-b.png", "b.png"
    )
    masks = folder_of(
        tmp_path / "masks",
        "9.png",
        "a\u0308 o\u0308.tiff",
        "10.gif",
        "Z.png",
        "a.b.png",
        "b.png",
        "a.gif",
        "a-b.png",
        "readme.md",
    )
    pairs = files.pair_files(images, masks)
    assert [(pair.stem, pair.image.name, *(mask.name for mask in pair.masks)) for pair in pairs] == [
        ("10", "10.png", "10.gif"),
        ("9", "9.jpg", "9.png"),
        ("Z", "Z.BMP", "Z.png"),
        ("a", "a.png", "a.gif"),
        ("a-b", "a-b.png", "a-b.png"),
        ("a.b", "a.b.png", "a.b.png"),
        ("b", "b.png", "b.png"),
        ("ä ö", "ä ö.tif", "a\u0308 o\u0308.tiff"),
    ]
    assert files.find_pairs(DataConfig(data=str(tmp_path))) == pairs
    assert files.find_pairs(DataConfig(images=str(images), masks=str(masks))) == pairs


@pytest.mark.parametrize(
    ("images", "masks", "settings", "words"),
    [
        (["a.png", "b.png"], ["a.png"], {}, ["no mask in data/masks for b.png", "all-zero mask"]),
        (["a.png"], ["a.png", "b.png"], {}, ["no image in data/images for b.png", "same name"]),
        (["a.png", "c.png"], ["a.png", "b.png"], {}, ["for c.png", "for b.png"]),
        (["a.png"], ["a_mask.png"], {}, ["no mask in data/masks for a.png", "for a_mask.png", "not a_mask.png"]),
        ([f"{i}.png" for i in range(9)], ["0.png"], {}, ["1.png, 2.png, 3.png, 4.png, 5.png and 3 more"]),
        (["a.png", "A.png"], ["a.png"], {}, ["no mask", "for A.png"]),
        (["a.png", "a.TIF"], ["a.png"], {}, ["data/images holds", "a.png", "a.TIF", "one file for each stem"]),
        (["a.png"], [], {}, ["data/masks holds no image", ".tiff"]),
        (["a.txt", ".a.png"], ["a.png"], {}, ["data/images holds no image", ".png"]),
        (["a.png"], None, {}, ["--data data has no folder masks", "images/ and masks/"]),
        (None, None, {}, ["--data data has no folder images and no folder masks", "must hold"]),
        (["a.png"], ["a.png"], {"data": "dta"}, ["--data dta is not a folder", "must hold"]),
        (["a.png"], ["a.png"], {"data": ""}, ["--data is not given", "--images and --masks"]),
        (
            ["a.png"],
            ["a.png"],
            {"data": "", "images": "x", "masks": "data/masks"},
            ["x does not exist", "name a folder"],
        ),
        (["a.png"], ["a.png"], {"data": "", "images": "data/images", "masks": "data/masks/a.png"}, ["is not a folder"]),
        (["a.png"], ["a.png"], {"data": "", "images": "data/images", "masks": "data/images/."}, ["two folders"]),
    ],
)
def test_bad_folders_are_refused(images, masks, settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    if images is not None:
        folder_of(tmp_path / "data" / "images", *images)
    if masks is not None:
        folder_of(tmp_path / "data" / "masks", *masks)
    with pytest.raises(UserError) as caught:
        files.find_pairs(DataConfig(**{"data": "data", **settings}))
    sentence(caught, *words)


GRAY_AND_COLOUR = {
    "gray": np.array([[0, 100, 255]], np.uint8),
    "rgb": np.array([[[0, 0, 0], [255, 0, 0], [10, 20, 30]]], np.uint8),
}


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("gray", "as_stored", [[[0], [100], [255]]]),
        ("gray", "gray", [[[0], [100], [255]]]),
        ("gray", "rgb", [[[0] * 3, [100] * 3, [255] * 3]]),
        ("rgb", "rgb", [[[0, 0, 0], [255, 0, 0], [10, 20, 30]]]),
        ("rgb", "gray", [[[0], [76], [18]]]),  # 0.299 * 255 = 76.2; 2.99 + 11.74 + 3.42 = 18.15
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channels(name, channels, expected, dtype, tmp_path):
    photometric = "rgb" if name == "rgb" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", GRAY_AND_COLOUR[name].astype(dtype), photometric=photometric)
    pixels = files.read_image(tmp_path / "a.tif", DataConfig(channels=channels))
    assert pixels.dtype == dtype and pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels, expected, atol=0.3 if dtype == np.float32 else 0)


def test_five_channels_cannot_be_made_gray(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError) as caught:
        files.read_image(tmp_path / "a.tif", DataConfig(channels="gray"))
    sentence(caught, "a.tif has 5 channels", "--channels gray")


def with_nan(name):
    """A float image with a border of NaN, in a TIFF, a NIfTI and a float mask's way."""
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    pixels[0] = np.nan

    def write(folder):
        path = folder / name
        if name.endswith(".tif"):
            tifffile.imwrite(path, pixels)
            return path
        nibabel = pytest.importorskip("nibabel")
        nibabel.Nifti1Image(pixels.T[:, :, None], np.diag([-1, -1, 1, 1])).to_filename(path)
        return files.images_in(path)[f"{files.stem_of(path)}_000"]

    return write, pixels


@pytest.mark.parametrize("name", ["a.tif", "a.nii", "a.nii.gz"])
def test_nan_becomes_0_on_wish(name, tmp_path):
    write, pixels = with_nan(name)
    image = write(tmp_path)
    with pytest.raises(UserError) as caught:
        files.read_image(image)
    sentence(caught, name, "4 values that are NaN", "or add --nan background")
    for nan in ("0", "background"):
        found = files.read_image(image, DataConfig(nan=nan))[..., 0]
        np.testing.assert_array_equal(found, np.nan_to_num(pixels, nan=0))


@pytest.mark.parametrize("channels", [(), (3,)])
def test_nan_becomes_0_where_nothing_is_marked(channels, tmp_path):
    """What is not labelled is not marked; a label of another size says nothing."""
    image, data = tmp_path / "a.tif", DataConfig(nan="background")
    pixels = np.arange(3 * 5 * math.prod(channels), dtype=np.float32).reshape(3, 5, *channels)
    pixels[0, 0] = pixels[1, 1] = pixels[2, 4] = np.nan
    tifffile.imwrite(image, pixels, photometric="rgb" if channels else "minisblack")
    label = np.zeros((3, 5), np.uint8)
    label[0, 1:], label[1, 1] = 1, IGNORED
    expected = np.nan_to_num(pixels, nan=0).reshape(3, 5, -1)
    for other in (label, np.ones((5, 3), np.uint8)):
        np.testing.assert_array_equal(files.read_image(image, data, other), expected)
    label[2, 4] = 2
    with pytest.raises(UserError) as caught:
        files.read_image(image, data, label)
    count = math.prod(channels)
    sentence(caught, "a.tif", f"{count} values that are NaN", "where its mask marks something", "or add --nan 0")
    np.testing.assert_array_equal(files.read_image(image, DataConfig(nan="0"), label), expected)


def test_nan_in_a_mask_is_background_on_wish(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[np.nan, 0, 1]], np.float32))
    for nan in ("0", "background"):
        np.testing.assert_array_equal(masks.read_mask(tmp_path / "a.tif", 1, DataConfig(nan=nan)), [[0, 0, 1]])


def test_infinity_is_refused_in_any_case(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[np.inf, 1, np.nan]], np.float32))
    with pytest.raises(UserError) as caught:
        files.read_image(tmp_path / "a.tif", DataConfig(nan="0"))
    sentence(caught, "1 values that are NaN or infinite", "by numbers.")
