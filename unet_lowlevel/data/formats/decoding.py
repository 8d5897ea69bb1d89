"""Decodes image files.

Pillow and tifffile, on which scikit-image depends, are used directly: `skimage.io` would hide what must be refused,
such as animations, truncated files and colours cut from 16 to 8 bits.
"""

import contextlib
import math
import os
import re
import stat
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from unet_lowlevel.config import DataConfig
from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.machine import quiet, without_remarks

# Arrays from this size on are mapped from a file, if possible, instead of held in memory.
MAPPED_BYTES = 2**26
MAX_MEGAPIXELS = DataConfig.max_megapixels
# The tag of a TIFF, or of EXIF in other files.
ORIENTATION, SIDEWAYS = 274, (5, 6, 7, 8)
# Tags that say what the bytes of a page mean: its size, numbers, colours, and where they lie.
MEANINGFUL = {*range(256, 260), 262, 266, 273, ORIENTATION, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339}
# Compressions of a TIFF by their numbers: what tifffile undoes by itself (also none), and with the package imagecodecs
# (also LZW, PackBits, LZMA and Zstandard), which makes room for what a header claims, and for no more.
DEFLATE, JPEG_2000 = (8, 32946), (33003, 33005, 34712)
BY_ITSELF = (1, *DEFLATE)
BY_IMAGECODECS = (*BY_ITSELF, 5, 32773, 34925, 50000, *JPEG_2000)
# Its own reader of uncompressed TIFF knows neither subsampled YCbCr nor coefficients other than those of JPEG.
TiffImagePlugin.READ_LIBTIFF = True


def decode(
    path: Path, page: int | None = None, *, indices: bool = False, max_megapixels: float = MAX_MEGAPIXELS
) -> np.ndarray:
    """The pixels of a PNG, JPEG, BMP, GIF or TIFF file without alpha; the decoders print nothing.

    They lie as viewers show them, turned by the orientation that EXIF or a TIFF names. Of colours that were multiplied
    by alpha the products are returned.

    Args:
        path: the file; its content counts, not its suffix.
        page: which page of a TIFF stack; None: the file must have one page only.
        indices: return the indices of a palette of colours, not the colours.
        max_megapixels: larger images are refused before decoding, except uncompressed TIFF.

    Returns:
        [H,W] or [H,W,C] in the dtype of the file; a palette of grays gives its gray values. CMYK, YCbCr and Lab give
        RGB.

    Raises:
        UserError: when the file is damaged, of an unknown kind, too large, or would lose bits or pages.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block
            raise ValueError("it is no file")
        with without_remarks(), open(path, "rb") as file:
            head = file.read(26)
            file.seek(0)
            if is_tiff(head):
                return _decode_tiff(file, page, indices, max_megapixels)
            if head.startswith(b"\x89PNG") and head[24:25] == b"\x10" and head[25:26] != b"\0":
                raise ValueError("Pillow would cut it to 8 bits; 16 bits a colour are read from TIFF only")
            # Pillow's own limit might refuse what ours allows. But of a GIF it makes room for the first frame before
            # it says how large that is.
            Image.MAX_IMAGE_PIXELS = int(1e6 * max_megapixels) if head.startswith(b"GIF") else None
            return _decode_pillow(file, ("PNG", "JPEG", "BMP", "GIF"), page, indices, max_megapixels)
    except (MemoryError, UserError):
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.search("[0-9]+", str(error))[0])
        raise UserError(
            f"{path} is {pixels / 1e6:.4g} megapixels, more than --max-megapixels {max_megapixels:g}: raise that limit "
            "if the file can be trusted."
        ) from None
    except Exception as error:  # damaged files raise anything: struct.error, zlib.error, SyntaxError, ...
        why = reason(error)
        if isinstance(error, Image.UnidentifiedImageError):
            why = "its content is of no known format" if head else "the file is empty"
        raise UserError(
            f"{path} is not readable as an image ({why}): replace it by an intact PNG, JPEG, BMP, GIF or "
            "uncompressed TIFF file."
        ) from None


def check_pixels(
    path: Path | str, height: int, width: int, max_megapixels: float, *, channels: int = 1, slices: int = 1
) -> None:
    """Raises a `UserError` for more pixels than the limit: a small file can claim any number of pixels.

    More than four channels count as several pixels; the pixels of slices that are decoded together are added.
    """
    pixels = slices * height * width * -(-channels // 4)
    if pixels > 1e6 * max_megapixels:
        of = f" of {channels} channels" if channels > 4 else f" in {slices} slices" if slices > 1 else ""
        raise UserError(
            f"{path} is {height}x{width} pixels{of}, {pixels / 1e6:.4g} megapixels, more than --max-megapixels "
            f"{max_megapixels:g}: raise that limit if the file can be trusted, or store it uncompressed."
        )


def is_tiff(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_jpeg(path: Path | str) -> bool:
    """Whether this is the JPEG file of an image, whatever its suffix."""
    with open(path, "rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels [H,W,...] as viewers show them; `orientation` as in EXIF and TIFF, where numbers but 2..8 are 1."""
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    rows, columns = (-1 if orientation in flipped else 1 for flipped in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return array[::rows, ::columns]


def _from_palette(page: np.ndarray, colors: np.ndarray, indices: bool) -> np.ndarray:
    """`colors` [N,3] at the indices `page` [H,W] or [H,W,index and alpha].

    Returns:
        gray [H,W] if all colours are gray, else [H,W,3], or the indices for `indices`. These also of ImageJ's inverting
        table, which shows as black the 255 of its binary images.
    """
    page = page if page.ndim == 2 else page[..., 0]
    inverting = len(colors) == 256 and (colors == np.arange(255, -1, -1)[:, np.newaxis]).all()
    if (colors == colors[:, :1]).all() and not (indices and inverting):
        return colors[:, 0][page.astype(np.intp)]
    return page if indices else colors[page.astype(np.intp)]


def _decode_pillow(
    file, formats: tuple[str, ...], page: int | None, indices: bool, max_megapixels: float
) -> np.ndarray:
    """`decode` by Pillow."""
    with Image.open(file, formats=formats) as image:
        check_pixels(file.name, image.height, image.width, max_megapixels)
        image.verify()  # checks the checksums of PNG, which load() ignores once it has all pixels
    file.seek(0)
    with Image.open(file, formats=formats) as image:
        pages = getattr(image, "n_frames", 1)
        if page is None and pages > 1:
            raise ValueError(f"it holds {pages} pages, as only a TIFF may")
        if page:
            image.seek(page)
        orientation = 1
        if image.format == "TIFF":
            # Pillow turns a TIFF itself, but also by other metadata than the tag.
            image.info.pop("xmp", None)
            # Raw modes of "RGBa" would divide the colours by alpha.
            image.tile = [
                tile._replace(args=(tile.args[0].replace("RGBa", "RGBA"), *tile.args[1:])) for tile in image.tile
            ]
        image.load()
        if image.format != "TIFF":
            with contextlib.suppress(Exception):  # viewers ignore damaged EXIF
                orientation = image.getexif().get(ORIENTATION, 1)
        if image.mode in ("P", "PA"):
            colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return _turned(_from_palette(np.asarray(image), colors, indices), orientation)
        array = np.asarray(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB") else image)
        array = array if array.ndim == 2 else array[..., 0] if array.shape[2] == 2 else array[..., :3]
        return _turned(array, orientation)


def tiff_pages(path: Path) -> int:
    """Number of slices of a TIFF stack; 1 for anything else, in which `decode` finds what is wrong."""
    try:
        with without_remarks(), open(path, "rb") as file:
            if not is_tiff(file.read(4)):
                return 1
            with _open_tiff(file) as tiff:
                return _slices(path, tiff)[1]
    except Exception:  # see `decode`
        return 1


def _open_tiff(file) -> tifffile.TiffFile:
    """Opens a TIFF after checking that its list of pages has no loop, which tifffile would follow for ever."""
    file.seek(0)
    head = file.read(8)
    order, big = "<" if head[:2] == b"II" else ">", b"+" in head[2:4]
    number, place = struct.Struct(f"{order}{'Q' if big else 'H'}"), struct.Struct(f"{order}{'Q' if big else 'I'}")
    seen = set()
    with contextlib.suppress(struct.error, OSError, OverflowError):  # a page beyond the file, which tifffile reports
        (page,) = place.unpack(file.read(8) if big else head[4:])
        while page:
            if page in seen:
                raise ValueError("its pages lead back to each other")
            seen.add(page)
            file.seek(page)
            (tags,) = number.unpack(file.read(number.size))
            file.seek(tags * (20 if big else 12), os.SEEK_CUR)
            (page,) = place.unpack(file.read(place.size))
    file.seek(0)
    return tifffile.TiffFile(file)


def _slices(path: Path | str, tiff: tifffile.TiffFile) -> tuple[Sequence[tifffile.TiffPage], int]:
    """The pages of a stack, and the number of its slices: one for each page, or as many as a single page describes.

    Smaller copies of a page, as pyramids and previews have them, do not count.
    """
    pages = tiff.pages
    if len(tiff.series) > 1 or not all(level.keyframe.is_subifd for level in tiff.series[0].levels[1:]):
        every = [page.aspage() for page in pages]
        pages = [page for page in every if not page.is_reduced]
        if len({page.hash for page in pages}) != 1 or (len(tiff.series) > 1 and len(pages) == len(every)):
            raise ValueError(f"its {len(every)} pages differ in size or kind")
    first = pages[0]
    series = next(series for series in tiff.series if series.keyframe.hash == first.hash)
    beside = series.axes.removesuffix(first.axes)
    if len(beside) > 1 or beside in ("C", "S"):
        shape = "x".join(map(str, series.shape))
        raise UserError(
            f"{path} has the axes {series.axes} ({shape}), which are not those of slices: save slices with the axes "
            "ZYX, channels as the last axis."
        )
    return pages, max(len(pages), series.size // first.size)


def _decode_tiff(file, number: int | None, indices: bool, max_megapixels: float) -> np.ndarray:
    """`decode` by tifffile, or by Pillow where tifffile lacks the decompressor or does not convert the colours."""
    with _open_tiff(file) as tiff:
        pages, slices = _slices(file.name, tiff)
        if number is None and slices > 1:
            raise ValueError(f"it holds {slices} pages where one image is wanted")
        first = pages[0]
        described = len(pages) < slices  # the first page describes all slices; their pixels follow it
        page = first if described else pages[number or 0].aspage()
        _check_tags(file, tiff.tiff, page)
        orientation = page.tags.valueof(ORIENTATION, 1)
        sideways = (orientation in SIDEWAYS, first.tags.valueof(ORIENTATION, 1) in SIDEWAYS)
        if page.shape != first.shape or page.dtype != first.dtype or len(set(sideways)) > 1:
            raise ValueError(f"its {len(pages)} pages differ in size or kind")
        needed = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        size = os.fstat(file.fileno()).st_size
        if size < needed:  # checked here, because libtiff would print its own message
            raise ValueError(f"truncated: {size} of {needed} bytes")
        if (
            sum(page.databytecounts) > size + 2 * page.nbytes
        ):  # as if each were as long as the file: reading takes hours
            raise ValueError("its strips or tiles lie over each other")
        if page.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"its shape is {page.shape}, not height x width x channels")
        if not page.is_memmappable:
            check_pixels(file.name, page.imagelength, page.imagewidth, max_megapixels, channels=page.samplesperpixel)
            if page.is_tiled:  # a tile may be far larger than the image
                check_pixels(file.name, page.tilelength, page.tilewidth, max_megapixels)
        # In such a file 0 is white, except from these two writers, whose values are meant as stored.
        as_stored = page.photometric != 0 or first.is_imagej or first.software.startswith("tifffile")
        alpha = page.extrasamples in ((1,), (2,)) or (page.photometric == 2 and page.samplesperpixel == 4)
        if not _is_for_tifffile(file, page):
            file.seek(0)
            Image.MAX_IMAGE_PIXELS = None
            try:
                with quiet():  # libtiff writes its messages past Python; the error repeats them
                    array = _decode_pillow(file, ("TIFF",), page.index, indices, max_megapixels)
            except OSError as error:  # says too little: "decoder error -2", "cannot identify image file"
                better = page.compression in BY_IMAGECODECS and 5 not in tifffile.TIFF.DECOMPRESSORS
                hint = "; intact, pip install 'unet-lowlevel[formats]' makes it readable" if better else ""
                raise ValueError(f"Pillow cannot decode this {_kind_of(page)}{hint}") from error
            if page.photometric < 3 and math.prod(array.shape[2:]) != page.samplesperpixel - alpha:
                raise ValueError("Pillow would leave out some of its channels")
            return ~array if page.photometric == 0 and as_stored else array  # Pillow makes 0 white in all of them
        if described:
            array = tiff.series[0].asarray(out="memmap").reshape(slices, *page.shape)[number]
        else:
            large = math.prod(page.shape) * page.dtype.itemsize >= MAPPED_BYTES
            array = page.asarray(out="memmap" if large else None)
        if page.axes == "SYX":
            array = np.moveaxis(array, 0, -1)
        if page.photometric == 3:
            return _turned(_from_palette(array, (page.colormap.T >> 8).astype(np.uint8), indices), orientation)
        if alpha:
            array = array[..., :-1]
        if not as_stored and array.dtype.kind in "bu":
            array = array.dtype.type(2**page.bitspersample - 1) ^ array
        return _turned(array, orientation)


def _check_tags(file, form, page: tifffile.TiffPage) -> None:
    """Raises a `ValueError` if a tag of the page that says what its bytes mean is damaged: tifffile would ignore it."""
    file.seek(page.offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    entries = file.read(count * form.tagsize)
    tags = {struct.unpack_from(f"{form.byteorder}H", entries, i)[0] for i in range(0, len(entries), form.tagsize)}
    if damaged := (tags & MEANINGFUL) - {tag.code for tag in page.tags}:
        raise ValueError(f"its TIFF tag {min(damaged)} is damaged")


def _is_for_tifffile(file, page: tifffile.TiffPage) -> bool:
    """Whether tifffile reads the page; if not, Pillow does: 1 or 8 bits only, of others it changes some values.

    Raises:
        UserError: when neither can, but tifffile could with the package imagecodecs.
        ValueError: when nothing can, or strips or tiles hold more pixels than they should.
    """
    if page.dtype is None:
        raise ValueError("its pixels are numbers of an unknown kind")
    bits, with_codecs = page.bitspersample, 5 in tifffile.TIFF.DECOMPRESSORS
    plain = page.predictor in (1, 2) and bits in (1, 8 * page.dtype.itemsize)
    known, known_to_codecs = (page.photometric <= 3 and page.compression in by for by in (BY_ITSELF, BY_IMAGECODECS))
    if known_to_codecs if with_codecs else known and plain:
        _check_segments(file, page, with_codecs)
        return True
    small = page.dtype.kind in "bu" and (bits in (1, 8) or (bits in (2, 4) and page.photometric == 3))
    if small and page.compression in TiffImagePlugin.COMPRESSION_INFO:
        return False
    if known_to_codecs and not with_codecs:
        raise UserError(
            f"{file.name} is a TIFF of {_kind_of(page)}, for which the package imagecodecs is missing: run pip install "
            "'unet-lowlevel[formats]'."
        )
    raise ValueError(f"TIFF of {_kind_of(page)} is not supported")


def _kind_of(page: tifffile.TiffPage) -> str:
    """What it depends on who can decode a page, as in "16-bit RGB with compression LZW and predictor 2"."""
    colors, compression = (getattr(kind, "name", kind) for kind in (page.photometric, page.compression))
    predictor = f" and predictor {int(page.predictor)}" if page.predictor > 1 else ""
    return f"{page.bitspersample}-bit {colors} with compression {compression}{predictor}"


def _check_segments(file, page: tifffile.TiffPage, with_codecs: bool) -> None:
    """Raises a `ValueError` if a strip or tile holds more than its pixels, where its decompressor would make room."""
    limit = math.prod(page.chunks) * page.dtype.itemsize
    if page.compression in DEFLATE and not with_codecs:

        def excess(data: bytes) -> bool:
            return len(zlib.decompressobj().decompress(data, limit + 1)) > limit

    elif page.compression in JPEG_2000:

        def excess(data: bytes) -> bool:
            """Whether any header in it (ISO/IEC 15444-1, A.5.1) is of more than the pixels."""
            sizes = [struct.unpack(">4x4I16xH", size) for size in re.findall(rb"\xff\x4f\xff\x51(.{38})", data, re.S)]
            return any((x - x0) * (y - y0) * samples > limit for x, y, x0, y0, samples in sizes)

    else:
        return
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        if excess(file.read(count)):
            raise ValueError("its strips or tiles hold more than its pixels")
