"""Stacks in TIFF files: every way to write one gives the slices, and they train and predict as single files do."""

import json

import numpy as np
import pytest
import tifffile
from conftest import TINY, sentence
from image_files import circular, pages
from kill_and_resume import assert_same_training
from PIL import Image

from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.data.formats import writing
from unet_lowlevel.data.formats.volumes import Slice, open_volume
from unet_lowlevel.errors import UserError

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 256, (5, 20, 30), dtype=np.uint8)
COLOURS = RANDOM.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (5, 20, 30), dtype=np.uint16)


def by_pillow(array, **options):
    first, *others = [Image.fromarray(page) for page in array]
    return lambda path: first.save(path, save_all=True, append_images=others, **options)


def by_tifffile(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def page_by_page(array):
    def write(path):
        with tifffile.TiffWriter(path) as file:
            for page in array:
                file.write(page, photometric="minisblack", metadata=None)

    return write


STACKS = {
    "tifffile": (by_tifffile(STACK, photometric="minisblack"), STACK),
    "zlib": (by_tifffile(STACK, photometric="minisblack", compression="zlib"), STACK),
    "pages": (page_by_page(STACK), STACK),
    "imagej": (by_tifffile(STACK, imagej=True, metadata={"axes": "ZYX"}), STACK),
    "imagej_deep": (by_tifffile(DEEP, imagej=True, metadata={"axes": "TYX"}), DEEP),
    "described_by_the_first": (by_tifffile(DEEP, photometric="minisblack", truncate=True), DEEP),
    "ome": (by_tifffile(DEEP, ome=True, photometric="minisblack", metadata={"axes": "ZYX"}), DEEP),
    "big": (by_tifffile(STACK, photometric="minisblack", bigtiff=True), STACK),
    "colours": (by_tifffile(COLOURS, photometric="rgb"), COLOURS),
    "pillow": (by_pillow(STACK), STACK),
    "pillow_lzw": (by_pillow(STACK, compression="tiff_lzw"), STACK),
    "pillow_lzw_deep": (by_pillow(DEEP, compression="tiff_lzw"), DEEP),
    "pillow_bits": (by_pillow(STACK > 127, compression="group4"), (STACK > 127).astype(np.uint8)),
    "float": (by_tifffile(DEEP / np.float32(7), photometric="minisblack"), DEEP / np.float32(7)),
}


@pytest.mark.parametrize("name", STACKS)
def test_every_slice_of_every_writer(name, tmp_path):
    write, expected = STACKS[name]
    write(tmp_path / "a.tif")
    images = files.list_images(tmp_path)
    assert images == {f"a_{i:03d}": Slice(tmp_path / "a.tif", i) for i in range(5)}
    for i in (3, 0, 4, 1, 2):
        pixels = files.read_image(images[f"a_{i:03d}"])
        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels.reshape(expected[i].shape), expected[i])


def test_single_pages_are_no_volumes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    Image.fromarray(STACK[0]).save(tmp_path / "b.png")
    (tmp_path / "c.tif").write_bytes(b"II*\0")
    assert [open_volume(path) for path in sorted(tmp_path.iterdir())] == [None] * 3


PYRAMID = RANDOM.integers(0, 256, (5, 64, 96), dtype=np.uint8)


def pyramid(path, *, slices=1, colours=False, first_is_small=False, in_subifds=False, **options):
    """A TIFF of `slices` pages, each of them also at a half and a quarter of its size."""
    full = np.stack([PYRAMID] * 3, -1) if colours else PYRAMID
    steps = (4, 1, 2) if first_is_small else (1, 2, 4)
    with tifffile.TiffWriter(path) as file:
        for page in full[:slices]:
            for step in steps:
                file.write(
                    page[::step, ::step], photometric="rgb" if colours else "minisblack", metadata=None,
                    subfiletype=int(step > 1), subifds=2 if in_subifds and step == 1 else None, **options,
                )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"colours": True, "tile": (16, 16)}, {"first_is_small": True}, {"in_subifds": True}],
    ids=str,
)
@pytest.mark.parametrize("slices", [1, 3])
def test_of_pyramids_the_full_size_is_read(slices, options, tmp_path):
    """The other images of a folder with them too."""
    (tmp_path / "in").mkdir()
    pyramid(tmp_path / "in" / "a.tif", slices=slices, **options)
    Image.fromarray(PYRAMID[0]).save(tmp_path / "in" / "b.png")
    images = files.list_images(tmp_path / "in")
    assert list(images) == ["a", "b"] if slices == 1 else ["a_000", "a_001", "a_002", "b"]
    for expected, image in zip(PYRAMID, list(images.values())[:-1], strict=False):
        np.testing.assert_array_equal(
            files.read_image(image), np.stack([expected] * (1 + 2 * ("colours" in options)), -1)
        )


def test_a_series_written_at_several_sizes_is_one_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for step in (1, 2, 4):
            file.write(PYRAMID[:, ::step, ::step], photometric="minisblack", subfiletype=int(step > 1))
    assert open_volume(tmp_path / "a.tif").count == 5
    for i, expected in enumerate(PYRAMID):
        np.testing.assert_array_equal(files.read_pixels(Slice(tmp_path / "a.tif", i))[..., 0], expected)


@pytest.mark.parametrize("described", [False, True])
def test_pages_are_turned_each_by_its_orientation(described, tmp_path):
    path = tmp_path / "a.tif"
    if described:
        tag = [(274, "H", 1, 8, True)]
        tifffile.imwrite(path, STACK, photometric="minisblack", truncate=True, extratags=tag)
        turned = [np.rot90(page) for page in STACK]
    else:
        pages(*STACK, orientations=(6, 8, 5, 7, 6))(path)
        first, second, third, fourth, fifth = STACK
        turned = [np.rot90(first, -1), np.rot90(second), third.T, np.rot90(fourth, 2).T, np.rot90(fifth, -1)]
    for i, expected in enumerate(turned):
        np.testing.assert_array_equal(files.read_pixels(Slice(path, i))[..., 0], expected)


def test_pages_that_lie_and_stand_are_no_stack(tmp_path):
    pages(*STACK, orientations=(1, 2, 3, 6, 4))(tmp_path / "a.tif")
    assert [files.read_pixels(Slice(tmp_path / "a.tif", i)).shape for i in (0, 1, 2, 4)] == [(20, 30, 1)] * 4
    with pytest.raises(UserError) as caught:
        files.read_pixels(Slice(tmp_path / "a.tif", 3))
    sentence(caught, "a.tif", "its 5 pages differ in size or kind")


def test_palettes_of_pages_may_differ(tmp_path):
    maps = [RANDOM.integers(0, 256, (3, 256), dtype=np.uint8) for _ in STACK]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page, colormap in zip(STACK, maps, strict=True):
            file.write(page, photometric="palette", colormap=colormap.astype(np.uint16) * 257, metadata=None)
    for i, (page, colormap) in enumerate(zip(STACK, maps, strict=True)):
        np.testing.assert_array_equal(files.read_pixels(Slice(tmp_path / "a.tif", i)), colormap.T[page])


def test_pages_in_a_circle_are_no_volume(tmp_path):
    """They would be read for ever."""
    for i, (count, to) in enumerate([(1, 0), (5, 2), (150, 120)]):
        circular(count, to)(tmp_path / f"{i}.tif")
        assert open_volume(tmp_path / f"{i}.tif") is None
    assert list(files.list_images(tmp_path)) == ["0", "1", "2"]


def test_a_file_that_has_changed_is_opened_anew(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    assert open_volume(path).count == 5
    tifffile.imwrite(path, STACK[:3], photometric="minisblack")
    assert open_volume(path).count == 3


def test_long_stacks_are_in_order(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.arange(1100, dtype=np.uint16)[:, None, None].repeat(9, 1).repeat(9, 2),
        photometric="minisblack",
    )
    images = files.list_images(tmp_path)
    assert list(images)[:2] == ["a_0000", "a_0001"] and list(images)[-1] == "a_1099"
    assert [image.index for image in images.values()] == list(range(1100))
    assert (files.read_image(images["a_1003"]) == 1003).all()


def test_a_torn_stack_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", truncate=True)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(UserError) as caught:
        files.read_image(Slice(path, 4))
    sentence(caught, path, "not readable")


def write_stacks(folder, count=6, masks=None):
    """Phantoms as folders of PNG files, with stems as those of the slices, and as two stacks."""
    from unet_lowlevel.data.phantoms.phantom import draw_phantom

    drawn = [draw_phantom(0, i, count, (32, 32), 0) for i in range(count)]
    for kind, arrays in zip(("images", "masks"), zip(*drawn, strict=True), strict=True):
        (folder / "files" / kind).mkdir(parents=True)
        for i, array in enumerate(arrays):
            writing.write_image(folder / "files" / kind / f"train-volume_{i:03d}.png", array)
    tifffile.imwrite(folder / "train-volume.tif", np.stack([d[0] for d in drawn]), photometric="minisblack")
    tifffile.imwrite(folder / "train-labels.tif", np.stack([d[1] for d in drawn]), photometric="minisblack")
    return ["--images", str(folder / "train-volume.tif"), "--masks", str(folder / "train-labels.tif")]


SMALL = [flag for flag in TINY if flag not in ("--group-regex", "patient-\\d+")]


def test_a_stack_trains_as_its_slices_do_and_predicts_a_stack(tmp_path, capsys):
    stacks = write_stacks(tmp_path)
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("train-volume_004\ntrain-volume_005\n")
    flags = [*SMALL, "--validation-list", str(held_out)]
    assert train(["--run", str(tmp_path / "png"), "--data", str(tmp_path / "files"), *flags, "--pictures", "0"]) == 0
    # Without a list the last slices are held out: neighbours resemble each other.
    assert train(["--run", str(tmp_path / "tif"), *stacks, *SMALL]) == 0
    for run in ("png", "tif"):
        split = json.loads((tmp_path / run / "split.json").read_text())
        assert split["validation"] == ["train-volume_004", "train-volume_005"] and len(split["training"]) == 4
    assert_same_training(tmp_path / "png", tmp_path / "tif")
    assert evaluate(["--run", str(tmp_path / "tif"), "--output", str(tmp_path / "scores")]) == 0
    # Prediction: a stack in, a stack out, the same pixels.
    images = ["--images", str(tmp_path / "train-volume.tif")]
    flags = ["--run", str(tmp_path / "png"), "--probabilities", "--overlays"]
    assert predict([*flags, *images, "--output", str(tmp_path / "stack")]) == 0
    assert predict([*flags, "--images", str(tmp_path / "files" / "images"), "--output", str(tmp_path / "single")]) == 0
    for what in ("", "_probability"):
        whole = tifffile.imread(tmp_path / "stack" / f"train-volume{what}.tif")
        for i, page in enumerate(whole):
            one = files.read_image(tmp_path / "single" / f"train-volume_{i:03d}{what}.png")[..., 0]
            np.testing.assert_array_equal(page, one)
    assert sorted(path.name for path in (tmp_path / "stack").iterdir()) == [
        "train-volume.tif",
        *[f"train-volume_{i:03d}_overlay.png" for i in range(6)],
        "train-volume_probability.tif",
    ]
    assert "wrote masks of 6 images" in capsys.readouterr().out


def test_volumes_among_files_stay_whole_in_a_split(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in ("anna", "bert"):
            tifffile.imwrite(tmp_path / kind / f"{name}.tif", (STACK > 99) * np.uint8(1), photometric="minisblack")
        Image.fromarray((STACK[0] > 99) * np.uint8(1)).save(tmp_path / kind / "carl.png")
    pairs = files.find_pairs(DataConfig(data=str(tmp_path)))
    assert [(pair.stem, pair.group) for pair in pairs] == [
        *[(f"{name}_00{i}", name) for name in ("anna", "bert") for i in range(5)],
        ("carl", "carl"),
    ]


def test_two_stacks_must_have_as_many_slices(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", STACK[:4], photometric="minisblack")
    with pytest.raises(UserError) as caught:
        files.find_pairs(DataConfig(images=str(tmp_path / "a.tif"), masks=str(tmp_path / "b.tif")))
    sentence(caught, "a.tif has 5 slices", "b.tif has 4")


def test_of_a_volume_with_a_bad_slice_no_masks_are_written(tiny_run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    bad = np.zeros((5, 32, 32), np.float32)
    bad[3, 0, 0] = np.nan
    tifffile.imwrite(tmp_path / "in" / "bad.tif", bad, photometric="minisblack")
    tifffile.imwrite(tmp_path / "in" / "good.tif", bad[:3], photometric="minisblack")
    output = tmp_path / "out"
    assert predict(["--run", str(tiny_run), "--images", str(tmp_path / "in"), "--output", str(output)]) == 3
    assert sorted(path.name for path in output.iterdir()) == ["good.tif", "predict.jsonl"]
    printed, error = capsys.readouterr()
    assert "wrote masks of 3 images" in printed and "5 of 8 images could not be used" in error
    found = tmp_path / "in" / "bad.tif"
    assert f"{found} gets no masks, because of a slice: {found} (slice 3) has 1 values that are NaN" in error


def test_a_stack_of_masks_is_not_overwritten(tiny_run, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 32, 32), np.uint8), photometric="minisblack")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.tif").write_text("the user's")
    flags = ["--run", str(tiny_run), "--images", str(tmp_path / "a.tif"), "--output", str(tmp_path / "out")]
    assert predict(flags) == 2
    assert "a.tif exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.tif").read_text() == "the user's"


def test_isbi_as_stacks(datasets, tmp_path):
    """The real one, as it is handed out: `train-volume.tif` and `train-labels.tif`."""
    loose = files.find_pairs(DataConfig(data=str(datasets / "isbi2012_em")))
    for name, kind in (("train-volume", "image"), ("train-labels", "mask")):
        paths = [pair.image if kind == "image" else pair.masks[0] for pair in loose]
        array = np.stack([files.read_image(path)[..., 0] for path in paths])
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    flags = {"images": str(tmp_path / "train-volume.tif"), "masks": str(tmp_path / "train-labels.tif")}
    pairs = files.find_pairs(DataConfig(**flags))
    assert len(pairs) == 30 and {pair.group for pair in pairs} == {"train-volume"}
    for pair, other in list(zip(pairs, loose, strict=True))[::7]:
        np.testing.assert_array_equal(files.read_image(pair.image), files.read_image(other.image))
        np.testing.assert_array_equal(files.read_image(pair.masks[0]), files.read_image(other.masks[0]))
