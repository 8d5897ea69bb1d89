"""Image files: every format comes back pixel for pixel, every wrong file is refused in one sentence (trap 8)."""

import os
import resource
import struct
import tracemalloc
import zlib

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
from PIL import Image, ImageOps
from tifffile import _imagecodecs

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.data.formats import decoding
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
    ("cmyk16.tif", tiff(np.dstack([DEEP_RGB, DEEP]), photometric="separated"), "16-bit SEPARATED"),
    ("stack.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), photometric="minisblack"), "5 pages"),
    ("stack_of_imagej.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), imagej=True,
     metadata={"axes": "ZYX"}), "5 pages"),
    ("one_page.tif", tiff(RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8), photometric="minisblack",
     truncate=True), "5 pages"),
    *[(f"circle{i}.tif", circular(count, to, **options), "its pages lead back to each other")
      for i, (count, to, options) in enumerate(CIRCLES)],
    ("sizes.tif", pages(GRAY, GRAY[:7]), "its 2 pages differ in size"),
    ("kinds.tif", pages(GRAY, DEEP), "its 2 pages differ in size or kind"),
    ("half.tif", pages(GRAY, GRAY[::2, ::2]), "its 2 pages differ in size or kind"),
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


def test_more_than_pillow_allows_is_read(tmp_path, monkeypatch, recwarn):
    """Its limit is a warning, and at twice that an error; ours is --max-megapixels."""
    Image.new("1", (30, 20)).save(tmp_path / "a.png")
    for limit in (599, 299):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert files.read_image(tmp_path / "a.png").shape == (20, 30, 1)
    assert not recwarn.list


def test_strips_that_lie_over_each_other_are_refused(tmp_path):
    """Each of many could be as long as the file, which would be read for hours."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, compression="zlib", rowsperstrip=1)
    end = path.stat().st_size
    with open(path, "ab") as file:
        file.write(zlib.compress(GRAY[0]) + bytes(50_000))
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripOffsets"].overwrite([end] * 20)
        file.pages[0].tags["StripByteCounts"].overwrite([50_000] * 20)
    with pytest.raises(UserError) as caught:
        files.read_pixels(path)
    sentence(caught, path, "lie over each other")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_equal_tiles_may_be_one(compression, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), tile=(16, 16), compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        tag = file.pages[0].tags["TileOffsets"]
        tag.overwrite([tag.value[0]] * len(tag.value))
    assert not files.read_pixels(tmp_path / "a.tif").any()


def test_a_gif_of_45_bytes_takes_no_gigabytes(tmp_path):
    """Pillow makes room for what a frame covers when it opens the file, here 63090x26652 pixels."""
    frame = b"\x21\xf9\x04\x09\0\0\0\0" + b"\x2c\0\0\0\0" + struct.pack("<2H", 26652, 63090) + b"\0\x08\x02\x4c\x01\0;"
    path = tmp_path / "a.gif"
    for size in ((26652, 63090), (1, 1)):
        path.write_bytes(b"GIF89a" + struct.pack("<2H", *size) + b"\0\0\0" + frame)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UserError) as caught:
            files.read_pixels(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # KiB
        sentence(caught, path, "1681 megapixels, more than --max-megapixels 500", "raise that limit")


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


@pytest.fixture
def without_imagecodecs(monkeypatch):
    """What tifffile does where the package imagecodecs is missing."""
    deflate, packbits = _imagecodecs.zlib_decode, _imagecodecs.packbits_decode
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", _imagecodecs)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {8: deflate, 32946: deflate, 32773: packbits})
    monkeypatch.setattr(tifffile.TIFF, "UNPREDICTORS", {2: _imagecodecs.delta_decode})


@pytest.fixture(params=[True, False], ids=["imagecodecs", "no imagecodecs"])
def codecs(request):
    """Whether imagecodecs is there; a test writes its files, and then asks for what is read without it."""
    pytest.importorskip("imagecodecs")
    return lambda: request.param or request.getfixturevalue("without_imagecodecs")


# Where a viewer shows the pixel that is stored in row r and column c of h x w: TIFF 6.0, "Orientation".
SHOWN = {
    1: lambda r, c, h, w: (r, c),
    2: lambda r, c, h, w: (r, w - 1 - c),
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),
    4: lambda r, c, h, w: (h - 1 - r, c),
    5: lambda r, c, h, w: (c, r),
    6: lambda r, c, h, w: (c, h - 1 - r),
    7: lambda r, c, h, w: (w - 1 - c, h - 1 - r),
    8: lambda r, c, h, w: (w - 1 - c, r),
}


def shown(stored, orientation):
    height, width = stored.shape[:2]
    result = np.empty((width, height, *stored.shape[2:]) if orientation > 4 else stored.shape, stored.dtype)
    for row in range(height):
        for column in range(width):
            result[SHOWN[orientation](row, column, height, width)] = stored[row, column]
    return result


@pytest.mark.parametrize("orientation", [*SHOWN, 0, 9])
@pytest.mark.parametrize("kind", ["L.png", "RGB.png", "P.png", "RGBA.png", "L.jpg", "RGB.jpg", "CMYK.jpg"])
def test_images_are_turned_as_viewers_turn_them(kind, orientation, tmp_path):
    mode, _, suffix = kind.partition(".")
    image, exif = Image.fromarray(RGB).convert(mode), Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    for name, options in (("stored", {}), ("turned", {"exif": exif})):
        image.save(tmp_path / f"{name}.{suffix}", **options)
    for indices in (False, True):
        stored, turned = (files.read_pixels(tmp_path / f"{n}.{suffix}", indices=indices) for n in ("stored", "turned"))
        np.testing.assert_array_equal(turned, shown(stored, orientation if orientation in SHOWN else 1))
    with Image.open(tmp_path / f"turned.{suffix}") as opened:
        by_pillow = np.asarray(ImageOps.exif_transpose(opened).convert("L" if mode == "L" else "RGB"))
    np.testing.assert_array_equal(files.read_pixels(tmp_path / f"turned.{suffix}").squeeze(), by_pillow)


def test_damaged_exif_turns_nothing(tmp_path):
    for i, exif in enumerate([b"Exif\0\0", b"Exif\0\0XX*\0\x08\0\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"]):
        pillow(GRAY, exif=exif)(tmp_path / f"{i}.png")
        np.testing.assert_array_equal(files.read_pixels(tmp_path / f"{i}.png")[..., 0], GRAY)


COLORMAP = RANDOM.integers(0, 256, (3, 256), dtype=np.uint8).astype(np.uint16) * 257
LAYOUTS = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "tiles": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 3},
    "deflate": {"compression": "zlib", "predictor": True},
    "PackBits": {"compression": "packbits"},
    "LZW": {"compression": "lzw"},
    "LZW, big-endian, predictor": {"compression": "lzw", "byteorder": ">", "predictor": True},
    "LZW, tiles": {"compression": "lzw", "tile": (16, 16)},
    "Zstandard": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
    "JPEG 2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True, "level": 0}},
}
NOT_FOR_PILLOW = ("JPEG 2000",)
SAMPLES = {
    "gray": (GRAY, {"photometric": "minisblack"}, GRAY),
    "RGB": (RGB, {"photometric": "rgb"}, RGB),
    "planes": (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
    "palette": (GRAY, {"photometric": "palette", "colormap": COLORMAP}, (COLORMAP.T // 257).astype(np.uint8)[GRAY]),
    "alpha": (ALPHA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
    "associated alpha": (ALPHA, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, RGB),
    "a fourth channel": (ALPHA, {"photometric": "rgb", "extrasamples": ["unspecified"]}, RGB),
    "gray, alpha": (RGB[..., :2], {"photometric": "minisblack", "extrasamples": ["assocalpha"]}, RGB[..., 0]),
    "white is 0": (GRAY, {"photometric": "miniswhite", "software": "scanner"}, 255 - GRAY),
    "white is 0, by tifffile": (GRAY, {"photometric": "miniswhite"}, GRAY),
}


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pixels_of_a_tiff_do_not_depend_on_its_compression(layout, samples, codecs, tmp_path, monkeypatch):
    """Nor on its orientation, on whether imagecodecs is there, nor on whether it is mapped into memory."""
    stored, options, expected = SAMPLES[samples]
    options = options | ({"planarconfig": "contig"} if stored.shape[-1] in (2, 4) else {})
    for orientation in SHOWN if layout in ("plain", "deflate", "LZW") else (1, 6):
        tag = [(decoding.ORIENTATION, "H", 1, orientation, True)]
        try:
            tifffile.imwrite(tmp_path / f"{orientation}.tif", stored, **options, **LAYOUTS[layout], extratags=tag)
        except (ValueError, NotImplementedError) as error:
            pytest.skip(f"not written by tifffile: {error}")
    with_codecs = codecs() is True
    for path in sorted(tmp_path.iterdir()):
        if not with_codecs and layout in NOT_FOR_PILLOW:
            with pytest.raises(UserError) as caught:
                files.read_pixels(path)
            sentence(caught, path, "JPEG2000", "imagecodecs", "pip install 'unet-lowlevel[formats]'")
            continue
        pixels = files.read_pixels(path)
        np.testing.assert_array_equal(pixels.squeeze(), shown(expected, int(path.stem)))
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "MAPPED_BYTES", 1)
            np.testing.assert_array_equal(files.read_pixels(path), pixels)
        if samples == "palette":
            indices = files.read_pixels(path, indices=True)[..., 0]
            np.testing.assert_array_equal(indices, shown(GRAY, int(path.stem)))


NUMBERS = {
    "int8": INT16.astype(np.int8),
    "int16": INT16,
    "uint16": DEEP,
    "RGB16": DEEP_RGB,
    "int32": INT16.astype(np.int32),
    "float32": FLOAT,
    "float16": GRAY.astype(np.float16),
}


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "JPEG 2000"])
def test_numbers_of_more_than_8_bits_or_with_a_sign_are_right_or_refused(layout, numbers, codecs, tmp_path):
    """Pillow would swap the bytes of some, and take the sign of others for a bit."""
    array, path, options = NUMBERS[numbers], tmp_path / "a.tif", LAYOUTS[layout]
    predictor = {"predictor": 3 if array.dtype.kind == "f" else 2} if "predictor" in options else {}
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(path, array, photometric=photometric, **(options | predictor))
    by_itself = options.get("compression") in (None, "zlib") and predictor.get("predictor") != 3
    if codecs() is True or by_itself:
        np.testing.assert_array_equal(files.read_pixels(path).squeeze(), array)
        return
    with pytest.raises(UserError) as caught:
        files.read_pixels(path)
    sentence(caught, path, "imagecodecs is missing", "pip install 'unet-lowlevel[formats]'")


@pytest.mark.parametrize(("bits", "dtype"), [(4, np.uint8), (12, np.uint16)])
def test_packed_numbers_are_as_stored(bits, dtype, codecs, tmp_path):
    array = (DEEP >> (16 - bits)).astype(dtype)
    for name, photometric in (("dark", "minisblack"), ("white", "miniswhite")):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, array, bitspersample=bits, photometric=photometric, software="scanner")
    if codecs() is True:
        np.testing.assert_array_equal(files.read_pixels(tmp_path / "dark.tif")[..., 0], array)
        np.testing.assert_array_equal(files.read_pixels(tmp_path / "white.tif")[..., 0], 2**bits - 1 - array)
    else:
        with pytest.raises(UserError) as caught:
            files.read_pixels(tmp_path / "dark.tif")
        sentence(caught, f"{bits}-bit", "pip install 'unet-lowlevel[formats]'")


def test_a_palette_with_alpha_gives_its_colours(codecs, tmp_path):
    image = Image.fromarray(BINARY)
    image.putpalette(COLORS.tobytes())
    image = image.convert("PA")
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        image.save(tmp_path / f"{compression}.tif", compression=compression)
    codecs()
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(files.read_pixels(path), COLORS[BINARY])
        np.testing.assert_array_equal(files.read_pixels(path, indices=True)[..., 0], BINARY)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_colours_are_converted_alike(mode, codecs, tmp_path):
    """Whatever the compression: JPEG, which blurs, must only come near."""
    smooth = np.dstack([SMOOTH, SMOOTH // 2, 255 - SMOOTH])
    image = (
        Image.fromarray(smooth).convert(mode) if mode != "LAB" else Image.merge("LAB", Image.fromarray(smooth).split())
    )
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        if compression != "jpeg" or mode != "LAB":
            image.save(tmp_path / f"{compression}.tif", compression=compression)
    codecs()
    expected = files.read_pixels(tmp_path / "raw.tif")
    assert expected.shape == (20, 30, 3)
    np.testing.assert_allclose(expected, np.asarray(image.convert("RGB")), atol=2)
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(files.read_pixels(path), expected, atol=16 if path.stem == "jpeg" else 0)


def test_coefficients_of_ycbcr_count_without_compression_too(codecs, tmp_path):
    """Those of ITU-R BT.709 (tag 529), with Cb and Cr between samples 1 and 2 pixels apart (tag 530)."""
    tags = [(529, "2I", 3, (2125, 10000, 7154, 10000, 721, 10000), True)]
    for compression in (None, "lzw"):
        tifffile.imwrite(
            tmp_path / f"{compression}.tif", RGB, photometric="ycbcr", compression=compression, subsampling=(1, 1),
            extratags=tags,
        )  # fmt: skip
    codecs()
    y, cb, cr = np.moveaxis(RGB.astype(float), -1, 0) - [[[0]], [[128]], [[128]]]
    red, blue = y + (2 - 2 * 0.2125) * cr, y + (2 - 2 * 0.0721) * cb
    green = (y - 0.2125 * red - 0.0721 * blue) / 0.7154
    expected = np.dstack([red, green, blue]).clip(0, 255)
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(files.read_pixels(path), expected, atol=2)


def test_what_pillow_cannot_decode_is_named_with_what_can(codecs, tmp_path):
    """A Pillow without Zstandard fails as on a damaged file."""
    for name, array, compression in (("a.tif", GRAY, "lzw"), ("b.tif", RGB, "jpeg")):
        tifffile.imwrite(tmp_path / name, array, compression=compression)
        with tifffile.TiffFile(tmp_path / name, mode="r+b") as file:
            file.filehandle.seek(file.pages[0].dataoffsets[0])
            file.filehandle.write(b"\xff" * 40)
    with_codecs = codecs() is True
    for name in ("a.tif", "b.tif"):
        with pytest.raises(UserError) as caught:
            files.read_pixels(tmp_path / name)
        message = sentence(caught, tmp_path / name, "intact")
        assert ("[formats]" in message) == (name == "a.tif" and not with_codecs)


def test_other_metadata_does_not_turn_a_tiff(codecs, tmp_path):
    """The tag alone does, whatever the compression."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for compression in (None, "lzw"):
        tag = [(700, "B", len(xmp), xmp, True)]
        tifffile.imwrite(tmp_path / f"{compression}.tif", GRAY, compression=compression, extratags=tag)
    codecs()
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(files.read_pixels(path)[..., 0], GRAY)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "lzma", "packbits", "jpeg2000"])
def test_small_strips_that_hold_much_are_refused_before_they_take_memory(compression, codecs, tmp_path):
    """Deflate makes 1000 bytes of one, other compressions more; the header claims 20x30 pixels."""
    imagecodecs = pytest.importorskip("imagecodecs")
    much = np.zeros((4000, 4000), np.uint8)
    packed = {
        "zlib": lambda: zlib.compress(much),
        "lzw": lambda: imagecodecs.lzw_encode(much.tobytes()),
        "zstd": lambda: imagecodecs.zstd_encode(much.tobytes()),
        "lzma": lambda: imagecodecs.lzma_encode(much.tobytes()),
        "packbits": lambda: b"\x81\0" * (much.size // 128),
        "jpeg2000": lambda: imagecodecs.jpeg2k_encode(much),
    }[compression]()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, iter([packed]), shape=GRAY.shape, dtype=GRAY.dtype, compression=compression)
    codecs()
    tracemalloc.start()
    try:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            assert not files.read_pixels(path).any()  # no more than was claimed
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        assert tracemalloc.get_traced_memory()[1] < 4e6
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 12_000  # KiB
    finally:
        tracemalloc.stop()
