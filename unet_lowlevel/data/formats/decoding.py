"""Decodes image files.

Pillow and tifffile, on which scikit-image depends, are used directly: `skimage.io` would hide what must be refused,
such as animations, truncated files and colours cut from 16 to 8 bits.
"""

import contextlib
import logging
import math
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.errors import UserError

# Arrays from this size on are mapped from a file, if possible, instead of held in memory.
MAPPED_BYTES = 2**26
MAX_MEGAPIXELS = DataConfig.max_megapixels
# Two threads that redirect stderr at the same time would not restore it.
_stderr_away = threading.Lock()
# Pillow's own limit holds for all files, and would refuse what --max-megapixels allows.
Image.MAX_IMAGE_PIXELS = None


def decode(
    path: Path, page: int | None = None, *, indices: bool = False, max_megapixels: float = MAX_MEGAPIXELS
) -> np.ndarray:
    """The pixels of a PNG, JPEG, BMP, GIF or TIFF file without alpha; the decoders print nothing.

    Args:
        path: the file; its content counts, not its suffix.
        page: which page of a TIFF stack; None: the file must have one page only.
        indices: return the indices of a palette of colours, not the colours.
        max_megapixels: larger images are refused before decoding, except uncompressed TIFF.

    Returns:
        [H,W] or [H,W,C] in the dtype of the file; a palette of grays gives its gray values.

    Raises:
        UserError: when the file is damaged, of an unknown kind, too large, or would lose bits or pages.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block
            raise ValueError("it is no file")
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            head = file.read(26)
            file.seek(0)
            if is_tiff(head):
                return _decode_tiff(file, page, indices, max_megapixels)
            if head.startswith(b"\x89PNG") and head[24:25] == b"\x10" and head[25:26] != b"\0":
                raise ValueError("Pillow would cut it to 8 bits; 16 bits a colour are read from uncompressed TIFF only")
            return _decode_pillow(file, ("PNG", "JPEG", "BMP", "GIF"), page, indices, max_megapixels)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # damaged files raise anything: struct.error, zlib.error, SyntaxError, ...
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is of no known format" if head else "the file is empty"
        raise UserError(
            f"{path} is not readable as an image ({reason}): replace it by an intact PNG, JPEG, BMP, GIF or "
            "uncompressed TIFF file."
        ) from None
    finally:
        logging.disable(level)


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


def _from_palette(page: np.ndarray, colors: np.ndarray, indices: bool) -> np.ndarray:
    """`colors` [N,3] at the indices `page` [H,W]: gray [H,W] if all are gray, else [H,W,3], or `page` for `indices`."""
    if (colors == colors[:, :1]).all():
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
        image.load()
        if image.mode == "P":
            colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return _from_palette(np.asarray(image), colors, indices)
        array = np.asarray(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB") else image)
        return array if array.ndim == 2 else array[..., 0] if array.shape[2] == 2 else array[..., :3]


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Hides the messages of libtiff, which writes them past Python; the error repeats them."""
    with _stderr_away:
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(nowhere)


def tiff_pages(path: Path) -> int:
    """Number of slices of a TIFF stack; 1 for anything else, in which `decode` finds what is wrong."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            if not is_tiff(file.read(4)):
                return 1
            with _open_tiff(file) as tiff:
                return _slices(path, tiff)
    except Exception:  # see `decode`
        return 1
    finally:
        logging.disable(level)


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


def _slices(path: Path | str, tiff: tifffile.TiffFile) -> int:
    """Number of slices of a stack: its pages, or the slices that a single page describes."""
    if len(tiff.series) > 1:
        raise ValueError(f"its {len(tiff.pages)} pages differ in size or kind")
    series, page = tiff.series[0], tiff.pages[0]
    beside = series.axes.removesuffix(page.axes)
    if len(beside) > 1 or beside in ("C", "S"):
        shape = "x".join(map(str, series.shape))
        raise UserError(
            f"{path} has the axes {series.axes} ({shape}), which are not those of slices: save slices with the axes "
            "ZYX, channels as the last axis."
        )
    return max(len(tiff.pages), series.size // page.size)


def _decode_tiff(file, number: int | None, indices: bool, max_megapixels: float) -> np.ndarray:
    """`decode` by tifffile, or by Pillow where tifffile lacks the decompressor."""
    with _open_tiff(file) as tiff:
        first, slices = tiff.pages[0], _slices(file.name, tiff)
        if number is None and slices > 1:
            raise ValueError(f"it holds {slices} pages where one image is wanted")
        described = len(tiff.pages) < slices  # the first page describes all slices; their pixels follow it
        page = first if described else tiff.pages[number or 0]
        needed = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        size = os.fstat(file.fileno()).st_size
        if size < needed:  # checked here, because libtiff would print its own message
            raise ValueError(f"truncated: {size} of {needed} bytes")
        if first.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"its shape is {first.shape}, not height x width x channels")
        if not page.is_memmappable:
            check_pixels(file.name, page.imagelength, page.imagewidth, max_megapixels, channels=page.samplesperpixel)
            if page.is_tiled:  # a tile may be far larger than the image
                check_pixels(file.name, page.tilelength, page.tilewidth, max_megapixels)
        try:
            if first.photometric > 3:  # CMYK, YCbCr, Lab: Pillow converts them to RGB
                raise ValueError("imagecodecs")
            if described:
                array = tiff.series[0].asarray(out="memmap").reshape(slices, *first.shape)[number]
            else:
                array = page.asarray(
                    out="memmap" if math.prod(page.shape) * page.dtype.itemsize >= MAPPED_BYTES else None
                )
        except (ValueError, KeyError) as error:
            # LZW, JPEG and fax need the optional package imagecodecs; older versions of tifffile do not name it.
            if "imagecodecs" not in str(error) and "not supported" not in str(error):
                raise
            file.seek(0)
            with _without_stderr():
                array = _decode_pillow(file, ("TIFF",), number or 0, indices, max_megapixels)
            if array.dtype.itemsize < first.dtype.itemsize:
                raise ValueError("Pillow would cut it to 8 bits; more are read from uncompressed RGB only") from None
            return array
        if first.axes == "SYX":
            array = np.moveaxis(array, 0, -1)
        if first.photometric == 3:
            array = _from_palette(array, (first.colormap.T >> 8).astype(np.uint8), indices)
        # In such a file 0 is white, except from these two writers, whose values are meant as stored.
        elif first.photometric == 0 and not (first.is_imagej or first.software.startswith("tifffile")):
            array = ~array if array.dtype.kind in "bu" else array
        elif len(first.extrasamples) == 1 and (first.photometric == 2 or first.extrasamples[0] in (1, 2)):
            array = array[..., :-1]
        return array
