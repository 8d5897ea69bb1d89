"""From the bytes of an image file to its pixels.

Pillow and tifffile, which scikit-image brings along, are used directly: `skimage.io` would hide what has to be refused
here, such as animations, truncated files and colours cut from 16 to 8 bits.
"""

import contextlib
import logging
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.errors import UserError

# From this size on, what can be mapped from a file is not held in memory.
MAPPED_BYTES = 2**26
MAX_MEGAPIXELS = DataConfig.max_megapixels
# Two threads that take it away at once would not both put it back.
_stderr_away = threading.Lock()
# Pillow's own limit cannot be set for one file, and would refuse what --max-megapixels allows.
Image.MAX_IMAGE_PIXELS = None


def decode(
    path: Path, page: int | None = None, *, indices: bool = False, max_megapixels: float = MAX_MEGAPIXELS
) -> np.ndarray:
    """The pixels of a PNG, JPEG, BMP, GIF or TIFF file without alpha; the decoders stay silent.

    Args:
        path: the file; its content counts, not its suffix.
        page: which page of a TIFF stack; None: the file must have one page only.
        indices: give of a file with a palette of colours the indices into it, not the colours.
        max_megapixels: what has more is refused before it is decoded, unless it lies uncompressed in the file.

    Returns:
        [H,W] or [H,W,C] in the kind that the file has; a palette of grays gives its gray values.

    Raises:
        UserError: when the file is damaged, of an unknown kind, too large, or would lose bits or pages.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
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
    except Exception as error:  # damaged files raise whatever the decoder stumbled on: struct, zlib, SyntaxError, ...
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
    """Raises a `UserError` for more pixels than the limit: a small file can claim to hold any number of them.

    More than four channels count as more pixels, and so do the slices that are decoded at once.
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
    """`colors` [N,3] at the indices `page` [H,W]: gray [H,W] if the whole palette is gray, else [H,W,3] or `page`."""
    if (colors == colors[:, :1]).all():
        return colors[:, 0][page.astype(np.intp)]
    return page if indices else colors[page.astype(np.intp)]


def _decode_pillow(
    file, formats: tuple[str, ...], page: int | None, indices: bool, max_megapixels: float
) -> np.ndarray:
    """See `decode`: by Pillow."""
    with Image.open(file, formats=formats) as image:
        check_pixels(file.name, image.height, image.width, max_megapixels)
        image.verify()  # the check sums of PNG, which load() passes over once it has all pixels
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
    """Without the complaints of libtiff, which it writes past Python, and which the error repeats."""
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
    """Number of pages of a TIFF file that are a stack of slices; 1 for whatever else: `decode` finds what is wrong."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            if not is_tiff(file.read(4)):
                return 1
            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                return _slices(path, tiff)
    except Exception:  # see `decode`
        return 1
    finally:
        logging.disable(level)


def _slices(path: Path | str, tiff: tifffile.TiffFile) -> int:
    """Number of slices of a stack: of the pages, or, where a writer has described them all on one page, of that."""
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
    """See `decode`: by tifffile, or by Pillow where tifffile lacks the decompressor."""
    with tifffile.TiffFile(file) as tiff:
        first, slices = tiff.pages[0], _slices(file.name, tiff)
        if number is None and slices > 1:
            raise ValueError(f"it holds {slices} pages where one image is wanted")
        described = len(tiff.pages) < slices  # all pages by the first, behind which their pixels follow
        page = first if described else tiff.pages[number or 0]
        needed = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        size = os.fstat(file.fileno()).st_size
        if size < needed:  # asked here because libtiff would print its own complaint
            raise ValueError(f"truncated: {size} of {needed} bytes")
        if first.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"its shape is {first.shape}, not height x width x channels")
        if not page.is_memmappable:
            check_pixels(file.name, page.imagelength, page.imagewidth, max_megapixels, channels=page.samplesperpixel)
            if page.is_tiled:  # of which the last may reach far beyond the image
                check_pixels(file.name, page.tilelength, page.tilewidth, max_megapixels)
        try:
            if first.photometric > 3:  # CMYK, YCbCr, Lab: Pillow knows how to make RGB of them
                raise ValueError("imagecodecs")
            if described:
                array = tiff.series[0].asarray(out="memmap").reshape(slices, *first.shape)[number]
            else:
                array = page.asarray(
                    out="memmap" if math.prod(page.shape) * page.dtype.itemsize >= MAPPED_BYTES else None
                )
        except (ValueError, KeyError) as error:
            # The optional package imagecodecs has LZW, JPEG and fax decompression; older versions do not name it.
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
        # White is 0 in such a file, except by these two writers, whose pixel values are meant as they stand.
        elif first.photometric == 0 and not (first.is_imagej or first.software.startswith("tifffile")):
            array = ~array if array.dtype.kind in "bu" else array
        elif len(first.extrasamples) == 1 and (first.photometric == 2 or first.extrasamples[0] in (1, 2)):
            array = array[..., :-1]
        return array
