"""Packed data: samples, trainings and scores are those of the files, to the bit; damage is one sentence."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import TINY, sentence
from image_files import BINARY, DEEP, GRAY, RGB, write_pairs
from kill_and_resume import assert_same_training
from PIL import Image
from test_storage import as_it_is, memory, on_linux

from unet_lowlevel.cli.check import main as check
from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.config import Config, DataConfig
from unet_lowlevel.data import packed as module
from unet_lowlevel.data.check.findings import judge
from unet_lowlevel.data.check.inspection import measurement
from unet_lowlevel.data.files import find_pairs, read_image
from unet_lowlevel.data.instances import read_objects
from unet_lowlevel.data.packed import as_packed, is_packed, read_index
from unet_lowlevel.data.packing import pack
from unet_lowlevel.data.pipeline import TrainingBatches
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.data.storage import PackedSample, gather
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import changed
from unet_lowlevel.inference.cross_validation import cross_validate
from unet_lowlevel.inference.images import find_images


@pytest.fixture
def copy(phantoms_packed, tmp_path) -> Path:
    """One that may be damaged."""
    return Path(shutil.copytree(phantoms_packed, tmp_path / "copy"))


def packed_pairs(folder, *pairs, **settings):
    """(Pairs of files, pairs of the same packed, settings for these)."""
    write_pairs(folder, *pairs)
    if settings.pop("objects", False):
        (folder / "instances").mkdir()
        for path in (folder / "masks").iterdir():
            mask = np.asarray(Image.open(path))
            numbers = np.arange(mask.size).reshape(mask.shape) // 50 * mask
            Image.fromarray(numbers.astype(np.uint16)).save(folder / "instances" / path.name)
    config = Config.of(data=str(folder), **settings)
    pack(config, folder / "packed")
    there = as_packed(Config.of(data=str(folder / "packed"), **settings))
    return find_pairs(config.data), find_pairs(there.data), there


def test_training_and_scores_are_those_of_the_files(phantoms, phantoms_packed, tiny_run, tmp_path):
    run = tmp_path / "run"
    assert train(["--run", str(run), "--data", f"file://{phantoms_packed}", "--ema-decay", "0.5", *TINY]) == 0
    assert_same_training(tiny_run, run)
    assert evaluate(["--run", str(run), "--output", str(tmp_path / "packed")]) == 0
    assert evaluate(["--run", str(tiny_run), "--data", str(phantoms), "--output", str(tmp_path / "files")]) == 0
    for name, images in (("packed", phantoms_packed), ("files", phantoms / "images")):
        output = ["--output", str(tmp_path / f"{name}_masks"), "--instances", "--objects-as", "coco"]
        assert predict(["--run", str(run), "--images", str(images), *output]) == 0
    for kind in ("", "_masks"):
        contents = [{p.name: p.read_bytes() for p in (tmp_path / f"{n}{kind}").iterdir()} for n in ("packed", "files")]
        assert contents[0] == contents[1] and len(contents[0]) >= 2


def test_a_cross_validation_takes_it(phantoms_packed, tmp_path):
    settings = {"base_channels": 2, "depth": 1, "epochs": 1, "steps_per_epoch": 1, "plan": "off", "folds": 2}
    rows = cross_validate(Config.of(data=str(phantoms_packed), **settings), tmp_path / "run", check=False)
    assert rows[-1]["images"] == 12


def test_the_check_finds_what_it_finds_in_the_files(phantoms, phantoms_packed, capsys):
    found = []
    for folder in (phantoms, phantoms_packed):
        check(["--data", str(folder), "--group-regex", "patient-\\d+", "--json"])
        found.append(json.loads(capsys.readouterr().out))
        for changing in ("memory", "time"):
            del found[-1]["facts"][changing]
    assert found[0]["facts"]["masks"].pop("values") == ["0", "255"]
    assert found[1]["facts"]["masks"].pop("values") == []
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("stays", "settings"),
    [
        (True, {}),
        (True, {"normalization": "minmax"}),
        (True, {"normalization": "range", "normalization_range": (10, 99)}),
        (True, {"weight_map": True, "weight_map_sigma": 2.0}),
        (True, {"weight_map": True, "objects": True}),
        (True, {"ignore_value": (1,), "mask_values": "0:0,5:1"}),
        (False, {"resolution": 0.5}),
        (False, {"stream": True}),
    ],
)
def test_samples_are_those_of_the_files(tmp_path, stays, settings):
    of_files = {name: settings.pop(name) for name in ("resolution", "stream") if name in settings}
    labels = BINARY if "ignore_value" not in settings else np.where(BINARY, 5, GRAY % 2).astype(np.uint8)
    arrays = (GRAY, labels), (DEEP[:9], labels[:9]), (GRAY * 0 + 7, labels)
    pairs, same, config = packed_pairs(tmp_path, *arrays, **settings)
    config = (
        Config.of(**{name: getattr(config.data, name) for name in module.FIXED[1:]}, **of_files) if of_files else config
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, data=""))
    expected, found = gather(pairs, config, as_it_is)[0], gather(same, config, as_it_is)[0]
    for one, other in zip(expected, found, strict=True):
        assert isinstance(other, PackedSample) == stays
        assert (one.stem, one.size, one.normalization) == (other.stem, other.size, other.normalization)
        assert (one.class_counts == other.class_counts).all() and one.class_counts.dtype == other.class_counts.dtype
        for name in ("image", "label", "target", "weights", "original_label", "truth"):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        places = np.arange(2, 4), np.arange(3, 1, -1)
        for a, b in zip(one.window(*places), other.window(*places), strict=True):
            np.testing.assert_array_equal(a, b)


def test_objects_are_those_of_the_files(tmp_path):
    for pair, same in zip(
        *packed_pairs(tmp_path, (GRAY, BINARY), (RGB[..., 0], BINARY), objects=True)[:2], strict=True
    ):
        assert pair.tells_objects and same.tells_objects
        for a, b in zip(read_objects(pair, BINARY, Config()), read_objects(same, BINARY, Config()), strict=True):
            assert a.max() > 3 or a.size < 4 or set(a.tolist()) == {1}
            np.testing.assert_array_equal(a, b)


def test_slices_of_a_volume_stay_together(tmp_path):
    for name, array in (("scan.tif", GRAY), ("marks.tif", BINARY)):
        tifffile.imwrite(tmp_path / name, np.stack([array] * 3), photometric="minisblack")
    config = Config.of(images=str(tmp_path / "scan.tif"), masks=str(tmp_path / "marks.tif"))
    pack(config, tmp_path / "packed")
    pairs, same = find_pairs(config.data), find_pairs(DataConfig(data=str(tmp_path / "packed")))
    assert [(pair.stem, pair.group) for pair in pairs] == [(pair.stem, pair.group) for pair in same]
    assert [pair.group for pair in same] == ["scan"] * 3


def test_colours_can_still_become_gray(tmp_path):
    pairs, same, _ = packed_pairs(tmp_path, (RGB, BINARY), (RGB[::-1], BINARY))
    config = Config.of(channels="gray")
    one, other = gather(pairs, config, as_it_is)[0], gather(same, config, as_it_is)[0]
    assert not isinstance(other[0], PackedSample)
    np.testing.assert_array_equal(one[1].image, other[1].image)
    assert as_packed(Config.of(data=str(tmp_path / "packed"), channels="gray")).data.channels == "gray"


def test_an_image_is_read_when_it_is_needed_and_no_other(phantoms_packed, monkeypatch):
    reads, read = [], module.read_bytes
    monkeypatch.setattr(module, "read_bytes", lambda *place: reads.append(place) or read(*place))
    config = Config.of(data=str(phantoms_packed), base_channels=2, depth=2, crop_size=16, in_channels=1, augment=False)
    samples, _ = gather(find_pairs(config.data), config, None)
    assert len(reads) == 1 and len(samples) == 12  # the index
    samples[7].window(np.arange(3), np.arange(3))
    record = samples[7].record
    assert reads[1:] == [(f"{phantoms_packed}/{record.shard}", record.offset, record.length)]
    assert record.shard == "shard-00001-of-00003.tfrecord" and record.offset > 0
    batches = TrainingBatches(samples, config)
    del reads[:]
    assert sum(len(index) for *_, index in batches.of_epoch(1)) == len(reads) == 12


@on_linux
def test_memory_stays_flat_over_many_images(tmp_path):
    """12 images and masks of 4 MB each: packing and an epoch hold one of them, or a few, at a time."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for i in range(12):
            array = np.zeros((2000, 2000), np.uint8)
            array[150 * i :] = 255
            Image.fromarray(array).save(tmp_path / kind / f"{i:02d}.png", compress_level=1)
    config = Config.of(data=str(tmp_path), crop_size=64, depth=2, in_channels=1)
    before = memory("RssAnon")
    pack(config, tmp_path / "packed", images_per_shard=30)
    assert memory("RssAnon") - before < 40
    samples, _ = gather(find_pairs(DataConfig(data=str(tmp_path / "packed"))), config, None)
    for epoch in (1, 2):
        assert sum(len(index) for _, _, index in TrainingBatches(samples, config).of_epoch(epoch)) == 12
    assert memory("RssAnon") - before < 80


def test_packed_data_need_not_fit_into_the_memory(phantoms_packed):
    pairs = find_pairs(DataConfig(data=str(phantoms_packed)))
    measured = [
        measurement(pair, sample.image, sample.label)
        for pair, sample in zip(pairs, decoded(pairs, Config()), strict=True)
    ]
    for settings, what in (({}, "a training step takes"), ({"resolution": 0.5}, "the decoded data takes")):
        found = [
            finding.what for finding in judge(Config.of(**settings), measured, [], 99)[0] if finding.kind == "memory"
        ]
        assert len(found) == 1 and found[0].startswith(what)


@pytest.mark.parametrize("position", [0, 9, 40, -30, -1])
def test_a_damaged_shard_is_named(copy, position):
    record = read_index(str(copy))[1][6]
    shard = copy / record.shard
    content = bytearray(shard.read_bytes())
    content[record.offset + position % record.length] ^= 1
    shard.write_bytes(content)
    pairs = find_pairs(DataConfig(data=str(copy)))
    with pytest.raises(UserError) as caught:
        list(decoded(pairs, Config()))
    sentence(caught, f"{shard} is damaged at {record.stem}", "restore the file, or pack anew")
    read_image(pairs[5].image)  # no other is concerned
    read_image(pairs[7].image)


@pytest.mark.parametrize("check", [True, False])
def test_a_training_that_meets_a_damaged_shard_ends_with_a_sentence(copy, tmp_path, capfd, check):
    shard = copy / "shard-00001-of-00003.tfrecord"
    content = bytearray(shard.read_bytes())
    content[200] ^= 1
    shard.write_bytes(content)
    flags = ["--run", str(tmp_path / "run"), "--data", str(copy), *TINY, *["--no-check"] * (not check)]
    assert train(flags) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {shard} is damaged at patient-001_slice-02") and error.count("\n") == 1


def test_shards_that_are_missing_or_too_short_are_told_at_once(copy):
    shard = copy / "shard-00002-of-00003.tfrecord"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError) as caught:
        find_pairs(DataConfig(data=str(copy)))
    sentence(caught, f"{shard} has {size - 1} bytes instead of {size}", "restore")
    shard.unlink()
    with pytest.raises(UserError, match="is missing: restore the file, or pack anew"):
        find_pairs(DataConfig(data=f"file://{copy}"))


DAMAGE = {
    "no JSON": lambda index: index[:-9],
    "a list": lambda index: "[]",
    "no images": lambda index: index["images"].clear(),
    "not sorted": lambda index: index["images"].reverse(),
    "twice": lambda index: index["images"].insert(0, index["images"][0]),
    "elsewhere": lambda index: index["images"][0].update(stem="../a"),
    "a line": lambda index: index["images"][0].update(stem="\n"),
    "nameless": lambda index: index["images"][0].update(stem=""),
    "no text": lambda index: index["images"][0].update(group=3),
    "another shard": lambda index: index["images"][0].update(shard="../x"),
    "a shard elsewhere": lambda index: (
        index["shards"].update({"../x": {"bytes": 10**6}}),
        index["images"][0].update(shard="../x"),
    ),
    "behind the end": lambda index: index["images"][0].update(offset=10**6),
    "before the start": lambda index: index["images"][0].update(offset=-1),
    "no length": lambda index: index["images"][0].update(bytes=3),
    "no pixels": lambda index: index["images"][0].update(size=[0, 4]),
    "three sides": lambda index: index["images"][0].update(size=[1, 4, 4]),
    "too many classes": lambda index: index["images"][0].update(counts=[1, 2, 3]),
    "no numbers": lambda index: index["images"][0].update(standard="ab"),
    "settings": lambda index: index["settings"].update(classes="many"),
    "no settings": lambda index: index.pop("settings"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_index_of_a_stranger_is_refused(copy, damage):
    path = copy / "packed.json"
    if damage in (DAMAGE["no JSON"], DAMAGE["a list"]):
        path.write_text(damage(path.read_text()))
    else:
        index = json.loads(path.read_text())
        damage(index)
        path.write_text(json.dumps(index))
    with pytest.raises(UserError) as caught:
        find_pairs(DataConfig(data=str(copy)))
    message = sentence(caught, f"{path} does not describe packed data", "restore it, or pack anew")
    assert message.isprintable() and len(message) < 600


def test_a_record_of_other_classes_or_too_many_pixels_is_refused(tmp_path):
    _, same, _ = packed_pairs(tmp_path, (GRAY, GRAY // 86), (GRAY, BINARY), classes=3)
    with pytest.raises(UserError, match=r"tfrecord has class 2, which its index does not name: pack the data anew"):
        list(decoded(same, Config()))
    with pytest.raises(UserError, match=r"a in .* has 0.0006 megapixels, more than --max-megapixels 0.0005"):
        list(decoded(same, Config.of(classes=3, max_megapixels=0.0005)))


def test_settings_of_packing_need_not_be_given_again(tmp_path):
    settings = {"classes": 3, "mask_values": "0:0,1:1,7:2", "ignore_value": (9,), "nan": "0", "channels": "gray"}
    mask = np.choose(GRAY % 4, [0, 1, 7, 9]).astype(np.uint8)
    packed_pairs(tmp_path, (GRAY, mask), (RGB, mask), **settings)
    folder = str(tmp_path / "packed")
    config = as_packed(Config.of(data=folder))
    assert config == as_packed(Config.of(data=folder, **settings))
    assert (config.model.classes, config.data.mask_values) == (3, "0:0,1:1,7:2")
    of_run = Config.of(classes=3, mask_values="0:0,5:1,255:2")
    assert changed(of_run, {"data": folder}).data.mask_values == "0:0,1:1,7:2"
    for name, value in (
        ("classes", 2),
        ("mask_values", "0:0,1:2,7:1"),
        ("ignore_value", (8,)),
        ("nan", "background"),
        ("channels", "rgb"),
        ("mask_colors", "000000:0,ff0000:1"),
    ):
        with pytest.raises(UserError) as caught:
            as_packed(Config.of(data=folder, **{name: value}))
        sentence(caught, f"--{name.replace('_', '-')} is ", f"{folder} was packed with", "leave it out, or pack")
    with pytest.raises(UserError, match=r"--classes is 1, but .* was packed with 3"):
        changed(Config(), {"data": folder})


def test_one_and_two_classes_read_masks_alike(phantoms_packed):
    assert as_packed(Config.of(data=str(phantoms_packed), classes=2)).model.classes == 2


def test_other_places_do_not_go_with_it(phantoms_packed):
    with pytest.raises(UserError) as caught:
        find_pairs(DataConfig(data=str(phantoms_packed), instances="objects"))
    sentence(caught, "--instances is objects", f"--data {phantoms_packed} is packed", "leave it out")
    with pytest.raises(UserError, match="--data already names the folder"):
        Config.of(data=str(phantoms_packed), images="a", masks="b")


def test_urls_are_packed_data_or_nothing(tmp_path):
    assert not is_packed("") and not is_packed(tmp_path) and is_packed("gs://bucket/folder")
    with pytest.raises(UserError) as caught:
        find_images([f"file://{tmp_path}"])
    sentence(caught, f"file://{tmp_path}/packed.json cannot be read", "name other data")
    with pytest.raises(UserError) as caught:
        read_index("s3://bucket/mine")
    sentence(caught, "s3://bucket/mine/packed.json cannot be read", "knows no s3://", "gs://")


def test_images_of_other_channels_are_named(tmp_path):
    _, same, config = packed_pairs(tmp_path, (GRAY, BINARY), (GRAY, BINARY))
    records = read_index(config.data.data)[1]
    odd = dataclasses.replace(same[1].image, record=dataclasses.replace(records[1], channels=3))
    with pytest.raises(
        UserError, match=r"differ in their channels, 1 with 1 \(as a in .*\) and 1 with 3 .* --channels"
    ):
        gather([same[0], dataclasses.replace(same[1], image=odd)], config, None)
