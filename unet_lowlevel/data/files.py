"""Finds images, pairs them with their masks, and reads their pixels."""

import dataclasses
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from unet_lowlevel.config import IGNORED, DataConfig
from unet_lowlevel.data.formats import dicom, dicom_series
from unet_lowlevel.data.formats.decoding import decode
from unet_lowlevel.data.formats.volumes import Slice, open_volume
from unet_lowlevel.data.packed import UNFINISHED, Part, is_packed, read_index
from unet_lowlevel.errors import UserError, listed

DEFAULTS = DataConfig()
SUFFIXES = (".nii.gz", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".nii", *dicom.SUFFIXES)
COMMON = (".png", ".tif", ".nii.gz")
# Images of other formats, which are named and not passed over.
UNREADABLE = (
    *(".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr", ".img", ".mnc", ".webp", ".jp2", ".j2k", ".jfif"),
    *(".heic", ".avif", ".ppm", ".pgm", ".pbm", ".svs", ".ndpi", ".mrxs", ".czi", ".lif", ".nd2", ".lsm"),
)


# Handles a user's mistake: `refuse` raises it; others note it, and the files that it names are left out.
OnMistake = Callable[[UserError], None]


def refuse(mistake: UserError) -> NoReturn:
    raise mistake


@dataclass(frozen=True)
class Pair:
    """An image with its mask, or with the masks of its objects.

    Attributes:
        stem: the name of the image's file without the suffix, or VOLUME_007 for a slice.
        image: a file, a slice of a volume, or a part of a packed record.
        masks: one, or one for each object in the image.
        group: images of one group stay on one side of a split: the patient or the volume, else the stem.
        instances: the labels of single objects, if there are any; see `instances.read_instances`.
    """

    stem: str
    image: Path | Slice | Part
    masks: tuple[Path | Slice | Part, ...]
    group: str
    instances: Path | Slice | Part | None = None

    @property
    def tells_objects(self) -> bool:
        """Whether there are instance labels, or a mask for each object; else objects are what is connected."""
        return self.instances is not None or len(self.masks) > 1


def stem_of(path: Path) -> str:
    """The name of a file without its suffix, of `SUFFIXES`."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    stem = path.name[: len(path.name) - len(suffix)]
    if not stem.isprintable():
        raise UserError(
            f"{path.parent} holds {path.name!r}, whose name has characters that cannot be printed: rename it."
        )
    return unicodedata.normalize("NFC", stem)  # macOS may spell one 'ü' in two ways


def images_in(path: Path) -> dict[str, Path | Slice]:
    """{stem: image} of what lies at `path`: one image, the slices of a volume, or all that a folder holds."""
    if path.is_dir():
        return list_images(path)
    stem, volume = stem_of(path), open_volume(path)
    return {stem: path} if volume is None else _slices(stem, path, volume.count)


def _slices(stem: str, path: Path, count: int, series: str = "") -> dict[str, Slice]:
    digits = max(3, len(str(count - 1)))
    return {f"{stem}_{index:0{digits}}": Slice(path, index, series) for index in range(count)}


def volume_stem(stem: str) -> str:
    """The name of the volume whose slice is called `stem`."""
    return stem.rpartition("_")[0]


def list_images(folder: str | Path, on_mistake: OnMistake = refuse) -> dict[str, Path | Slice]:
    """{stem: image} of all images in `folder` itself, sorted by stem.

    Each slice of a volume is an image. Files of one DICOM series are a volume, with the name of the folder; where a
    folder has several, with their SeriesNumber, or else the name of their first file. Folders with DICOM files are
    looked into too: what they hold has their name, or begins with it. Hidden files, files of other kinds and other
    folders are skipped.

    Raises:
        UserError: when there is no such folder. Mistakes in it (a damaged volume, an image of another format, a DICOM
            object that is no image, two of one stem) go to `on_mistake`, which by default raises them too; the rest is
            listed.
    """
    return {stem: images[0] for stem, images in _list(Path(folder), objects=False, on_mistake=on_mistake).items()}


def _list(folder: Path, *, objects: bool, on_mistake: OnMistake = refuse) -> dict[str, tuple[Path | Slice, ...]]:
    """{stem: (image,)} as `list_images`; with `objects` also {name: images} of folders of images, and DICOM masks."""
    found: dict[str, tuple[Path | Slice, ...]] = {}
    origin: dict[str, str] = {}
    mistakes = 0

    def note(mistake: UserError) -> None:
        nonlocal mistakes
        mistakes += 1
        on_mistake(mistake)

    for source, images in _contents(folder, objects, note):
        for stem, image in images.items():
            if stem in found:
                note(UserError(f"{folder} holds {origin[stem]} and {source}: keep one file for each stem, {stem}."))
                continue
            found[stem], origin[stem] = image, source
    if not found and not mistakes:
        on_mistake(UserError(f"{folder} holds no image: put files of the kinds {', '.join(SUFFIXES)} there."))
    return dict(sorted(found.items()))


Contents = Iterator[tuple[str, dict[str, tuple[Path | Slice, ...]]]]


def _contents(folder: Path, objects: bool, on_mistake: OnMistake) -> Contents:
    """Whatever adds images to the list of a folder, with these: (its name, {stem: images})."""
    yield from _images_of(folder, False, objects, on_mistake)
    for inner in _entries(folder):
        if inner.name.startswith(".") or not inner.is_dir():
            continue
        try:
            parts = [part for part in _entries(inner) if _is_image(part)]
            if dicom_series.look_into(inner).number:
                yield from _images_of(inner, True, objects, on_mistake)
            elif objects and parts:
                yield inner.name, {stem_of(inner): tuple(parts)}
        except UserError as mistake:
            on_mistake(mistake)


def _images_of(folder: Path, inner: bool, objects: bool, on_mistake: OnMistake) -> Contents:
    """`_contents` of a folder without the folders in it; `inner`: its name becomes part of the stems."""
    entries, inside = _entries(folder), dicom_series.look_into(folder)
    for mistake in inside.mistakes:
        on_mistake(mistake)
    masks = inside.masks if objects else set()
    alone = len(inside.images | inside.stacks | masks) + len(inside.series) == 1

    def stem(path: Path) -> str:
        if not inner:
            return stem_of(path)
        return stem_of(folder) if alone and dicom.is_dicom(path) else f"{stem_of(folder)}_{stem_of(path)}"

    def images(path: Path) -> dict[str, Path | Slice]:
        if path.name.lower().endswith(UNREADABLE):
            raise UserError(f"{path} is an image of a format that is not read: convert it to {' or '.join(COMMON)}.")
        if path in inside.masks and not objects:
            raise UserError(f"{path} marks what is in DICOM images: put it where the masks are.")
        if path in inside.images or path in inside.masks:
            return {stem(path): path}
        if path in inside.stacks or (_is_image(path) and not dicom.is_dicom(path)):
            volume = open_volume(path)
            return {stem(path): path} if volume is None else _slices(stem(path), path, volume.count)
        return {}

    for path in entries:
        if not path.name.startswith(".") and not path.is_dir():
            try:
                yield path.name, {name: (image,) for name, image in images(path).items()}
            except UserError as mistake:
                on_mistake(mistake)
    for uid, name in _names(inside, stem_of(folder.resolve())).items():
        try:
            series = "" if inside.number == 1 else uid
            found = _slices(name, folder, open_volume(folder, series).count, series)
            yield name, {stem: (image,) for stem, image in found.items()}
        except UserError as mistake:
            on_mistake(mistake)


def _names(inside: dicom_series.DicomFolder, folder: str) -> dict[str, str]:
    """{SeriesInstanceUID: stem}: the folder's for its only series, else with SeriesNumber, or with the first file's."""
    if len(inside.series) == 1:
        return dict.fromkeys(inside.series, folder)
    numbers = [headers[0].series_number for headers in inside.series.values()]
    apart = None not in numbers and len(set(numbers)) == len(numbers)
    return {
        uid: f"{folder}_{headers[0].series_number if apart else stem_of(headers[0].path)}"
        for uid, headers in inside.series.items()
    }


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"is not readable ({error.strerror})"
        if isinstance(error, NotADirectoryError):
            reason = "is not a folder"
        raise UserError(f"{folder} {reason}: name a folder of image files.") from None


def _is_image(path: Path) -> bool:
    """Whether this is an image by its name. A broken link counts too: reading it raises the error."""
    return path.name.lower().endswith(SUFFIXES) and (path.is_file() or path.is_symlink())


def pair_files(images: str | Path, masks: str | Path, on_mistake: OnMistake = refuse) -> list[Pair]:
    """The pairs of two folders, matched and sorted by stem, never by position; or of the slices of two volumes."""
    images, masks = Path(images), Path(masks)
    if masks.is_file() and (images.is_file() or dicom_series.is_series(images)):
        return _pair_volumes(images, masks)
    image_files = {stem: image for stem, (image,) in _list(images, objects=False, on_mistake=on_mistake).items()}
    mask_files = _marking(_list(masks, objects=True, on_mistake=on_mistake), image_files)
    without_mask = [_name(image) for stem, image in image_files.items() if stem not in mask_files]
    without_image = [_name(found[0]) for stem, found in mask_files.items() if stem not in image_files]
    lonely = [f"no mask in {masks} for {listed(without_mask)}"] if without_mask else []
    lonely += [f"no image in {images} for {listed(without_image)}"] if without_image else []
    if lonely:
        on_mistake(
            UserError(
                f"There is {' and '.join(lonely)}: an image and its mask need the same name up to the suffix (a.tif "
                "and a.png, not a_mask.png), and an image without foreground an all-zero mask."
            )
        )
    if os.path.samefile(images, masks):
        raise UserError(f"{images} is named for both images and masks: keep them in two folders.")
    matched = {stem: image for stem, image in image_files.items() if stem in mask_files}
    return _each(lambda stem: _pair(stem, matched[stem], mask_files[stem]), matched, on_mistake)


def _marking(masks: dict[str, tuple[Path | Slice, ...]], images: dict[str, Path | Slice]):
    """`masks`, where a DICOM object that marks a whole volume is the mask of each of its slices."""
    found: dict[str, tuple[Path | Slice, ...]] = {}
    for stem, files in masks.items():
        marked = {}
        if isinstance(files[0], Path) and dicom_series.is_mask(files[0]):
            marked = {
                name: image
                for name, image in images.items()
                if stem == (volume_stem(name) if isinstance(image, Slice) else name)
            }
        found |= {name: (mask,) for name, mask in _marks(files[0], marked).items()} if marked else {stem: files}
    return found


def _marks(mask: Path, images: dict[str, Path | Slice]) -> dict[str, Slice]:
    """{stem: mask} of the images, slices of one volume or a single file, from a DICOM object that marks them."""
    first = next(iter(images.values()))
    return {
        stem: Slice(mask, image.index if isinstance(image, Slice) else 0, marked=first)
        for stem, image in images.items()
    }


def _pair(stem: str, image: Path | Slice, masks: tuple[Path | Slice, ...]) -> Pair:
    return Pair(stem, image, masks, group_of(stem, image))


def _each(make: Callable[..., Pair], items, on_mistake: OnMistake) -> list[Pair]:
    """`make(item)` of each item; items with a mistake are left out."""
    pairs = []
    for item in items:
        try:
            pairs.append(make(item))
        except UserError as mistake:
            on_mistake(mistake)
    return pairs


def _pair_volumes(images: Path, masks: Path) -> list[Pair]:
    """Pairs the slices of two volumes by position; the names of the files do not matter."""
    slices = list(images_in(images).items())
    labels = list((_marks(masks, dict(slices)) if dicom_series.is_mask(masks) else images_in(masks)).items())
    if len(slices) != len(labels):
        raise UserError(
            f"--images {images} has {len(slices)} slices, but --masks {masks} has {len(labels)}: name one volume."
        )
    return [_pair(stem, image, (mask,)) for (stem, image), (_, mask) in zip(slices, labels, strict=True)]


def group_of(stem: str, image: Path | Slice) -> str:
    """The group of an image in a split; see `Pair`."""
    if isinstance(image, Slice):
        return image.volume.group
    return (dicom_series.patient_of(image) if dicom.is_dicom(image) else None) or stem


def _name(image: Path | Slice) -> str:
    return image.name if isinstance(image, Path) else f"{image.path.name} (slice {image.index})"


def find_pairs(data: DataConfig, on_mistake: OnMistake = refuse) -> list[Pair]:
    """The pairs of the data, sorted by stem.

    --images and --masks: two folders, or two volumes. --data: a folder with images/ and masks/; or a folder with one
    folder per image, whose images/ holds the image and whose masks/ holds one file per object; or packed data.
    Instance labels come from --instances, or from instances/ in --data.

    Raises:
        UserError: when there are no such folders. Mistakes in their files (no partner, two of one stem, a damaged
            volume) go to `on_mistake`, which by default raises them too.
    """
    if is_packed(data.data):
        return packed_pairs(data)
    pairs = _find_pairs(data, on_mistake)
    beside = Path(data.data) / "instances"
    folder = data.instances or (beside if data.data and beside.is_dir() else None)
    if folder is None:
        return pairs
    labels = list_images(folder)
    missing = [pair.stem for pair in pairs if pair.stem not in labels]
    if missing:
        on_mistake(
            UserError(f"{folder} has no instance labels for {listed(missing)}: add them, or move the folder away.")
        )
    return [dataclasses.replace(pair, instances=labels.get(pair.stem)) for pair in pairs]


def packed_pairs(data: DataConfig) -> list[Pair]:
    """The pairs of packed data, whose labels and instance labels are as packing has read them."""
    if data.instances:
        raise UserError(
            f"--instances is {data.instances}, but --data {data.data} is packed, with instance labels if it had some: "
            "leave it out, or pack the data anew with it."
        )
    return [
        Pair(
            record.stem,
            Part(record, "image"),
            (Part(record, "label"),),
            record.group,
            Part(record, "instances") if record.instances else None,
        )
        for record in read_index(data.data)[1]
    ]


def _find_pairs(data: DataConfig, on_mistake: OnMistake) -> list[Pair]:
    """`find_pairs` without instance labels."""
    if not data.data and not (data.images and data.masks):
        raise UserError("--data is not given: name a folder with images/ and masks/, or give --images and --masks.")
    if not data.data:
        return pair_files(data.images, data.masks, on_mistake)
    root = Path(data.data)
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if len(missing) == 2 and root.is_dir():
        folders = [folder for folder in _entries(root) if (folder / "images").is_dir()]
        if folders:
            return sorted(_each(_pair_of_folder, folders, on_mistake), key=lambda pair: pair.stem)
    if missing:
        if (root / UNFINISHED).is_file():
            raise UserError(f"--data {root} is packed in part only: finish it by the same command that began it.")
        found = f"has no folder {' and no folder '.join(missing)}" if root.is_dir() else "is not a folder"
        raise UserError(
            f"--data {root} {found}: it must hold images/ and masks/ with files of the same names; two stacks are "
            "named by --images FILE --masks FILE."
        )
    return pair_files(root / "images", root / "masks", on_mistake)


def _pair_of_folder(folder: Path) -> Pair:
    """The image of FOLDER/images with all masks in FOLDER/masks: the layout of the Data Science Bowl 2018."""
    images = list_images(folder / "images")
    masks = list_images(folder / "masks")
    if len(images) > 1:
        raise UserError(
            f"{folder / 'images'} holds {len(images)} images, but of a folder with the masks of single objects one: "
            "put all images into one folder images/ beside masks/ with a folder of masks for each."
        )
    ((stem, image),) = images.items()
    return _pair(stem, image, tuple(masks.values()))


def read_image(image: Path | Slice | str, data: DataConfig = DEFAULTS, label: np.ndarray | None = None) -> np.ndarray:
    """The pixels of an image with this `label` as `read_pixels` gives them, in the channels that --channels asks for.

    gray:  0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601), rounded for integer pixels;  rgb: gray three times.
    """
    pixels = read_pixels(image, data, label=label)
    wanted, channels = {"as_stored": pixels.shape[-1], "gray": 1, "rgb": 3}[data.channels], pixels.shape[-1]
    if channels == wanted:
        return pixels
    if channels not in (1, 3):
        raise UserError(
            f"{image} has {channels} channels, of which --channels {data.channels} can make nothing: convert it to "
            "gray or colour, or leave the flag out."
        )
    if wanted == 3:
        return np.repeat(pixels, 3, axis=-1)
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    return (gray if pixels.dtype.kind == "f" else np.rint(gray)).astype(pixels.dtype)[..., np.newaxis]


def read_pixels(
    image: Path | Slice | str,
    data: DataConfig = DEFAULTS,
    *,
    indices: bool = False,
    label: np.ndarray | None = None,
) -> np.ndarray:
    """The pixels of a file or slice as [H,W,C], alpha dropped: gray C = 1, colour C = 3, TIFF any C.

    uint8 and uint16 stay as stored, 1-bit files become uint8 0 and 1, all other numbers float32. With `indices` a
    palette of colours gives its indices. Refused are unreadable or truncated files, animations, stacks without a named
    slice, infinity, and integers beyond 2^24, which float32 may round. So is NaN, unless --nan says that it becomes 0:
    0 everywhere; background where `label` [H,W], if there is one of that size, is class 0 or `IGNORED`.
    """
    limit = data.max_megapixels
    if isinstance(image, Part):
        array = image.read(limit)
    elif isinstance(image, Slice):
        array = image.volume.read(image.index, limit)
    elif dicom.is_dicom(path := Path(image)):
        array = dicom.read_dicom(path, limit)
    else:
        array = decode(path, indices=indices, max_megapixels=limit)
    if not array.size:
        raise UserError(f"{image} has no pixels, its shape is {array.shape}: replace it.")
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.uint8, np.uint16):
        whole = array.dtype.kind in "iu" and max(-int(array.min()), int(array.max())) <= 2**24
        if not whole and array.dtype.kind != "f":
            raise UserError(
                f"{image} has {array.dtype} values that float32 would change: save it as uint16 or float32."
            )
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite
            array = array.astype(np.float32)
        where, other = "", "background"
        if data.nan != "error":
            missing = np.isnan(array)
            if data.nan == "background" and label is not None and label.shape == array.shape[:2]:
                marked = (label > 0) & (label != IGNORED)
                missing &= ~marked.reshape(*label.shape, *[1] * (array.ndim - 2))
                where, other = " where its mask marks something", "0"
            array[missing] = 0
        count = array.size - np.count_nonzero(np.isfinite(array))
        if count:
            nan = np.isnan(array).any()
            remedy = f"replace them by numbers, or add --nan {other}" if nan else "replace them by numbers"
            raise UserError(
                f"{image} has {count} values that are NaN or infinite in float32{where if nan else ''}: {remedy}."
            )
    return np.ascontiguousarray(array[..., None] if array.ndim == 2 else array)
