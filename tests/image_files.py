"""Small images, and writers of image files of every kind, whole and damaged."""

import itertools
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.data.formats import writing

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 30), dtype=np.uint16)
DEEP_RGB = RANDOM.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
BINARY = RANDOM.integers(0, 2, (20, 30), dtype=np.uint8)
SMOOTH = (np.add.outer(np.arange(20), np.arange(30)) * 5).astype(np.uint8)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
NAN = np.where(BINARY == 1, np.nan, 1.0).astype(np.float32)


def pillow(array, mode=None, **options):
    """A writer of `array` by Pillow, which chooses the format by the suffix."""
    image = Image.fromarray(np.asarray(array))
    if mode:
        image = image.convert(mode)
    return lambda path: image.save(path, **options)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def pages(*arrays, orientations=()):
    """A TIFF of several pages that need not be alike."""

    def write(path):
        with tifffile.TiffWriter(path) as file:
            for array, orientation in itertools.zip_longest(arrays, orientations, fillvalue=1):
                tag = [(274, "H", 1, orientation, True)]
                file.write(array, photometric="minisblack", metadata=None, extratags=tag)

    return write


def circular(count, to, **options):
    """A TIFF of so many pages, of which the last one leads back to another."""

    def write(path):
        with tifffile.TiffWriter(path, **options) as file:
            for _ in range(count):
                file.write(GRAY, photometric="minisblack", metadata=None)
        with tifffile.TiffFile(path) as file:
            offsets, order = [page.offset for page in file.pages], file.byteorder
        number, size, offset = ("Q", 20, "Q") if options.get("bigtiff") else ("H", 12, "I")
        data = bytearray(path.read_bytes())
        (tags,) = struct.unpack_from(order + number, data, offsets[-1])
        end = offsets[-1] + struct.calcsize(number) + size * tags
        struct.pack_into(order + offset, data, end, offsets[to])
        path.write_bytes(data)

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


def flipped(write, position):
    def write_and_flip(path):
        write(path)
        data = bytearray(path.read_bytes())
        data[position] ^= 0xFF
        path.write_bytes(data)

    return write_and_flip


def png(array):
    """A PNG of 16 bits a colour by hand: Pillow does not write them."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0)
    return content(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def write_pairs(folder, *pairs):
    """Folders images/ and masks/ with the `pairs` of arrays, named a, b, ..., and what `find_pairs` makes of them."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for stem, (image, mask) in zip("abcdef", pairs, strict=False):
        writing.write_image(folder / "images" / f"{stem}.png", image)
        writing.write_image(folder / "masks" / f"{stem}.png", mask)
    return files.find_pairs(DataConfig(data=str(folder)))
