"""Files of predictions: their names, their content, and how they are written."""

import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_lowlevel.data.files import volume_stem
from unet_lowlevel.data.formats.decoding import MAPPED_BYTES
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.dicom_series import DicomSeries
from unet_lowlevel.data.formats.nifti import write_nifti
from unet_lowlevel.data.formats.segmentation import NoSegmentation, write_segmentation
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import refuse_existing, write_image
from unet_lowlevel.data.packed import Part
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import OUTLINES
from unet_lowlevel.inference.coco import TOTAL, image_of, write_coco, write_total
from unet_lowlevel.inference.measurements import (
    OBJECTS,
    SUMMARY,
    measured,
    pixel_of,
    table_name,
    write_all,
    write_table,
)
from unet_lowlevel.inference.outlines import Outline, outlines, write_geojson, write_rois
from unet_lowlevel.inference.predictor import Predictor, Tile
from unet_lowlevel.inference.separation import Separation, as_uint16, foreground_probabilities, separate
from unet_lowlevel.inference.unfinished import Before, Note
from unet_lowlevel.packages import optional_package
from unet_lowlevel.pictures import LABEL_PALETTE, overlay

DICOM = ".dcm"
OVERLAY_SIDE = 2048


def output_names(
    stem: str,
    classes: int,
    suffix: str,
    *,
    with_probabilities: bool,
    with_instances: bool = False,
    objects_as: Sequence[str] = (),
    mask_suffix: str | None = None,
) -> dict[str, str]:
    """{kind: file name} of the files for an image or a volume.

    The kinds are mask, instances, table, `objects_as` (of `inference.OUTLINES`), colours, and the numbers of channels.
    The mask may have a suffix of its own.
    """
    names = {"mask": f"{stem}{mask_suffix or suffix}"}
    if with_instances:
        names["instances"] = f"{stem}_instances{suffix}"
        names |= {"table": table_name(stem)} | {kind: f"{stem}{OUTLINES[kind]}" for kind in objects_as}
    if classes > 2 and suffix == ".png":  # viewers of volumes have their own colours
        names["colours"] = f"{stem}_colours.png"
    if with_probabilities and classes == 1:
        names["0"] = f"{stem}_probability{suffix}"
    elif with_probabilities:
        names |= {str(k): f"{stem}_probability_{k}{suffix}" for k in range(classes)}
    return names


def collected(
    predictor: Predictor,
    tiles: Iterable[Tile],
    size: tuple[int, int],
    folder: Path,
    *,
    channels: Sequence[str] = (),
    separation: Separation | None = None,
    source: Path | Slice | Part | None = None,
) -> dict[str, np.ndarray]:
    """The arrays to write for an image, from its probabilities tile by tile.

    Args:
        predictor: decides the class of each pixel.
        tiles: see `Predictor.tiles`.
        size: of the image.
        folder: holds large arrays until they are written; see `canvas`.
        channels: the numbers of the channels whose probabilities are wanted.
        separation: how objects are separated; None: no objects are wanted.
        source: the image, to be named where objects are too many; see `as_uint16`.

    Returns:
        {mask: uint8, 0 and 255 or class numbers; instances: uint16; number of a channel: its probability as uint16},
        each [H, W]; and {classes: int [N], of each of the instances}.
    """
    classes = predictor.config.model.classes
    found = {"mask": canvas(size, np.uint8, folder)} | {k: canvas(size, np.uint16, folder) for k in channels}
    probabilities = canvas((*size, max(classes - 1, 1)), np.float32, folder) if separation else None
    for rows, columns, p in tiles:
        if separation:
            probabilities[rows, columns] = foreground_probabilities(p)
        found["mask"][rows, columns] = predictor.labels(p) * step_of_gray(classes)
        for k in channels:
            found[k][rows, columns] = np.rint(p[..., int(k)] * 65535)
    if separation:
        objects = separate(probabilities, separation)
        found["instances"] = as_uint16(objects.numbers, source)
        found["classes"] = objects.classes
    return found


def write_found(
    folder: Path,
    names: dict[str, str],
    found: dict[str, Any],
    image: np.ndarray,
    classes: int,
    source: Path | None = None,
) -> None:
    """Writes the files `names` (see `output_names`) of the arrays `found` (see `collected`) in `image` [H, W, C].

    `found["table"]` is what `measured` gives, `found["outlines"]` what `outlines` gives, `found["picture"]` what
    `image_of` gives. `source` is the file of the image, to which a DICOM mask refers.
    """
    for what, name in names.items():
        if what == "overlay":
            write_image(folder / name, reduced_overlay(image, found["mask"], classes, found.get("instances")))
        elif what == "colours":
            write_image(folder / name, found["mask"], LABEL_PALETTE)
        elif what == "table":
            write_table(folder / name, found[what])
        elif what in OUTLINES:
            write_objects(folder / name, what, found["outlines"], max(classes - 1, 1), [found["picture"]])
        elif name.endswith(DICOM):
            write_dicom(folder / name, [source], found["mask"][np.newaxis], classes)
        else:
            write_image(folder / name, found[what])


def write_objects(
    path: Path, what: str, objects: Iterable[Outline], classes: int, images: Sequence[dict[str, Any]]
) -> None:
    """Writes the outlines of objects in `images` as `what` of `OUTLINES`."""
    if what == "coco":
        write_coco(path, objects, classes, images)
    else:
        (write_geojson if what == "geojson" else write_rois)(path, objects, classes)


def write_dicom(path: Path, sources: Sequence[Path], masks: np.ndarray, classes: int) -> None:
    """`write_segmentation` of masks as `collected` gives them, [len(sources), H, W]."""
    write_segmentation(path, sources, masks // step_of_gray(classes), max(classes - 1, 1))


@dataclass(frozen=True)
class Wanted:
    """What is to be written for each image; see `folders.predict_files`."""

    classes: int
    with_probabilities: bool = False
    separation: Separation | None = None
    pixel_size: float | None = None
    objects_as: Sequence[str] = ()
    with_overlays: bool = False
    file_format: str = "auto"


class Outputs:
    """The files of a prediction: chooses their names and writes them.

    Attributes:
        names: {stem: {kind: file name}} of what is to be written for an image, without what its volume has.
        done: stems of the images whose files are all finished from before.
        unfinished: names of files that are there, and are to be written again.
        written: number of other images whose masks are written.
        failures: a sentence for each image or volume that cannot be used.
        foreground, lost: number of pixels of the masks, and of those that belong to no object; with objects only.
        note: is told of the files that are written.
    """

    def __init__(
        self, images: dict[str, Path | Slice | Part], folder: Path, wanted: Wanted, before: Before | None = None
    ):
        """Chooses all names; of a prediction that goes on, those of files that are not finished from `before`.

        Raises:
            UserError: when one of them exists already, and not from before, or two are the same.
        """
        self.folder, self.classes, self.written, self.pixel_size = folder, wanted.classes, 0, wanted.pixel_size
        self.failures: list[str] = []
        self.foreground = self.lost = 0
        self.unfinished: list[str] = []
        self.note: Note | None = None
        self.objects_as = wanted.objects_as
        self.separation, instances = wanted.separation, wanted.separation is not None
        classes, file_format = wanted.classes, wanted.file_format
        self.channels = [str(k) for k in range(classes)] if wanted.with_probabilities else []
        self.names: dict[str, dict[str, str]] = {}
        self.volumes: dict[str, VolumeOfMasks] = {}
        kinds = {"with_probabilities": wanted.with_probabilities, "with_instances": instances}
        kinds["objects_as"] = wanted.objects_as
        for stem, image in images.items():
            self.names[stem] = {}
            if not isinstance(image, Slice) or file_format == "png":
                mask_suffix = DICOM if file_format == "auto" and isinstance(image, Path) and is_dicom(image) else None
                self.names[stem] |= output_names(stem, classes, ".png", **kinds, mask_suffix=mask_suffix)
            elif (name := volume_stem(stem)) not in self.volumes:
                volume = image.volume
                suffix = ".nii.gz" if file_format == "nifti" else volume.suffix
                # The frames of a segmentation need places.
                placed = file_format == "auto" and isinstance(volume, DicomSeries) and volume.affine is not None
                names = output_names(name, classes, suffix, **kinds, mask_suffix=DICOM if placed else None)
                self.volumes[name] = VolumeOfMasks(image, volume.count, names, folder, classes)
            if wanted.with_overlays:
                self.names[stem]["overlay"] = f"{stem}_overlay.png"
        # {image or volume: its slices}, in the order of the tables.
        self.slices = {
            volume_stem(stem) if volume else stem: volume.count if volume else 0
            for stem, volume in ((stem, self.volume_of(stem, image)) for stem, image in images.items())
        }
        for name in [OBJECTS, SUMMARY, *[TOTAL] * ("coco" in self.objects_as)] if instances and not before else ():
            refuse_existing(folder / name)
        taken = set()
        for names in (*self.names.values(), *(volume.names for volume in self.volumes.values())):
            for what, name in list(names.items()):
                if before and before.finished(name):
                    del names[what]
                elif before and (folder / name).is_file() and not (folder / name).is_symlink():
                    self.unfinished.append(name)
                else:
                    refuse_existing(folder / name)
                if name in taken:
                    raise UserError(f"{name} would be written for two images of --images: predict them apart.")
                taken.add(name)
                if name.endswith(DICOM):
                    optional_package("highdicom", folder / name)
        self.done = {stem for stem, image in images.items() if not self.names[stem] and not self.rest(stem, image)}

    def volume_of(self, stem: str, source: Path | Slice | Part) -> "VolumeOfMasks | None":
        """The volume of masks that an image belongs to."""
        return self.volumes.get(volume_stem(stem)) if isinstance(source, Slice) else None

    def rest(self, stem: str, source: Path | Slice | Part) -> dict[str, str]:
        """{kind: file name} of what is to be written for the volume of an image."""
        volume = self.volume_of(stem, source)
        return volume.names if volume else {}

    def fail(self, stem: str, source: Path | Slice | Part, error: UserError) -> None:
        """Notes that an image cannot be used; then the masks of its volume are not written either."""
        volume = self.volume_of(stem, source)
        if volume is None:
            self.failures.append(str(error))
        elif not volume.torn:
            volume.torn = True
            self.failures.append(f"{volume.source.path} gets no masks, because of a slice: {error}")

    def write_tables(self) -> None:
        """Writes the tables of the objects of all images, see `write_all`, and `TOTAL` if it is wanted."""
        write_all(self.folder, self.slices, max(self.classes - 1, 1))
        if "coco" in self.objects_as:
            write_total(self.folder, self.slices, max(self.classes - 1, 1))

    def write(self, stem: str, source: Path | Slice | Part, image: np.ndarray, found: dict[str, Any]) -> None:
        """Writes the arrays of an image (see `collected`); those of a volume together with its last slice."""
        volume = self.volume_of(stem, source)
        try:
            if "instances" in found:
                self.foreground += int(np.count_nonzero(found["mask"]))
                self.lost += int(np.count_nonzero(found["mask"] * (found["instances"] == 0)))
                pixel = pixel_of(source, self.pixel_size)
                found["table"] = measured(found["instances"], found["classes"], image, pixel)
                if self.objects_as:
                    index = source.index if isinstance(source, Slice) and volume else None
                    found["outlines"] = outlines(found["instances"], found["classes"], index)
                    found["picture"] = image_of(stem, source, image.shape[:2])
            write_found(self.folder, self.names[stem], found, image, self.classes, source)
            if volume is None or not volume.names:
                self.written += 1
            elif volume.put(source.index, found):
                self.written += volume.count
        except NoSegmentation as error:
            self.failures.append(str(error))
        finally:
            for name in {**self.names[stem], **self.rest(stem, source)}.values():
                if self.note:
                    self.note.wrote(name)


class VolumeOfMasks:
    """Collects the arrays of the slices of a volume until it is complete."""

    def __init__(self, source: Slice, count: int, names: dict[str, str], folder: Path, classes: int):
        self.source, self.count, self.names, self.folder, self.classes = source, count, names, folder, classes
        self.have, self.torn = 0, False
        self.slices: dict[str, np.ndarray] = {}
        self.tables: list[dict[str, np.ndarray]] = [{}] * count
        self.outlines: list[list[Outline]] = [[]] * count
        self.pictures: list[dict[str, Any]] = [{}] * count

    def put(self, index: int, found: dict[str, Any]) -> bool:
        """Takes the arrays of a slice; with the last slice writes all. Returns whether it did."""
        if self.torn:
            return False
        if "table" in self.names:
            here = np.full(found["classes"].size, index)
            self.tables[index] = {"slice": here, **found["table"]}
        self.outlines[index], self.pictures[index] = found.get("outlines", []), found.get("picture", {})
        for what in self.names.keys() - {"table", *OUTLINES}:
            if what not in self.slices:
                self.slices[what] = canvas((self.count, *found[what].shape), found[what].dtype, self.folder)
            self.slices[what][index] = found[what]
        self.have += 1
        if self.have < self.count:
            return False
        volume = self.source.volume
        for what, name in self.names.items():
            path = self.folder / name
            if what == "table":
                write_table(path, {k: np.concatenate([table[k] for table in self.tables]) for k in self.tables[0]})
                continue
            if what in OUTLINES:
                write_objects(path, what, itertools.chain(*self.outlines), max(self.classes - 1, 1), self.pictures)
                continue
            array = self.slices.pop(what)
            if name.endswith(DICOM):
                write_dicom(path, list(dict.fromkeys(volume.files)), volume.as_stored(array), self.classes)
            elif name.endswith(volume.suffix):
                volume.write(path, array)
            else:
                write_nifti(path, array, volume.affine)
        return True


def canvas(size: tuple[int, ...], dtype, folder: Path) -> np.ndarray:
    """An array to be filled. A large one is mapped from a file in `folder`, which disappears with the array."""
    if math.prod(size) * np.dtype(dtype).itemsize < MAPPED_BYTES:
        return np.empty(size, dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would kill the process later
                os.posix_fallocate(file.fileno(), 0, math.prod(size) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "w+", shape=size)
    except OSError as error:
        raise UserError(f"--output {folder} has no room for a mask ({error.strerror}): choose another disk.") from None


def step_of_gray(classes: int) -> np.uint8:
    """The factor from labels to the values of a mask: 0 and 255 for one foreground class, class numbers for several."""
    return np.uint8(255 if classes <= 2 else 1)


def reduced_overlay(image: np.ndarray, mask: np.ndarray, classes: int, numbers: np.ndarray | None = None) -> np.ndarray:
    """`overlay` of the image, mask and objects, subsampled to at most `OVERLAY_SIDE` pixels a side."""
    step = -(-max(mask.shape) // OVERLAY_SIDE)
    labels = mask[::step, ::step] // step_of_gray(classes)
    return overlay(image[::step, ::step], labels, None if numbers is None else numbers[::step, ::step])
