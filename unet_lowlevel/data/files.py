"""Image files: listing, pairing, reading and writing.

Pillow and tifffile, which scikit-image brings along, are used directly: `skimage.io` would hide what has to be refused
here, such as stacks, truncated files and colours cut from 16 to 8 bits.
"""

import logging
import os
import unicodedata
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from unet_lowlevel.config import DataConfig
from unet_lowlevel.errors import UserError, listed

# From this size on, what can be mapped from a file is not held in memory.
MAPPED_BYTES = 2**26
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Pair:
    """An image file and the mask file of the same stem."""

    stem: str
    image: Path
    mask: Path


def list_images(folder: str | Path) -> dict[str, Path]:
    """{stem: path} of the images in `folder` itself, sorted by stem; hidden and other files are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {found}: name a folder of image files.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            stem = unicodedata.normalize("NFC", path.stem)  # macOS may spell one 'ü' in two ways
            if stem in files:
                raise UserError(f"{folder} holds {files[stem].name} and {path.name}: keep one file for each stem.")
            files[stem] = path
    if not files:
        raise UserError(f"{folder} holds no image: put files of the kinds {', '.join(SUFFIXES)} there.")
    return dict(sorted(files.items()))


def pair_files(images: str | Path, masks: str | Path) -> list[Pair]:
    """The pairs of the folders `images` and `masks`, sorted by stem and matched by it, never by position."""
    image_files, mask_files = list_images(images), list_images(masks)
    without_mask = [path.name for stem, path in image_files.items() if stem not in mask_files]
    without_image = [path.name for stem, path in mask_files.items() if stem not in image_files]
    lonely = [f"no mask in {masks} for {listed(without_mask)}"] if without_mask else []
    lonely += [f"no image in {images} for {listed(without_image)}"] if without_image else []
    if lonely:
        raise UserError(
            f"There is {' and '.join(lonely)}: an image and its mask need the same name up to the suffix (a.tif and "
            "a.png, not a_mask.png), and an image without foreground an all-zero mask."
        )
    if os.path.samefile(images, masks):
        raise UserError(f"{images} is named for both images and masks: keep them in two folders.")
    return [Pair(stem, path, mask_files[stem]) for stem, path in image_files.items()]


def find_pairs(data: DataConfig) -> list[Pair]:
    """The pairs of DATA/images and DATA/masks, or of --images and --masks."""
    if not data.data and not (data.images and data.masks):
        raise UserError("--data is not given: name a folder with images/ and masks/, or give --images and --masks.")
    if not data.data:
        return pair_files(data.images, data.masks)
    root = Path(data.data)
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if missing:
        found = f"has no folder {' and no folder '.join(missing)}" if root.is_dir() else "is not a folder"
        raise UserError(f"--data {root} {found}: it must hold images/ and masks/ with files of the same names.")
    return pair_files(root / "images", root / "masks")


def read_image(path: str | Path) -> np.ndarray:
    """The pixels of a file as [H,W,C], alpha dropped: gray C = 1, colour C = 3, TIFF any C.

    uint8 and uint16 stay as stored, 1-bit files become uint8 0 and 1, all other numbers float32. Refused are
    unreadable or truncated files, stacks of several pages, NaN, infinity, and whole numbers not exact in float32.
    """
    array = _decode(Path(path))
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.uint8, np.uint16):
        whole = array.dtype.kind in "iu" and max(-int(array.min()), int(array.max())) <= 2**24
        if not whole and array.dtype.kind != "f":
            raise UserError(f"{path} has {array.dtype} values that float32 would change: save it as uint16 or float32.")
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite
            array = array.astype(np.float32)
        count = array.size - np.count_nonzero(np.isfinite(array))
        if count:
            raise UserError(f"{path} has {count} values that are NaN or infinite in float32: replace them by numbers.")
    return np.ascontiguousarray(array[..., None] if array.ndim == 2 else array)


def _decode(path: Path) -> np.ndarray:
    """The pixels of a file without alpha, [H,W] or [H,W,C], or a `UserError`; the decoders stay silent."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            head = file.read(26)
            file.seek(0)
            if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                pages, array = _decode_tiff(file)
            elif head.startswith(b"\x89PNG") and head[24:25] == b"\x10" and head[25:26] != b"\0":
                raise ValueError("Pillow would cut it to 8 bits; 16 bits a colour are read from uncompressed TIFF only")
            else:
                pages, array = _decode_pillow(file, ("PNG", "JPEG", "BMP", "GIF"))
    except MemoryError:
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
    if pages > 1:
        raise UserError(f"{path} holds {pages} pages, but stacks are not read yet: split it into one file a slice.")
    return array


def _from_palette(indices: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """`colors` [N,3] at `indices` [H,W]: gray [H,W] if the whole palette is gray, else [H,W,3]."""
    return (colors[:, 0] if (colors == colors[:, :1]).all() else colors)[indices.astype(np.intp)]


def _decode_pillow(file, formats: tuple[str, ...]) -> tuple[int, np.ndarray]:
    """(number of pages, pixels of the first) by Pillow."""
    with Image.open(file, formats=formats) as image:
        image.verify()  # the check sums of PNG, which load() passes over once it has all pixels
    file.seek(0)
    with Image.open(file, formats=formats) as image:
        pages = getattr(image, "n_frames", 1)
        image.load()
        if image.mode == "P":
            colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return pages, _from_palette(np.asarray(image), colors)
        array = np.asarray(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB") else image)
        return pages, array if array.ndim == 2 else array[..., 0] if array.shape[2] == 2 else array[..., :3]


def _decode_tiff(file) -> tuple[int, np.ndarray]:
    """(number of pages, pixels of the first) by tifffile, or by Pillow where tifffile lacks the decompressor."""
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        pages = max(len(tiff.pages), tiff.series[0].size // page.size)
        needed = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        size = os.fstat(file.fileno()).st_size
        if size < needed:  # asked here because libtiff would print its own complaint
            raise ValueError(f"truncated: {size} of {needed} bytes")
        if page.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"its shape is {page.shape}, not height x width x channels")
        try:
            if page.photometric > 3:  # CMYK, YCbCr, Lab: Pillow knows how to make RGB of them
                raise ValueError("imagecodecs")
            array = page.asarray(out="memmap" if page.nbytes >= MAPPED_BYTES else None)
        except (ValueError, KeyError) as error:
            # The optional package imagecodecs has LZW, JPEG and fax decompression; older versions do not name it.
            if "imagecodecs" not in str(error) and "not supported" not in str(error):
                raise
            file.seek(0)
            array = _decode_pillow(file, ("TIFF",))[1]
            if array.dtype.itemsize < page.dtype.itemsize:
                raise ValueError("Pillow would cut it to 8 bits; more are read from uncompressed RGB only") from None
            return pages, array
        if page.axes == "SYX":
            array = np.moveaxis(array, 0, -1)
        if page.photometric == 3:
            array = _from_palette(array, (page.colormap.T >> 8).astype(np.uint8))
        # White is 0 in such a file, except by these two writers, whose pixel values are meant as they stand.
        elif page.photometric == 0 and not (page.is_imagej or page.software.startswith("tifffile")):
            array = ~array if array.dtype.kind in "bu" else array
        elif len(page.extrasamples) == 1 and (page.photometric == 2 or page.extrasamples[0] in (1, 2)):
            array = array[..., :-1]
        return pages, array


def read_mask(path: str | Path, classes: int) -> np.ndarray:
    """The class indices [H,W] uint8 of a mask file; colour files count as gray if their channels are equal.

    One or two classes: the file holds nothing but 0 and 1, or 0 and 255 (or 0 and 65535 in 16 bits), or one of
    these values throughout; the index is 0 where it is 0, else 1. K >= 3 classes: it holds the indices 0..K-1.
    Anything else is refused: guessing a threshold would turn a wrong file into wrong labels.
    """
    mask = read_image(path)
    if (mask != mask[..., :1]).any():
        colors = [tuple(color) for color in np.unique(mask.reshape(-1, mask.shape[-1]), axis=0).tolist()]
        raise UserError(
            f"{path} has {len(colors)} distinct colours ({listed(colors, 3)}): save the mask in gray with the class "
            "index of each pixel as its value, or with 0 and 255 for background and foreground."
        )
    mask = mask[..., 0]
    values = np.unique(mask)
    tops = (1, 255, 65535) if mask.dtype == np.uint16 else (1, 255)
    if classes > 2 and np.isin(values, np.arange(classes)).all():
        return mask.astype(np.uint8)
    if classes <= 2 and any(np.isin(values, (0, top)).all() for top in tops):
        return (mask != 0).astype(np.uint8)
    kind = f"the class indices 0..{classes - 1}" if classes > 2 else "the two values 0 and 255"
    hint = ""
    if classes > 2 and np.isin(values, (0, 255)).all():
        hint = ", or give --classes 1 if 255 is the one kind of foreground"
    elif classes <= values[-1] < 64 and np.isin(values, np.arange(64)).all():  # gray edges reach higher than that
        hint = f", or give --classes {int(values[-1]) + 1} if the values are class indices"
    raise UserError(
        f"{path} has {len(values)} distinct values ({listed(values.tolist())}), which does not fit --classes "
        f"{classes}: save it as PNG with {kind}, resized with nearest neighbour{hint}."
    )


def refuse_existing(path: Path) -> None:
    """Raises a `UserError` when there is something at `path`: nothing is ever overwritten."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already and is not overwritten: move it away or name another folder.")


def make_output(output: Path) -> None:
    """Makes the folder of --output where it does not exist yet, or raises a `UserError`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made ({error.strerror}): choose another folder.") from None


def write_image(path: str | Path, array: np.ndarray) -> None:
    """Writes [H,W] or [H,W,1] uint8 or uint16, or [H,W,3] uint8, as PNG: whole or not at all, never over a file."""
    path = Path(path)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if path.suffix.lower() != ".png" or (array.ndim, array.dtype) not in ((2, np.uint8), (2, np.uint16), (3, np.uint8)):
        raise ValueError(f"no PNG of {array.dtype} {array.shape} as {path.name}")
    refuse_existing(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        Image.fromarray(array).save(temporary, format="PNG")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} is not writable ({error.strerror or error}): name a folder with room in it.") from None
    finally:
        temporary.unlink(missing_ok=True)
