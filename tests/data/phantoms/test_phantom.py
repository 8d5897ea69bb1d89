"""The generated slices: pure functions, exact lung masks, not solvable by thresholds; written whole or not at all."""

import itertools
import re

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, io, segmentation

from unet_lowlevel.data.phantoms import phantom
from unet_lowlevel.data.phantoms.phantom import GROUP_REGEX, draw_phantom, write_phantoms
from unet_lowlevel.errors import UserError

SIZE = (128, 128)


@pytest.fixture(scope="module")
def slices():
    """60 slices of 10 patients: images uint8 [60, H, W], lungs bool [60, H, W]."""
    pairs = [draw_phantom(patient, index, 6, SIZE, seed=0) for patient in range(10) for index in range(6)]
    return np.array([image for image, _ in pairs]), np.array([mask for _, mask in pairs]) > 0


def iou(predicted, truth):
    return (predicted & truth).sum() / (predicted | truth).sum()


def test_the_same_arguments_give_the_same_slice_whatever_was_drawn_before():
    keys = [(patient, index) for patient in range(3) for index in range(2)]
    forward = {key: draw_phantom(*key, 2, (64, 64), seed=5) for key in keys}
    for key in reversed(keys):
        for first, again in zip(forward[key], draw_phantom(*key, 2, (64, 64), seed=5), strict=True):
            np.testing.assert_array_equal(first, again)


def test_patients_slices_and_seeds_differ():
    image, mask = draw_phantom(0, 1, 4, (64, 64), seed=0)
    for other in (
        draw_phantom(1, 1, 4, (64, 64), 0),
        draw_phantom(0, 2, 4, (64, 64), 0),
        draw_phantom(0, 1, 4, (64, 64), 1),
    ):
        assert (image != other[0]).mean() > 0.1
        assert (mask != other[1]).any()


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (200, 96), (97, 131), (256, 256)])
def test_shape_type_and_values(size):
    image, mask = draw_phantom(2, 1, 3, size, seed=0)
    assert image.shape == mask.shape == size
    assert image.dtype == mask.dtype == np.uint8
    assert np.unique(mask).tolist() == [0, 255]
    assert np.ptp(image) > 100


def test_the_size_changes_the_sampling_and_not_the_anatomy():
    coarse, fine = (draw_phantom(3, 2, 5, (side, side), seed=0)[1] > 0 for side in (64, 256))
    # Every coarse pixel against the majority of the fine ones within it: only the edges may differ.
    assert iou(coarse, fine.reshape(64, 4, 64, 4).mean(axis=(1, 3)) > 0.5) > 0.95


def test_share_of_the_lungs(slices):
    share = slices[1].mean(axis=(1, 2))
    assert share.min() > 0.05
    assert share.max() < 0.45
    # Small at the top, large in the middle, crescents at the bottom.
    top, *_, bottom = share.reshape(10, 6).mean(axis=0)
    assert share.reshape(10, 6)[:, 2].mean() > 1.3 * max(top, bottom)


def test_neighbouring_slices_resemble_each_other():
    masks = [draw_phantom(4, index, 24, SIZE, seed=0)[1] > 0 for index in range(24)]
    overlaps = [iou(first, second) for first, second in itertools.pairwise(masks)]
    assert np.median(overlaps) > 0.9
    assert min(overlaps) > 0.6  # at the top, where the lungs widen fast


def test_the_mask_is_where_lung_was_drawn(monkeypatch):
    """On the densities, before noise and window: lungs are dark on average; other air exists and is left out."""
    drawn = {}

    def keep(anatomy, z, hounsfield, columns, rows, rng):
        drawn[z] = hounsfield
        return scan(anatomy, z, hounsfield, columns, rows, rng)

    scan = phantom.scan
    monkeypatch.setattr(phantom, "scan", keep)
    for patient in range(4):
        for index in range(8):
            mask = draw_phantom(patient, index, 8, SIZE, seed=0)[1] > 0
            hounsfield = drawn[(index + 0.5) / 8]
            inside, around = ndimage.binary_erosion(mask), ndimage.binary_dilation(mask, iterations=2) & ~mask
            assert hounsfield[inside].mean() < -350
            assert np.median(hounsfield[around]) > -200
            assert not (mask & (hounsfield < -960)).any()  # pure air: nowhere in the lungs,
            if index in (0, 1, 7):
                # but within the body: the windpipe in the upper slices, the stomach's gas in the lowest.
                body = ndimage.binary_fill_holes(ndimage.binary_opening(hounsfield > -500, iterations=2))
                assert (body & ~mask & (hounsfield < -960)).sum() > 10


def test_vessels_and_lesions_belong_to_the_lungs(slices):
    """The lungs are solid: hardly a hole in the mask, though vessels and nodules are as bright as muscle."""
    for mask in slices[1]:
        holes = ndimage.binary_fill_holes(mask) & ~mask
        # What lungs may enclose is large and not lung: the dome of the liver. Nodules and vessels are small.
        labels, count = ndimage.label(holes)
        assert all((labels == label).sum() > 12 for label in range(1, count + 1))
    image, mask = draw_phantom(0, 2, 6, SIZE, seed=0)
    assert (mask[image > filters.threshold_otsu(image)] > 0).sum() > 50


def test_no_global_threshold_finds_the_lungs(slices):
    images, lungs = slices
    inside, outside = (np.bincount(images[where], minlength=256).cumsum() for where in (lungs, ~lungs))
    dark = inside / (lungs.sum() + outside)  # IoU of "gray <= threshold", for every threshold
    bright = (lungs.sum() - inside) / (lungs.sum() + (~lungs).sum() - outside)
    assert max(dark.max(), bright.max()) < 0.40  # 0.80 would do; 0.27 was measured


def test_otsu_without_the_outer_air_is_not_enough(slices):
    found = [segmentation.clear_border(image <= filters.threshold_otsu(image)) for image in slices[0]]
    assert 0.60 < iou(np.array(found), slices[1]) < 0.88  # 0.82 was measured over 240 slices


def test_written_files_are_the_drawn_slices(tmp_path):
    folder = tmp_path / "new" / "phantoms"
    seen = []
    write_phantoms(folder, 5, (64, 80), 2, seed=3, progress=lambda items: seen.extend(items) or seen)
    names = [f"patient-{p:03d}_slice-{s:02d}.png" for p, s in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))]
    assert len(seen) == 5
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks"]
    for part, kind in enumerate(("images", "masks")):
        assert sorted(path.name for path in (folder / kind).iterdir()) == names
        for index, name in enumerate(names):
            expected = draw_phantom(*divmod(index, 2), 2, (64, 80), seed=3)[part]
            np.testing.assert_array_equal(io.imread(folder / kind / name), expected)
    assert [re.search(GROUP_REGEX, name).group() for name in names[1:3]] == ["patient-000", "patient-001"]
    assert [path.name for path in folder.parent.iterdir()] == ["phantoms"]


def test_an_empty_folder_is_filled(tmp_path):
    write_phantoms(tmp_path / "empty", 1, (64, 64), 1, seed=0)
    (tmp_path / "also").mkdir()
    write_phantoms(tmp_path / "also", 1, (64, 64), 1, seed=0)
    assert (tmp_path / "also" / "masks" / "patient-000_slice-00.png").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match=re.escape(str(taken)) + ".*new or empty folder"):
            write_phantoms(taken, 1, (64, 64), 1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    def interrupted(items):
        yield from list(items)[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "phantoms", 4, (64, 64), 2, seed=0, progress=interrupted)
    assert list(tmp_path.iterdir()) == []
