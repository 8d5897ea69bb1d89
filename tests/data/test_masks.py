"""What values, colours and files of masks mean; the masks without any such setting are in test_files.py."""

import numpy as np
import pytest
import tifffile
from conftest import TINY, sentence
from PIL import Image

from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, masks
from unet_lowlevel.errors import UserError

VALUES = np.array([[0, 63, 126], [189, 252, 0]], np.uint8)
COLOURS = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 255, 255]]], np.uint8)


@pytest.mark.parametrize(
    ("array", "text", "classes", "expected"),
    [
        (VALUES, "0:0,63:1,126:2,189:3,252:4", 5, [[0, 1, 2], [3, 4, 0]]),
        (VALUES, "0:0,63:1,126:0,189:0,252:0", 1, [[0, 1, 0], [0, 0, 0]]),
        (VALUES, " 0:0, 63:0,126:0 ,189:1,252:1,99:1", 1, [[0, 0, 0], [1, 1, 0]]),
        (VALUES.astype(np.uint16) * 100, "0:0,6300:1,12600:1,18900:1,25200:1", 2, [[0, 1, 1], [1, 1, 0]]),
        (VALUES.astype(np.float32) / 2 - 1, "-1:0,30.5:1,62:2,93.5:1,125:2", 3, [[0, 1, 2], [1, 2, 0]]),
        (1 - VALUES // 252, "0:1,1:0", 1, [[0, 0, 0], [0, 1, 0]]),
    ],
)
def test_values_become_classes(array, text, classes, expected, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", array)
    label = masks.read_mask(tmp_path / "a.tif", classes, DataConfig(mask_values=text))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)


COLOUR_TEXT = "000000:0,ff0000:1,#00FF00:2,ffffff:0"


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "tiff"])
def test_colours_become_classes(kind, tmp_path):
    image, path = Image.fromarray(COLOURS), tmp_path / ("a.tif" if kind == "tiff" else "a.png")
    if kind == "palette":
        image = image.quantize(4)
    (image.convert("RGBA") if kind == "rgba" else image).save(path)
    label = masks.read_mask(path, 3, DataConfig(mask_colors=COLOUR_TEXT))
    np.testing.assert_array_equal(label, [[0, 1], [2, 0]])


def test_gray_counts_as_a_colour(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
    label = masks.read_mask(tmp_path / "a.png", 1, DataConfig(mask_colors="000000:0,ffffff:1"))
    np.testing.assert_array_equal(label, [[0, 1]])


@pytest.mark.parametrize(
    ("array", "settings", "words"),
    [
        (VALUES, {"mask_values": "0:0,63:1"}, ["the values 126, 189, 252", "--mask-values", "add 126:CLASS"]),
        (VALUES, {"mask_values": "0:0,63"}, ["--mask-values has '63'", "0:0,128:1"]),
        (VALUES, {"mask_values": "red:0"}, ["--mask-values has 'red:0'"]),
        (VALUES, {"mask_values": "0:2"}, ["--mask-values names class 2", "0..1", "--classes"]),
        (VALUES, {"mask_values": "0:-1"}, ["--mask-values names class -1"]),
        (COLOURS, {"mask_values": "0:0"}, ["4 distinct colours", "--mask-colors"]),
        (COLOURS, {"mask_colors": "000000:0"}, ["the colours 00ff00, ff0000, ffffff", "add 00ff00:CLASS"]),
        (COLOURS, {"mask_colors": "0:0"}, ["--mask-colors has '0:0'", "000000:0,ff0000:1"]),
        (VALUES * np.uint16(200), {"mask_colors": "000000:0"}, ["uint16", "--mask-colors", "convert"]),
    ],
)
def test_what_does_not_fit_is_refused(array, settings, words, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(UserError) as caught:
        masks.read_mask(tmp_path / "a.tif", 1, DataConfig(**settings))
    sentence(caught, *words)


def objects(folder):
    """Three objects, two of them touching, each in a file of its own, and all of them together."""
    folder.mkdir(parents=True)
    whole = np.zeros((20, 30), np.uint8)
    for i, place in enumerate([np.s_[2:8, 3:9], np.s_[8:12, 3:9], np.s_[15:18, 20:29]]):
        single = np.zeros((20, 30), np.uint8)
        single[place] = 255
        whole[place] = 1
        Image.fromarray(single).save(folder / f"{i:x}2f.png")
    return whole


def test_objects_in_a_folder_for_each_image(tmp_path):
    expected = objects(tmp_path / "masks" / "a")
    (tmp_path / "masks" / "a" / "notes.txt").touch()
    (tmp_path / "images").mkdir()
    for stem in "ab":
        Image.fromarray(expected).save(tmp_path / "images" / f"{stem}.png")
    Image.fromarray(1 - expected).save(tmp_path / "masks" / "b.png")
    a, b = files.find_pairs(DataConfig(data=str(tmp_path)))
    assert (a.stem, len(a.masks), b.stem, len(b.masks)) == ("a", 3, "b", 1)
    np.testing.assert_array_equal(masks.read_label(a.masks, 1), expected)
    np.testing.assert_array_equal(masks.read_label(b.masks, 1), 1 - expected)


def bowl(folder, stems):
    """The layout of the Data Science Bowl 2018: STEM/images/STEM.png, STEM/masks/ with a file for each object."""
    for stem in stems:
        whole = objects(folder / stem / "masks")
        (folder / stem / "images").mkdir()
        Image.fromarray(whole * np.uint8(200)).save(folder / stem / "images" / f"{stem}.png")
    return whole


def test_the_layout_of_the_data_science_bowl(tmp_path):
    expected = bowl(tmp_path / "stage1_train", ["00ae", "7f12", "03d4"])
    (tmp_path / "stage1_train" / "labels.csv").touch()
    pairs = files.find_pairs(DataConfig(data=str(tmp_path / "stage1_train")))
    assert [(pair.stem, pair.group, len(pair.masks)) for pair in pairs] == [
        (stem, stem, 3) for stem in ("00ae", "03d4", "7f12")
    ]
    np.testing.assert_array_equal(masks.read_label(pairs[0].masks, 1), expected)
    flags = [flag for flag in TINY if flag not in ("--group-regex", "patient-\\d+")]
    assert train(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "stage1_train"), *flags]) == 0


def test_several_images_of_single_objects_are_refused(tmp_path):
    bowl(tmp_path, ["00ae"])
    Image.new("L", (30, 20)).save(tmp_path / "00ae" / "images" / "other.png")
    with pytest.raises(UserError) as caught:
        files.find_pairs(DataConfig(data=str(tmp_path)))
    sentence(caught, tmp_path / "00ae" / "images", "holds 2 images")


def test_objects_of_different_sizes_are_refused(tmp_path):
    objects(tmp_path / "a")
    Image.new("L", (3, 4)).save(tmp_path / "a" / "z.png")
    paths = tuple(sorted((tmp_path / "a").iterdir()))
    with pytest.raises(UserError) as caught:
        masks.read_label(paths, 1)
    sentence(caught, paths[0], "20x30", paths[-1], "4x3")


def test_real_objects_are_those_of_the_instances(datasets, tmp_path):
    """A DSB2018 image taken apart into its nuclei and put together again."""
    pair = files.find_pairs(DataConfig(data=str(datasets / "dsb2018")))[0]
    instances = files.read_image(next((datasets / "dsb2018" / "instances").glob(f"{pair.stem}.*")))[..., 0]
    (tmp_path / "a").mkdir()
    for k in range(1, instances.max() + 1):
        Image.fromarray((instances == k) * np.uint8(255)).save(tmp_path / "a" / f"{k}.png")
    label = masks.read_label(tuple((tmp_path / "a").iterdir()), 1)
    np.testing.assert_array_equal(label, instances > 0)


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
