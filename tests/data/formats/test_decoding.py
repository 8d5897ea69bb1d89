"""Image files: every format comes back pixel for pixel, every wrong file is refused in one sentence (trap 8)."""

import os
import struct

import numpy as np
import pytest
import tifffile
from conftest import sentence
from image_files import (
    BINARY,
    COLORS,
    DEEP,
    DEEP_RGB,
    GRAY,
    NAN,
    RANDOM,
    RGB,
    SMOOTH,
    circular,
    content,
    cut,
    flipped,
    pages,
    palette,
    pillow,
    png,
    tiff,
)
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.errors import UserError

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


# How many pages there are, and to which the last one leads.
CIRCLES = [(1, 0, {}), (3, 1, {}), (3, 2, {"byteorder": ">"}), (150, 120, {})]
CIRCLES += [(9, 0, {"bigtiff": True}), (9, 3, {"bigtiff": True, "byteorder": ">"})]
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
    *[(f"circle{i}.tif", circular(count, to, **options), "its pages lead back to each other")
      for i, (count, to, options) in enumerate(CIRCLES)],
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


def test_more_than_pillow_allows_is_read(tmp_path, recwarn):
    """Its limit is a warning at 89 megapixels and an error at twice that; ours is --max-megapixels."""
    Image.new("1", (14000, 13000)).save(tmp_path / "a.png")
    assert files.read_image(tmp_path / "a.png").shape == (13000, 14000, 1)
    assert not recwarn.list


def test_pages_beyond_the_file_are_refused(tmp_path):
    """Numbers that no file can have stand where the next page should be."""
    for i, (options, form) in enumerate([({}, "<I"), ({"bigtiff": True}, "<Q")]):
        path = tmp_path / f"{i}.tif"
        tifffile.imwrite(path, GRAY, **options)
        data = bytearray(path.read_bytes())
        struct.pack_into(form, data, 8 if options else 4, 256 ** struct.calcsize(form) - 1)
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            files.read_image(path)
        sentence(caught, path, "not readable as an image", "intact")


def test_missing_image_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        files.read_image(tmp_path / "a.png")
    sentence(caught, tmp_path / "a.png", "No such file", "replace")
