"""Image files: every format comes back pixel for pixel, every wrong file is refused in one sentence (trap 8)."""

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from conftest import sentence
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, masks
from unet_lowlevel.data.formats import writing
from unet_lowlevel.errors import UserError

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 30), dtype=np.uint16)
DEEP_RGB = RANDOM.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
BINARY = RANDOM.integers(0, 2, (20, 30), dtype=np.uint8)
SMOOTH = (np.add.outer(np.arange(20), np.arange(30)) * 5).astype(np.uint8)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)


def pillow(array, mode=None, **options):
    """A writer of `array` by Pillow, which chooses the format by the suffix."""
    image = Image.fromarray(np.asarray(array))
    if mode:
        image = image.convert(mode)
    return lambda path: image.save(path, **options)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def pages(*arrays):
    """A TIFF of several pages that need not be alike."""

    def write(path):
        with tifffile.TiffWriter(path) as file:
            for array in arrays:
                file.write(array, photometric="minisblack", metadata=None)

    return write


def palette(colors):
    image = Image.fromarray(BINARY)
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    return lambda path: image.save(path)


def content(data):
    return lambda path: path.write_bytes(data)


def cut(write, share):
    """What is left of a file when a copy stops: `share` bytes from the start, or of the whole if below 1."""

    def write_and_cut(path):
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data)) if 0 < share < 1 else share])

    return write_and_cut


def png(array):
    """A PNG of 16 bits a colour by hand: Pillow does not write them."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0)
    return content(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


ALPHA = np.dstack([RGB, GRAY])
INT16 = (DEEP.astype(np.int32) - 32768).astype(np.int16)
FLOAT = DEEP.astype(np.float32) / 7

GOOD = {
    "gray.png": (pillow(GRAY), GRAY),
    "gray.bmp": (pillow(GRAY), GRAY),
    "gray.gif": (pillow(GRAY), GRAY),
    "gray.tif": (tiff(GRAY), GRAY),
    "rgb.png": (pillow(RGB), RGB),
    "rgb.bmp": (pillow(RGB), RGB),
    "rgb.tiff": (tiff(RGB), RGB),
    "rgba.png": (pillow(ALPHA), RGB),
    "rgba.tif": (tiff(ALPHA, photometric="rgb", extrasamples=["unassalpha"]), RGB),
    "gray_alpha.png": (pillow(RGB[..., :2]), RGB[..., 0]),
    "gray_alpha.tif": (
        tiff(RGB[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        RGB[..., 0],
    ),
    "deep.png": (pillow(DEEP), DEEP),
    "deep.tif": (tiff(DEEP), DEEP),
    "big_endian.tif": (tiff(DEEP, byteorder=">"), DEEP),
    "big.tif": (tiff(DEEP, bigtiff=True), DEEP),
    "deep_rgb.tif": (tiff(DEEP_RGB, photometric="rgb"), DEEP_RGB),
    "planar.tif": (tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
    "channels.tif": (
        tiff(np.dstack([RGB, RGB]), photometric="minisblack", planarconfig="contig"),
        np.dstack([RGB] * 2),
    ),
    "int16.tif": (tiff(INT16), INT16.astype(np.float32)),
    "uint32.tif": (tiff(DEEP.astype(np.uint32)), DEEP.astype(np.float32)),
    "float.tif": (tiff(FLOAT), FLOAT),
    "double.tif": (tiff(FLOAT.astype(np.float64)), FLOAT),
    "half.tif": (tiff(GRAY.astype(np.float16)), GRAY.astype(np.float32)),
    "bits.png": (pillow(BINARY > 0), BINARY),
    "bits.bmp": (pillow(BINARY > 0), BINARY),
    "bits.tif": (pillow(BINARY > 0), BINARY),
    "bits_of_tifffile.tif": (tiff(BINARY > 0), BINARY),
    "white_is_0.tif": (tiff(GRAY, photometric="miniswhite", software="scanner"), 255 - GRAY),
    "zlib.tif": (tiff(RGB, compression="zlib", predictor=True), RGB),
    "lzw.tif": (pillow(GRAY, compression="tiff_lzw"), GRAY),
    "lzw_deep.tif": (pillow(DEEP, compression="tiff_lzw"), DEEP),
    "lzw_rgb.tif": (pillow(RGB, compression="tiff_lzw"), RGB),
    "fax.tif": (pillow(BINARY > 0, compression="group4"), BINARY),
    "tiles.tif": (tiff(RGB, tile=(16, 16)), RGB),
    "palette.png": (palette(COLORS), COLORS[BINARY]),
    "palette.gif": (palette(COLORS), COLORS[BINARY]),
    "palette.tif": (palette(COLORS), COLORS[BINARY]),
    "gray_palette.png": (palette([[7, 7, 7], [9, 9, 9]]), 7 + 2 * BINARY),
    "gray_palette.gif": (palette([[7, 7, 7], [9, 9, 9]]), 7 + 2 * BINARY),
    "UPPER.PNG": (pillow(GRAY), GRAY),
    "Upper.TiF": (tiff(GRAY), GRAY),
    "a name with spaces.png": (pillow(GRAY), GRAY),
    "Lungenflügel_肺 №1.tif": (tiff(GRAY), GRAY),
}


@pytest.mark.parametrize("name", GOOD)
def test_formats_come_back_as_they_were(name, tmp_path, capfd, caplog):
    write, expected = GOOD[name]
    write(tmp_path / name)
    image = files.read_image(tmp_path / name)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert image.dtype == expected.dtype and image.dtype.isnative
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous
    assert files.list_images(tmp_path) == {os.path.splitext(name)[0]: tmp_path / name}
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
@pytest.mark.parametrize("name", ["a.jpg", "b.JPEG"])
def test_jpeg_comes_back_nearly(name, mode, channels, tmp_path):
    pillow(SMOOTH, mode, quality=95)(tmp_path / name)
    image = files.read_image(tmp_path / name)
    assert image.shape == (20, 30, channels) and image.dtype == np.uint8
    assert np.abs(image - SMOOTH[..., None].astype(float)).max() < 16


def test_content_counts_and_not_the_suffix(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", DEEP)
    np.testing.assert_array_equal(files.read_image(tmp_path / "a.png")[..., 0], DEEP)


def called_lzw(write):
    """Marks a TIFF as LZW: only Pillow has that, and its libtiff complains on the terminal."""

    def write_and_mark(path):
        write(path)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["Compression"].overwrite(5)

    return write_and_mark


NAN = np.where(BINARY == 1, np.nan, 1.0).astype(np.float32)


def flipped(write, position):
    def write_and_flip(path):
        write(path)
        data = bytearray(path.read_bytes())
        data[position] ^= 0xFF
        path.write_bytes(data)

    return write_and_flip


BAD_IMAGES = [
    ("empty.png", content(b""), "the file is empty"),
    ("empty.tif", content(b""), "the file is empty"),
    ("text.png", content(b"not an image"), "no known format"),
    ("text.tif", content(b"not an image"), "no known format"),
    ("short.tif", content(b"II*\0"), "intact"),
    ("start.tif", content(b"II*\0\x08\0\0\0\xff\xff"), "intact"),
    ("postscript.png", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "no known format"),
    *[(f"cut{share}.{kind}", cut(pillow(RGB), share), "intact") for kind in ("png", "jpg", "bmp", "gif", "tif")
      for share in (10, 0.5, 0.9, -9)],
    ("no_end.png", cut(pillow(RGB), -12), "truncated"),
    *[(f"tiff{share}.tif", cut(tiff(RGB), share), "intact") for share in (100, 0.5, -3)],
    *[(f"zlib{share}.tif", cut(tiff(RGB, compression="zlib"), share), "intact") for share in (100, 0.5, -3)],
    *[(f"lzw{share}.tif", cut(pillow(RGB, compression="tiff_lzw"), share), "intact") for share in (100, 0.5, -3)],
    ("lzw_start.tif", cut(called_lzw(tiff(RGB, compression="zlib")), -9), "truncated: "),
    ("flipped.png", flipped(pillow(RGB), 900), "checksum"),
    ("deep_rgb.png", png(DEEP_RGB), "16 bits a colour"),
    ("cmyk16.tif", tiff(np.dstack([DEEP_RGB, DEEP]), photometric="separated"), "cut it to 8 bits"),
    ("stack.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), photometric="minisblack"), "5 pages"),
    ("stack_of_imagej.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), imagej=True,
     metadata={"axes": "ZYX"}), "5 pages"),
    ("one_page.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), photometric="minisblack",
     truncate=True), "5 pages"),
    ("sizes.tif", pages(GRAY, GRAY[:7]), "its 2 pages differ in size"),
    ("kinds.tif", pages(GRAY, DEEP), "its 2 pages differ in size or kind"),
    ("hyperstack.tif", tiff(RANDOM.integers(0, 256, (5, 2, 20, 30), dtype=np.uint8), imagej=True,
     metadata={"axes": "ZCYX"}), "the axes ZCYX (5x2x20x30)"),
    ("channels_first.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), imagej=True,
     metadata={"axes": "CYX"}), "the axes CYX (5x20x30)"),
    ("volume.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), photometric="minisblack",
     volumetric=True, tile=(16, 16, 16)), "(5, 20, 30)"),
    ("animated.gif", pillow(GRAY, save_all=True, append_images=[Image.fromarray(255 - GRAY)]), "2 pages"),
    ("animated.png", pillow(GRAY, save_all=True, append_images=[Image.fromarray(255 - GRAY)]), "2 pages"),
    ("nan.tif", tiff(NAN), f"{BINARY.sum()} values that are NaN"),
    ("inf.tif", tiff(np.where(BINARY == 1, np.inf, 1.0)), f"{BINARY.sum()} values that are NaN or infinite"),
    ("large.tif", tiff(np.full((4, 4), 1e300)), "16 values that are NaN or infinite"),
    ("int.tif", tiff(np.full((4, 4), -(2**24) - 1, np.int32)), "int32 values that float32 would change"),
    ("complex.tif", tiff(np.ones((4, 4), np.complex64)), "complex64"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "words"), BAD_IMAGES, ids=[row[0] for row in BAD_IMAGES])
def test_bad_images_are_refused(name, write, words, tmp_path, capfd, caplog):
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        files.read_image(tmp_path / name)
    sentence(caught, tmp_path / name, words)
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize("name", ["gray.png", "gray.bmp", "gray.gif", "rgb.tiff", "zlib.tif", "lzw.tif", "a.jpg"])
def test_too_many_pixels_are_refused_before_they_are_decoded(name, tmp_path):
    (GOOD[name][0] if name in GOOD else pillow(GRAY))(tmp_path / name)
    assert files.read_pixels(tmp_path / name, DataConfig(max_megapixels=0.0006)).shape[:2] == (20, 30)
    if name == "rgb.tiff":  # what lies in the file as it is takes no more than the file itself
        files.read_pixels(tmp_path / name, DataConfig(max_megapixels=0.0005))
        return
    with pytest.raises(UserError) as caught:
        files.read_pixels(tmp_path / name, DataConfig(max_megapixels=0.0005))
    sentence(caught, tmp_path / name, "20x30", "0.0006 megapixels", "--max-megapixels 0.0005")


def test_ten_times_what_pillow_allows_is_read(tmp_path, recwarn):
    """Its limit is a warning at 89 megapixels and an error at twice that; ours is --max-megapixels."""
    Image.new("1", (20000, 20000)).save(tmp_path / "a.png")
    assert files.read_image(tmp_path / "a.png").shape == (20000, 20000, 1)
    assert not recwarn.list


def test_missing_image_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        files.read_image(tmp_path / "a.png")
    sentence(caught, tmp_path / "a.png", "No such file", "replace")


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
THREE = (BINARY + (SMOOTH > 100)).astype(np.uint8)
BAD_MASKS = [
    ("aliased.png", pillow(SMOOTH), 1, [f"{len(np.unique(SMOOTH))} distinct values (0, 5, 10,", " more)", *NEAREST]),
    ("mask.jpg", pillow(BINARY * 255, quality=50), 1, ["distinct values", *NEAREST]),
    ("trimap.png", pillow(np.where(THREE == 2, 128, BINARY * 255).astype(np.uint8)), 1, ["128", *NEAREST]),
    ("three.png", pillow(THREE), 1, ["3 distinct values (0, 1, 2)", "--classes 1", "give --classes 3"]),
    ("three.png", pillow(THREE), 2, ["3 distinct values (0, 1, 2)", "--classes 2", "give --classes 3"]),
    ("two.png", pillow(BINARY * 2), 1, ["2 distinct values (0, 2)", *NEAREST, "give --classes 3"]),
    ("dim.png", pillow(BINARY * 254), 1, ["2 distinct values (0, 254)", *NEAREST]),
    ("one.png", pillow(BINARY * 254 + 1), 1, ["2 distinct values (1, 255)", *NEAREST]),
    ("constant.png", pillow(BINARY * 0 + 7), 1, ["1 distinct values (7)", *NEAREST]),
    ("deep.png", pillow(BINARY * np.uint16(4095)), 1, ["(0, 4095)", *NEAREST]),
    ("minus.tif", tiff(-BINARY.astype(np.int16)), 1, ["(-1.0, 0.0)", *NEAREST]),
    ("half.tif", tiff(BINARY / np.float32(2)), 1, ["(0.0, 0.5)", *NEAREST]),
    ("float.tif", tiff(BINARY * np.float32(65535)), 1, ["(0.0, 65535.0)", *NEAREST]),
    ("binary.png", pillow(BINARY * 255), 4, ["(0, 255)", "the class indices 0..3", "--classes 1"]),
    ("four.png", pillow(THREE * 2), 4, ["(0, 2, 4)", "--classes 4", "the class indices 0..3", "give --classes 5"]),
    ("many.png", pillow(SMOOTH), 4, ["distinct values", "the class indices 0..3"]),
    ("half.tif", tiff(BINARY / np.float32(2)), 3, ["(0.0, 0.5)", "the class indices 0..2"]),
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


@pytest.mark.parametrize("values", [[0, 255, 3], [0, 40, 200], [0, 254]])
def test_gray_edges_are_not_taken_for_class_indices(values, tmp_path):
    pillow(np.array([values], np.uint8))(tmp_path / "a.png")
    with pytest.raises(UserError) as caught:
        masks.read_mask(tmp_path / "a.png", 1)
    assert "give --classes" not in sentence(caught)


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
