"""What masks mean: their values, colours and files."""

import io

import numpy as np
import pytest
import tifffile
from conftest import TINY, sentence
from image_files import BINARY, COLORS, GRAY, NAN, RGB, SMOOTH, content, palette, pillow, tiff
from PIL import Image

from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import IGNORED, DataConfig
from unet_lowlevel.data import files, masks
from unet_lowlevel.data.check.inspection import inspect
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve


def encoded(array, form):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


GRAY_COLORS = np.dstack([BINARY * 255] * 3)
INDICES = (SMOOTH // 50).astype(np.uint8)
GOOD_MASKS = [
    ("a.png", pillow(BINARY * 255), 1, BINARY),
    ("b.png", pillow(BINARY), 1, BINARY),
    ("c.png", pillow(BINARY > 0), 1, BINARY),
    ("c.tif", tiff(BINARY > 0), 1, BINARY),
    ("d.png", pillow(BINARY * np.uint16(65535)), 1, BINARY),
    ("e.tif", tiff(BINARY * np.uint16(255)), 1, BINARY),
    ("f.tif", tiff(BINARY.astype(np.float32)), 1, BINARY),
    ("g.tif", tiff(BINARY.astype(np.int16)), 2, BINARY),
    ("h.png", pillow(GRAY_COLORS), 1, BINARY),
    ("i.png", pillow(np.dstack([GRAY_COLORS, GRAY])), 1, BINARY),
    ("j.gif", pillow(BINARY * 255), 1, BINARY),
    ("k.bmp", pillow(BINARY > 0), 1, BINARY),
    ("l.png", palette([[0, 0, 0], [255, 255, 255]]), 1, BINARY),
    ("m.png", palette([[255, 255, 255], [0, 0, 0]]), 1, 1 - BINARY),
    ("n.png", pillow(BINARY * 0), 1, BINARY * 0),
    ("o.png", pillow(BINARY * 0 + 1), 1, BINARY * 0 + 1),
    ("p.png", pillow(BINARY * 0 + 255), 2, BINARY * 0 + 1),
    ("q.png", pillow(INDICES), int(INDICES.max()) + 1, INDICES),
    ("r.tif", tiff(INDICES.astype(np.uint16)), 255, INDICES),
    ("s.tif", tiff(INDICES.astype(np.float64)), 100, INDICES),
    ("t.png", pillow(BINARY), 3, BINARY),
    ("u.png", palette(COLORS[:2]), 1, BINARY),
    ("v.png", palette(COLORS[::-1]), 3, BINARY),
    ("w.tif", palette(COLORS), 3, BINARY),
]


@pytest.mark.parametrize(("name", "write", "classes", "expected"), GOOD_MASKS, ids=[row[0] for row in GOOD_MASKS])
def test_masks_become_class_indices(name, write, classes, expected, tmp_path):
    write(tmp_path / name)
    label = masks.read_mask(tmp_path / name, classes)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)


NEAREST = ["save it as PNG", "the two values 0 and 255", "nearest neighbour"]
OBJECTS = "--mask-values 0:0,other:1 if they are numbers of objects"
BY_JPEG = ["because JPEG changes values", "export it anew as PNG"]
AS_JPEG = encoded(BINARY * 255, "JPEG")
THREE = (BINARY + (SMOOTH > 100)).astype(np.uint8)
BAD_MASKS = [
    ("aliased.png", pillow(SMOOTH), 1, [f"{len(np.unique(SMOOTH))} distinct values (0, 5, 10,", " more)", *NEAREST]),
    ("mask.jpg", pillow(BINARY * 255, quality=50), 1, ["distinct values", *BY_JPEG]),
    ("called.png", content(AS_JPEG), 1, ["distinct values", *BY_JPEG]),
    ("indices.jpg", content(AS_JPEG), 3, ["distinct values", "--classes 3", *BY_JPEG]),
    ("colours.jpg", pillow(np.kron(COLORS[BINARY], np.ones((4, 4, 1), np.uint8))), 1, ["distinct colours", *BY_JPEG]),
    ("trimap.png", pillow(np.where(THREE == 2, 128, BINARY * 255).astype(np.uint8)), 1, ["128", *NEAREST]),
    ("three.png", pillow(THREE), 1, ["3 distinct values (0, 1, 2)", "--classes 1", "give --classes 3", OBJECTS]),
    ("three.png", pillow(THREE), 2, ["3 distinct values (0, 1, 2)", "--classes 2", "give --classes 3"]),
    ("two.png", pillow(BINARY * 2), 1, ["2 distinct values (0, 2)", *NEAREST, "give --classes 3"]),
    ("dim.png", pillow(BINARY * 254), 1, ["2 distinct values (0, 254)", *NEAREST]),
    ("one.png", pillow(BINARY * 254 + 1), 1, ["2 distinct values (1, 255)", *NEAREST]),
    ("constant.png", pillow(BINARY * 0 + 7), 1, ["1 distinct values (7)", *NEAREST]),
    ("deep.png", pillow(BINARY * np.uint16(4095)), 1, ["(0, 4095)", *NEAREST]),
    ("minus.tif", tiff(-BINARY.astype(np.int16)), 1, ["(-1, 0)", *NEAREST]),
    ("half.tif", tiff(BINARY / np.float32(2)), 1, ["(0, 0.5)", *NEAREST]),
    ("float.tif", tiff(BINARY * np.float32(65535)), 1, ["(0, 65535)", *NEAREST]),
    ("binary.png", pillow(BINARY * 255), 4, ["(0, 255)", "the class indices 0..3", "--classes 1"]),
    ("four.png", pillow(THREE * 2), 4, ["(0, 2, 4)", "--classes 4", "the class indices 0..3", "give --classes 5"]),
    ("label.png", pillow(np.arange(600, dtype=np.uint16).reshape(20, 30)), 1, ["600 distinct values", OBJECTS]),
    ("many.png", pillow(SMOOTH), 4, ["distinct values", "the class indices 0..3"]),
    ("half.tif", tiff(BINARY / np.float32(2)), 3, ["(0, 0.5)", "the class indices 0..2"]),
    (
        "colour.png",
        pillow(RGB),
        1,
        ["distinct colours", " more)", "--mask-colors", "save the mask in gray", "0 and 255"],
    ),
    ("red.png", pillow(COLORS[BINARY]), 3, ["2 distinct colours ((0, 0, 0), (255, 0, 0))", "class index"]),
    ("nan.tif", tiff(NAN), 1, ["NaN"]),
    ("empty.png", content(b""), 1, ["empty"]),
]


@pytest.mark.parametrize(("name", "write", "classes", "words"), BAD_MASKS, ids=[f"{r[0]}-{r[2]}" for r in BAD_MASKS])
def test_bad_masks_are_refused(name, write, classes, words, tmp_path):
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        masks.read_mask(tmp_path / name, classes)
    sentence(caught, tmp_path / name, *words)


def test_jpeg_is_named_where_values_or_colours_have_no_class(tmp_path):
    (tmp_path / "a.jpg").write_bytes(AS_JPEG)
    for flags in ({"mask_values": "0:0,255:1"}, {"mask_colors": "000000:0,ffffff:1"}):
        with pytest.raises(UserError) as caught:
            masks.read_mask(tmp_path / "a.jpg", 1, DataConfig(**flags))
        sentence(caught, tmp_path / "a.jpg", "does not name", *BY_JPEG)


def test_a_turned_image_fits_a_mask_as_viewers_show_it(tmp_path):
    """And a mask is turned too: a scan of 20x30 pixels that stands on its side, orientation 6."""
    exif = Image.Exif()
    exif[274] = 6
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    pillow(GRAY, exif=exif)(tmp_path / "images" / "a.jpg")
    pillow(np.rot90(BINARY, -1) * 255)(tmp_path / "masks" / "a.png")
    pillow(GRAY)(tmp_path / "images" / "b.png")
    pillow(np.rot90(BINARY) * 255, exif=exif)(tmp_path / "masks" / "b.png")
    config = resolve(flags={"data": str(tmp_path)})
    first, second = decoded(files.find_pairs(config.data), config)
    assert first.size == first.image.shape[:2] == (30, 20) and second.size == (20, 30)
    np.testing.assert_array_equal(first.label, np.rot90(BINARY, -1))
    np.testing.assert_array_equal(second.label, BINARY)
    measurements, mistakes = inspect(config)
    assert [m.image.size == m.mask.size for m in measurements] == [True, True] and not mistakes


@pytest.mark.parametrize("values", [[0, 255, 3], [0, 40, 200], [0, 254]])
def test_gray_edges_are_not_taken_for_class_indices(values, tmp_path):
    pillow(np.array([values], np.uint8))(tmp_path / "a.png")
    with pytest.raises(UserError) as caught:
        masks.read_mask(tmp_path / "a.png", 1)
    assert "give --classes" not in sentence(caught)


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


def test_binary_images_of_imagej_mark_255_whatever_it_looks_like(tmp_path):
    """With its inverting colour table 255 is shown in black: in a PNG a palette, in a TIFF white is 0."""
    marked = BINARY * np.uint8(255)
    image = Image.fromarray(marked).convert("P")
    image.putpalette(np.repeat(np.arange(255, -1, -1, np.uint8), 3).tobytes())
    image.save(tmp_path / "a.png")
    tifffile.imwrite(
        tmp_path / "a.tif", marked, photometric="miniswhite", metadata=None, software="", description="ImageJ=1.54f\n"
    )
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(masks.read_mask(tmp_path / name, 1), BINARY)
    shown = files.read_pixels(tmp_path / "a.png")  # as an image
    np.testing.assert_array_equal(shown[..., 0], 255 - marked)


def test_numbers_of_objects_are_one_class(tmp_path):
    """As label images have them, of many objects, in 32 bits, with colours of a palette, and partly labelled."""
    numbers = np.arange(600, dtype=np.uint32).reshape(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    found = masks.read_mask(tmp_path / "a.tif", 1, DataConfig(mask_values="0:0,other:1"))
    np.testing.assert_array_equal(found, numbers > 0)
    partly = DataConfig(mask_values="0:0,other:2,599:1", ignore_value=(7.0,))
    expected = np.where(numbers == 7, IGNORED, np.where(numbers == 599, 1, 2 * (numbers > 0)))
    np.testing.assert_array_equal(masks.read_mask(tmp_path / "a.tif", 3, partly), expected)
    assert masks.stray_values([0, 3, 598], 3, partly) == []
    palette(COLORS)(tmp_path / "b.png")
    found = masks.read_mask(tmp_path / "b.png", 1, DataConfig(mask_values="0:0,other:1"))
    np.testing.assert_array_equal(found, BINARY)


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
    flags = [flag for flag in TINY if flag not in ("--group-regex", "patient-\\d+")] + ["--epochs", "1"]
    assert train(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "stage1_train"), *flags]) in (0, 1)


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


HALF = np.where(np.arange(30) < 15, BINARY, IGNORED)
PARTLY = [
    ("a.png", pillow(np.where(HALF == IGNORED, 254, BINARY * 255).astype(np.uint8)), {"ignore_value": (254.0,)}),
    ("b.png", pillow(HALF.astype(np.uint8)), {"ignore_value": (255.0,)}),
    ("c.tif", tiff(np.where(HALF == IGNORED, np.float32(-1), BINARY)), {"ignore_value": (-1.0, 7.0)}),
    ("d.png", pillow(HALF.astype(np.uint8)), {"mask_values": "0:0,1:1,255:ignore"}),
    ("e.png", pillow(HALF.astype(np.uint8)), {"mask_values": "0:0,1:1", "ignore_value": (255.0,)}),
    ("f.png", pillow((HALF + 1).astype(np.uint8)), {"mask_values": "1:0,2:1", "ignore_value": (0.0,)}),
    (
        "g.png",
        pillow(np.append(COLORS, [[8, 8, 8]], 0).astype(np.uint8)[np.where(HALF == IGNORED, 3, BINARY)]),
        {"mask_colors": "000000:0,ff0000:1,080808:ignore"},
    ),
]


@pytest.mark.parametrize(("name", "write", "flags"), PARTLY, ids=[row[0] for row in PARTLY])
def test_pixels_without_a_label(name, write, flags, tmp_path):
    write(tmp_path / name)
    classes = 1 if name == "a.png" else 3
    data = resolve(flags={**flags, "classes": classes}).data
    assert data.ignored == IGNORED
    label = masks.read_label((tmp_path / name,), classes, data)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, HALF)


def test_all_pixels_count_unless_a_setting_says_otherwise():
    for flags in ({}, {"mask_values": "0:0,255:1"}, {"mask_colors": "000000:0,ff0000:1"}):
        assert resolve(flags=flags).data.ignored is None


def test_a_pixel_that_one_of_the_masks_of_an_image_leaves_out_does_not_count(tmp_path):
    rows = [[0, 255, 254, 0]], [[0, 254, 0, 255]]
    paths = tuple(tmp_path / f"{i}.png" for i in range(2))
    for path, row in zip(paths, rows, strict=True):
        pillow(np.array(row, np.uint8))(path)
    label = masks.read_label(paths, 1, DataConfig(ignore_value=(254.0,)))
    np.testing.assert_array_equal(label, [[0, IGNORED, IGNORED, 1]])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"ignore_value": (0.0,)}, ["--ignore-value is 0", "class 0", "--mask-values"]),
        ({"ignore_value": (254.0, 1.0)}, ["--ignore-value is 1", "class 1", "--mask-values"]),
        ({"ignore_value": (2.0,), "classes": 3}, ["--ignore-value is 2", "class 2", "--mask-values"]),
        ({"ignore_value": (9.0,), "mask_colors": "000000:0"}, ["--ignore-value", "--mask-colors", "808080:ignore"]),
    ],
)
def test_settings_of_labels_that_contradict_each_other(flags, words):
    with pytest.raises(UserError) as caught:
        resolve(flags=flags)
    sentence(caught, *words)


@pytest.mark.parametrize(
    ("mask", "flags", "words"),
    [
        (BINARY * 0 + 254, {"ignore_value": (254.0,)}, ["a.png", "no pixel with a label", "take it out"]),
        (
            BINARY,
            {"mask_values": "0:0,1:1", "ignore_value": (1.0,)},
            ["--ignore-value is 1", "class 1", "leave it out"],
        ),
        (BINARY, {"mask_values": "0:0,1:1,1:ignore"}, ["1:ignore", "another class", "leave one out"]),
        (BINARY, {"mask_values": "0:0,1:ignored"}, ["1:ignored", "pairs as in"]),
        (BINARY, {"mask_values": "0:0,1:255"}, ["class 255", "classes 0..1"]),
        (BINARY * 250, {"ignore_value": (254.0,)}, ["a.png", "2 distinct values (0, 250)"]),
    ],
)
def test_masks_that_are_labelled_wrongly(mask, flags, words, tmp_path):
    pillow(mask.astype(np.uint8))(tmp_path / "a.png")
    with pytest.raises(UserError) as caught:
        masks.read_label((tmp_path / "a.png",), 1, resolve(flags=flags).data)
    sentence(caught, *words)


@pytest.mark.parametrize(
    ("strays", "label"), [({2: 3, 50: 1}, 0), ({65: 1}, 1), ({64: 1}, 0), ({192: 1}, 2), ({190: 1}, 1)]
)
def test_a_few_pixels_between_the_named_values_are_of_the_nearest(strays, label, tmp_path):
    """Of 1000 pixels at most 5; of two values equally near it is the lower."""
    pixels = np.repeat(np.array([0, 128, 255], np.uint8), [500, 300, 200])
    places = np.arange(sum(strays.values()))
    pixels[places] = np.repeat(list(strays), list(strays.values()))
    Image.fromarray(pixels.reshape(20, 50)).save(tmp_path / "a.png")
    found = masks.read_mask(tmp_path / "a.png", 3, DataConfig(mask_values="0:0,128:1,255:2")).reshape(-1)
    assert (found[places] == label).all()
    np.testing.assert_array_equal(found[places.size :], np.repeat([0, 1, 2], [500 - places.size, 300, 200]))


@pytest.mark.parametrize(
    ("value", "count", "named"), [(50, 6, "0:0,128:1"), (200, 1, "0:0,128:1"), (50, 1, "90:0,128:1")]
)
def test_many_pixels_or_values_beyond_those_named_are_refused(value, count, named, tmp_path):
    pixels = np.full(1000, 128, np.uint8)
    pixels[:count] = value
    Image.fromarray(pixels.reshape(20, 50)).save(tmp_path / "a.png")
    with pytest.raises(UserError) as caught:
        masks.read_mask(tmp_path / "a.png", 2, DataConfig(mask_values=named))
    sentence(caught, f"has the values {value}, which --mask-values does not name", f"add {value}:CLASS")
