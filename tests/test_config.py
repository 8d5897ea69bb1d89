"""The table of settings: each is documented, the presets hold what they say, `Config.of` is their short way."""

import dataclasses
import json

import pytest

from unet_lowlevel import settings
from unet_lowlevel.config import PRESETS, Config
from unet_lowlevel.errors import UserError


def test_setting_names_are_unique_over_sections():
    names = [item.name for kind in settings.sections().values() for item in dataclasses.fields(kind)]
    assert len(names) == len(set(names)) == len(settings.settings())


@pytest.mark.parametrize("name", settings.settings())
def test_every_setting_is_documented_and_its_default_is_within_its_limits(name):
    section, item = settings.settings()[name]
    assert len(item.metadata["help"]) > 10
    assert settings.is_list(item) or item.type in (bool, int, float, str)
    default = getattr(getattr(Config(), section), name)
    assert settings.checked(name, default, "default") == default
    assert type(default) is (tuple if settings.is_list(item) else item.type)


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.depth = 3


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_resolve(preset):
    config = settings.resolve(preset)
    for name, value in PRESETS[preset].items():
        assert getattr(getattr(config, settings.settings()[name][0]), name) == value
    changed = {
        name
        for name, (section, _) in settings.settings().items()
        if getattr(getattr(config, section), name) != getattr(getattr(Config(), section), name)
    }
    assert changed <= PRESETS[preset].keys()


def test_default_preset_is_the_defaults():
    assert settings.resolve() == settings.resolve("default") == Config()


def test_the_original_is_that_of_2019():
    config = settings.resolve("original")
    model = config.model
    assert (model.depth, model.base_channels, model.kernel_size, model.convolutions_per_block) == (5, 16, 3, 2)
    assert (model.dropout_rate, model.activation, model.padding, model.batch_normalization) == (
        0.2, "elu", "same", False,
    )  # fmt: skip
    assert (config.loss.loss, config.optimizer.optimizer, config.augmentation.augment) == ("dice", "adam", False)


def test_light_augmentation_takes_strong_augmentation_back():
    light, strong = PRESETS["light_augmentation"], PRESETS["strong_augmentation"]
    assert light.keys() == strong.keys() <= {item.name for item in dataclasses.fields(Config().augmentation)}
    assert settings.resolve("strong_augmentation,light_augmentation") == Config()
    assert settings.resolve("light_augmentation", defaults=strong) == Config()
    # What mirrors and turns by quarters is a matter of what images show, not of strength.
    assert not strong.keys() & {"flips", "flip_axes", "quarter_turns"}


def test_of_several_presets_later_ones_win():
    paper, both = settings.resolve("paper"), settings.resolve("paper,strong_augmentation")
    strong = PRESETS["strong_augmentation"]
    assert settings.differences(paper, both).keys() <= strong.keys() and both.augmentation.elastic == 10.0
    assert settings.resolve("original,strong_augmentation").augmentation.augment is True
    assert settings.resolve("strong_augmentation,original").augmentation.augment is False
    assert settings.resolve("strong_augmentation", flags={"blur": 0.5}).augmentation.blur == 0.5


def test_of_takes_settings_of_every_section():
    config = Config.of(
        data="data/mine",
        epochs=60,
        precision="bfloat16",
        loss="focal",
        class_weights=[1, 5],
        learning_rate=1,
        flips=False,
    )
    assert (config.data.data, config.training.epochs, config.model.precision) == ("data/mine", 60, "bfloat16")
    assert (config.loss.loss, config.loss.class_weights) == ("focal", (1.0, 5.0))
    assert config.optimizer.learning_rate == 1.0 and type(config.optimizer.learning_rate) is float
    assert config.augmentation.flips is False
    untouched = dataclasses.replace(config.model, precision="float32")
    assert untouched == Config().model and config.training.seed == Config().training.seed


def test_of_nothing_is_the_defaults():
    assert Config.of() == Config.of("default") == Config()


@pytest.mark.parametrize("preset", PRESETS)
def test_of_a_preset(preset):
    assert Config.of(preset) == Config.of(preset=preset) == settings.resolve(preset)
    changed = Config.of(preset=preset, epochs=7)
    assert changed.training.epochs == 7
    assert dataclasses.replace(changed.training, epochs=Config.of(preset).training.epochs) == Config.of(preset).training


def test_of_a_file_lies_between_preset_and_settings(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"training": {"epochs": 7, "patience": 3}, "model": {"depth": 2}}))
    config = Config.of("original", str(file), epochs=9)
    assert config == Config.of(preset="original", file=str(file), epochs=9)
    assert (config.training.epochs, config.training.patience, config.model.depth) == (9, 3, 2)
    assert config.model.dropout_rate == 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 60}, "epoch is no setting: did you mean epochs?"),
        ({"base_chanels": 8, "depth": 3}, "base_chanels is no setting: did you mean base_channels?"),
        ({"xyz": 1}, "xyz is no setting: see config.py."),
        ({"depth": 0}, "--depth is 0, but must be at least 1."),
        ({"depth": 9}, "--depth is 9, but must be at most 8."),
        ({"depth": "3"}, "--depth is '3', but needs a whole number."),
        ({"dropout_rate": 1.0}, "--dropout-rate is 1.0, but must be below 1.0."),
        ({"augment": 1}, "--augment is 1, but needs true or false."),
        ({"loss": "dyce"}, "--loss is 'dyce', but needs one of dice, batch_dice, "),
        ({"kernel_size": 4}, "--kernel-size is 4, but must be odd so that a kernel has a center."),
        ({"plain": True, "recompute": True}, "--recompute is one of the fast forms that --plain leaves out: "),
        (
            {"preset": "papr"},
            "--preset is 'papr', but needs one of default, original, paper, light_augmentation, strong_augmentation.",
        ),
        ({"file": "none.json"}, "none.json does not exist: name an existing JSON file."),
    ],
)
def test_of_refuses_a_mistake_in_one_sentence(given, message):
    with pytest.raises(UserError) as error:
        Config.of(**given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value) and str(error.value)[-1] in ".?" and len(str(error.value)) < 600
