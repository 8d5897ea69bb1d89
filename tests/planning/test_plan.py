"""The plan for made-up fingerprints: what each rule decides, and that nothing given is changed."""

import dataclasses
import json

import pytest

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.planning.fingerprint import ClassFingerprint, Fingerprint, Layout
from unet_lowlevel.planning.plan import CHANGES, OPERATIONS, Speed, epochs_of, plan, receptive_field, table
from unet_lowlevel.summary import step_operations


def of_class(*, extent=(20, 40, 60), thickness=20, contrast=0.95, place=0.1):
    return ClassFingerprint(0.5, 50, 80, (50, 500, 900), extent, (10, 20, 30), (thickness,) * 3, contrast, place)


BACKGROUND, OBJECTS = of_class(thickness=90), of_class()
EASY = Fingerprint(
    images=50,
    groups=50,
    channels=1,
    dtype="uint8",
    gray=(0, 255),
    height=(200, 200, 200),
    width=(150, 240, 300),
    labelled=1.0,
    classes=(BACKGROUND, OBJECTS),
    touching=None,
    layout=Layout(0.1, 0, 0, 0),
)


def with_objects(**changes):
    return dataclasses.replace(EASY, classes=(BACKGROUND, of_class(**changes)))


def planned(found, speed=None, **given):
    """{setting: value} of the plan."""
    return {choice.setting: choice.value for choice in plan(found, Config.of(**given), speed)[1]}


@pytest.mark.parametrize(
    ("extent", "thickness", "resolution"),
    [
        *((60, 20, 1), (256, 20, 1), (300, 30, 1), (400, 30, 2 / 3), (512, 30, 1 / 2), (513, 30, 1 / 2)),
        *((3000, 100, 1 / 10), (512, 8, 1), (512, 12, 2 / 3), (512, 16, 1 / 2)),
    ],
)
def test_large_objects_fit_into_a_crop_and_thin_ones_stay(extent, thickness, resolution):
    found = planned(with_objects(extent=(5, 5, extent), thickness=thickness))["resolution"]
    assert found == pytest.approx(resolution, abs=5e-4)


def test_a_thin_background_counts_as_well():
    thin = dataclasses.replace(EASY, classes=(of_class(thickness=8), of_class(extent=(100, 300, 600), thickness=50)))
    assert planned(thin)["resolution"] == 1


@pytest.mark.parametrize(
    ("extent", "sides", "depth", "crop"),
    [
        *((60, (200, 240), 5, 240), (230, (200, 241), 5, 256), (60, (600, 900), 5, 256)),
        *((20, (30, 33), 4, 40), (500, (470, 560), 5, 256), (5, (6, 6), 1, 6)),
    ],
)
def test_the_crop_is_that_of_the_images_and_the_depth_that_of_the_crop(extent, sides, depth, crop):
    found = dataclasses.replace(
        with_objects(extent=(1, 1, extent), thickness=50), height=(sides[0],) * 3, width=(sides[1],) * 3
    )
    found = planned(found)
    assert (found["depth"], found["crop_size"]) == (depth, crop)


ALIKE = dataclasses.replace(EASY, layout=Layout(0.4, 0, 0, 0))


def test_images_that_show_the_same_are_seen_whole():
    assert planned(dataclasses.replace(ALIKE, height=(300, 470, 700), width=(200, 560, 1000)))["image_size"] == 256
    assert planned(ALIKE)["image_size"] == planned(ALIKE)["crop_size"] == 240
    assert "image_size" not in planned(dataclasses.replace(ALIKE, height=(240,) * 3, width=(240,) * 3))
    hard = (BACKGROUND, of_class(thickness=32, contrast=0.4))
    assert planned(dataclasses.replace(ALIKE, classes=hard, width=(200, 560, 1000)))["image_size"] == 144  # 8 of 32
    told = (BACKGROUND, of_class(thickness=32, contrast=0.4, place=0.5))
    assert planned(dataclasses.replace(ALIKE, classes=told, width=(200, 560, 1000)))["image_size"] == 256
    assert planned(dataclasses.replace(ALIKE, classes=hard))["image_size"] == 128
    thin = dataclasses.replace(ALIKE, classes=(BACKGROUND, of_class(thickness=15)), height=(480,) * 3, width=(512,) * 3)
    assert "image_size" not in planned(thin) and planned(thin)["resolution"] == 1
    assert not {"image_size", "resolution"} & planned(ALIKE, resolution=0.5).keys()
    assert not {"image_size", "resolution"} & planned(EASY, image_size=128).keys()


def test_crops_are_of_the_working_resolution():
    assert planned(EASY, resolution=0.5)["crop_size"] == 128
    assert planned(with_objects(extent=(1, 1, 480), thickness=50))["crop_size"] == 160  # at 2/3


def test_images_are_drawn_by_their_area_where_some_hold_many_crops_more():
    def by(*sides, **given):
        return planned(dataclasses.replace(EASY, height=sides, width=sides), **given).get("draw_by", "image")

    assert by(256, 256, 362) == "image" and by(256, 256, 363) == "area"  # 256 sqrt 2 = 362.04
    assert by(50, 60, 256) == "area"  # crops of 64
    assert by(50, 256, 256) == "image" and by(300, 600, 600) == by(256, 300, 600) == "area"
    assert by(256, 256, 600, resolution=0.5) == "area" and by(256, 256, 300, resolution=0.5) == "image"
    assert by(256, 256, 600, image_size=256) == by(256, 256, 600, draw_by="image") == "image"
    assert by(256, 300, 366, padding="valid") == "image"  # crops of 444, of which 260 are put out


def test_crops_are_drawn_where_a_rare_class_is():
    """In 1000x1000 a crop of 256 meets an object of 44 with probability 0.3^2; of 30 objects it meets some."""

    def crops(objects=50, extent=(20, 44, 60), side=1000, **given):
        rare = dataclasses.replace(of_class(extent=extent, thickness=50), objects=objects)
        found = dataclasses.replace(EASY, classes=(BACKGROUND, rare), height=(side,) * 3, width=(side,) * 3)
        return planned(found, **given).get("foreground_crops", 0)

    assert crops() == 0.33 and crops(30 * 50) == crops(side=256) == crops(foreground_crops=0.0) == 0
    assert crops(24 * 50) == 0.33 and crops(25 * 50) == 0  # 1 - 0.91^24 = 0.896, 1 - 0.91^25 = 0.905
    assert crops(resolution=0.25) == 0 and crops(resolution=0.5) == 0.33  # 278 / 500, squared: 0.31
    # Of a crop of 444 a valid network learns 260: (260 + 440) / 1000, squared, is 0.49, with all 444 it would be 0.78.
    assert crops(3 * 50, (20, 440, 500), resolution=1.0, padding="valid", crop_size=444) == 0.33  # 0.87, not 0.99
    for extent, share in ((480, 0), (460, 0.33)):  # 0.96^2 = 0.92, 0.94^2 = 0.88
        assert crops(extent=(20, extent, 500), crop_size=480, resolution=1.0) == share


def test_a_crop_size_of_0_asks_for_a_choice():
    assert planned(EASY, crop_size=0) == planned(EASY)


def test_a_given_depth_decides_what_the_crop_is_a_multiple_of():
    assert planned(dataclasses.replace(EASY, width=(250, 250, 250)), depth=7)["crop_size"] == 256
    assert planned(dataclasses.replace(EASY, width=(100, 100, 100), height=(90, 90, 90)), depth=3)["crop_size"] == 100
    assert planned(EASY, padding="valid", depth=5)["crop_size"] == 428  # its output has 244 pixels, of 240


@pytest.mark.parametrize(
    ("layout", "flips", "turns"),
    [
        (Layout(0.1, -1, -1, -1), "both", True),
        (Layout(0.5, 0.99, -0.9, 0.1), "left_right", False),
        (Layout(0.5, 0.5, 0.95, 0.99), "up_down", False),
        (Layout(0.5, 0.95, 0.95, 0.5), "both", False),
        (Layout(0.5, 0.95, 0.95, 0.95), "both", True),
        (Layout(0.5, 0.8, 0.8, 0.95), None, False),
    ],
)
def test_mirrors_only_what_looks_the_same_in_a_mirror(layout, flips, turns):
    config, _ = plan(dataclasses.replace(EASY, layout=layout), Config())
    changes = settings.check(config).augmentation
    assert (changes.flip_axes if changes.flips else None) == flips and changes.quarter_turns == turns
    hard = planned(dataclasses.replace(with_objects(contrast=0.3), layout=layout))
    assert hard["flips"] and hard["quarter_turns"] and "flip_axes" not in hard


def test_objects_that_hardly_stand_out_get_more_augmentation_views_and_steps():
    easy, hard = planned(EASY), planned(with_objects(contrast=0.3))
    assert "average_flips" not in easy and hard["average_flips"]
    assert not CHANGES.keys() & easy.keys() and CHANGES.items() <= hard.items()
    counts = [found["epochs"] * found["steps_per_epoch"] for found in (easy, hard)]
    assert counts[0] == 400 and 4000 < counts[1] <= 9000


def test_touching_objects_get_a_weight_map():
    found = planned(dataclasses.replace(EASY, touching=0.2))
    assert found["average_flips"]
    assert found["weight_map"] and found["loss"] == "cross_entropy" and found["keep"] == "last"
    assert found["epochs"] * found["steps_per_epoch"] > 1500
    assert not {"weight_map", "keep"} & planned(dataclasses.replace(EASY, touching=0.02)).keys()


def test_no_training_is_longer_than_about_half_an_hour():
    config, _ = plan(with_objects(contrast=0.1), Config.of(base_channels=64))
    steps = config.training.epochs * config.training.steps_per_epoch
    cost = step_operations(settings.apply(config, {"in_channels": 1}))
    assert 0.9 * OPERATIONS < steps * cost <= OPERATIONS


def test_minutes_decide_the_number_of_steps():
    assert not {"epochs", "steps_per_epoch"} & planned(EASY, minutes=5).keys()
    found = planned(EASY, Speed(0.1, 1.5), minutes=5)
    assert found["epochs"] == 20  # a tenth of 300 seconds
    assert found["steps_per_epoch"] == (300 - 20 * 1.5) / 0.1 // 20
    assert planned(EASY, Speed(0.1, 100), minutes=5)["epochs"] == 3
    for minutes, words in ((5, "5 minutes at"), (1, "1 minute at"), (0.5, "0.5 minutes at")):
        config = Config.of(minutes=minutes)
        assert any(choice.reason.startswith(words) for choice in plan(EASY, config, Speed(0.1, 1.5))[1])
    assert planned(EASY, Speed(0.1, 0.001), minutes=5)["epochs"] == 25
    assert planned(EASY, Speed(0.1, 1), minutes=5, epochs=7)["steps_per_epoch"] == int(2930 / 7)
    assert planned(EASY, Speed(0.1, 1.5), minutes=5, plan="off") == {
        name: found[name] for name in ("epochs", "steps_per_epoch")
    }


def test_epochs_that_are_given_are_passes_over_the_images():
    assert not {"epochs", "steps_per_epoch"} & planned(EASY, epochs=60).keys()


def test_what_is_given_stays_whatever_its_value():
    given = {"depth": 5, "batch_size": 4, "resolution": 1.0, "crop_size": 64, "quarter_turns": True, "ema_decay": 0.0}
    found = planned(with_objects(contrast=0.1, extent=(100, 400, 600)), **given)
    assert not given.keys() & found.keys()
    config, _ = plan(EASY, Config.of(**given))
    assert {name: settings.value_of(config, name) for name in given} == given


@pytest.mark.parametrize("preset", ["original", "paper"])
def test_presets_of_other_recipes_have_no_plan(preset):
    assert plan(EASY, Config.of(preset)) == (Config.of(preset), [])


def test_every_plan_is_valid_and_can_be_written():
    for found in (EASY, with_objects(contrast=0.2), dataclasses.replace(EASY, classes=(BACKGROUND,), touching=0.5)):
        config, choices = plan(found, Config())
        settings.check(config)
        assert json.loads(json.dumps([dataclasses.asdict(choice) for choice in choices]))
        assert all(choice.reason for choice in choices)
        lines = "\n".join(table(choices)).splitlines()
        assert all(line.startswith("  ") and len(line) <= 96 for line in lines)
        assert all(choice.setting in "".join(lines) for choice in choices)


def test_the_same_data_gives_the_same_plan():
    assert plan(EASY, Config()) == plan(dataclasses.replace(EASY), Config())


def test_receptive_fields():
    """By hand for depth 2, two convolutions of 3 in each of the blocks: 1 + 4 at the output ... 5 -> 18."""
    assert receptive_field(Config(), 1) == 5
    assert [receptive_field(Config(), depth) for depth in (5, 6)] == [204, 412]


def test_epochs():
    assert epochs_of(Config(), 100.0, 0.0) == 25
