"""From a run folder to masks and scores."""

# Side in pixels of the largest window that is computed at once: about 1 GiB of features for the default network.
TILE_SIZE = 2048
# Of masks: as the images are (DICOM: a segmentation), volumes as NIfTI, or a PNG for each image and slice.
FORMATS = ("auto", "nifti", "png")
# Images that an evaluation scores: those that the run held out, those it has trained on, all of the data.
SPLITS = ("validation", "training", "all")
# Settings of the run that an evaluation may change, for other images; PLACES are replaced together.
PLACES = ("data", "images", "masks")
CHANGES = (*PLACES, "instances", "mask_values", "mask_colors", "ignore_value", "group_regex", "max_megapixels", "nan")
