"""From a run folder to masks and scores."""

from collections.abc import Mapping

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.packed import as_packed

# Side in pixels of the largest window that is computed at once: about 1 GiB of features for the default network.
TILE_SIZE = 2048
# Of masks: as the images are (DICOM: a segmentation), volumes as NIfTI, or a PNG for each image and slice.
FORMATS = ("auto", "nifti", "png")
# Outlines of objects, {what --objects-as names: the end of the file's name}.
OUTLINES = {"geojson": "_objects.geojson", "roi": "_rois.zip", "coco": "_coco.json"}
# Images that an evaluation scores: those that the run held out, those it has trained on, all of the data.
SPLITS = ("validation", "training", "all")
# Settings of the run that an evaluation may change, for other images; PLACES are replaced together.
PLACES = ("data", "images", "masks")
CHANGES = (*PLACES, "instances", "channels", "mask_values", "mask_colors", "ignore_value", "group_regex")
CHANGES += ("max_megapixels", "nan")


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """The settings of a run with {setting: value} of `CHANGES`, and those of packed data; or a `UserError`."""
    if any(name in changes for name in PLACES):  # these replace all places of the training
        changes = dict.fromkeys((*PLACES, "instances"), "") | dict(changes)
    config = settings.check(settings.apply(config, changes))
    return as_packed(config, {*changes, "classes"})
