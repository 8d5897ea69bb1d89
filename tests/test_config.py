"""Settings: presets, precedence, limits, and the sentence that each mistake gets."""

import dataclasses
import json
import re

import pytest

from unet_lowlevel import settings as cfg
from unet_lowlevel.config import Config
from unet_lowlevel.errors import UserError, listed


def written(folder, content) -> str:
    path = folder / "settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_setting_names_are_unique_over_sections():
    names = [item.name for kind in cfg.sections().values() for item in dataclasses.fields(kind)]
    assert len(names) == len(set(names)) == len(cfg.settings())


@pytest.mark.parametrize("name", cfg.settings())
def test_every_setting_is_documented_and_its_default_is_within_its_limits(name):
    section, item = cfg.settings()[name]
    assert len(item.metadata["help"]) > 10
    assert cfg.is_list(item) or item.type in (bool, int, float, str)
    default = getattr(getattr(Config(), section), name)
    assert cfg.checked(name, default, "default") == default
    assert type(default) is (tuple if cfg.is_list(item) else item.type)


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.depth = 3


@pytest.mark.parametrize("preset", cfg.PRESETS)
def test_presets_resolve(preset):
    config = cfg.resolve(preset)
    for name, value in cfg.PRESETS[preset].items():
        assert getattr(getattr(config, cfg.settings()[name][0]), name) == value
    changed = {
        name
        for name, (section, _) in cfg.settings().items()
        if getattr(getattr(config, section), name) != getattr(getattr(Config(), section), name)
    }
    assert changed <= cfg.PRESETS[preset].keys()


def test_default_preset_is_the_defaults():
    assert cfg.resolve() == cfg.resolve("default") == Config()


def test_the_original_is_that_of_2019():
    config = cfg.resolve("original")
    model = config.model
    assert (model.depth, model.base_channels, model.kernel_size, model.convolutions_per_block) == (5, 16, 3, 2)
    assert (model.dropout_rate, model.activation, model.padding, model.batch_normalization) == (
        0.2, "elu", "same", False,
    )  # fmt: skip
    assert (config.loss.loss, config.optimizer.optimizer, config.augmentation.augment) == ("dice", "adam", False)


def test_precedence(tmp_path):
    """Defaults < preset < file < flags; each lower one sets all that the higher ones set, and one setting more."""
    file = written(tmp_path, {"training": {"epochs": 7, "patience": 3}, "model": {"depth": 2}})
    config = cfg.resolve("original", file, {"epochs": 9})
    assert config.training.epochs == 9
    assert config.training.patience == 3
    assert config.model.depth == 2
    assert config.model.dropout_rate == 0.2
    assert config.model.kernel_size == 3


def test_a_file_can_take_back_what_the_preset_says(tmp_path):
    file = written(tmp_path, {"model": {"dropout_rate": 0.0}})
    assert cfg.resolve("original", file).model.dropout_rate == 0.0


@pytest.mark.parametrize("preset", cfg.PRESETS)
def test_json_round_trip(preset):
    config = cfg.apply(cfg.resolve(preset), {"class_weights": [1, 5.5], "normalization_range": (-1000.0, 400.0)})
    text = json.dumps(cfg.to_json(config), allow_nan=False)
    assert cfg.from_json(json.loads(text), "settings.json") == config
    # Complete: the settings of the file alone, whatever it is laid over.
    assert cfg.from_json(json.loads(text), "settings.json", cfg.resolve("paper")) == config


def test_file_of_a_run_is_a_settings_file(tmp_path):
    file = written(tmp_path, cfg.to_json(cfg.resolve("original")) | {"run": {"versions": {}}})
    assert cfg.resolve(file=file) == cfg.resolve("original")


def test_whole_numbers_do_for_real_ones_and_lists_become_tuples(tmp_path):
    config = cfg.resolve(file=written(tmp_path, {"optimizer": {"learning_rate": 1}, "loss": {"class_weights": [1, 5]}}))
    assert config.optimizer.learning_rate == 1.0 and type(config.optimizer.learning_rate) is float
    assert config.loss.class_weights == (1.0, 5.0) and type(config.loss.class_weights[0]) is float


FILE_MISTAKES = [
    # content of the file, what the message names beside the file: place, value, remedy
    ("[1, 2]", ["no JSON object", '{"model"']),
    ("{", ["not readable as JSON", "mend or replace"]),
    ("", ["not readable as JSON"]),
    ('{"training": {"epochs": ' + "9" * 5000 + "}}", ["not readable as JSON"]),
    ({"modell": {}}, ["unknown section 'modell'", "model, loss, optimizer"]),
    ({"depth": 4}, ["unknown section 'depth'"]),
    ({"model": 5}, ["5", "section 'model'", "in_channels"]),
    ({"model": {"dept": 4}}, ["unknown setting model.dept", "depth"]),
    ({"model": {"epochs": 4}}, ["unknown setting model.epochs"]),
    ({"model": {"depth": "4"}}, ["model.depth", "'4'", "whole number"]),
    ({"model": {"depth": 4.0}}, ["model.depth", "4.0", "whole number"]),
    ({"model": {"depth": True}}, ["model.depth", "True", "whole number"]),
    ({"model": {"depth": None}}, ["model.depth", "None", "whole number"]),
    ({"model": {"depth": 0}}, ["model.depth", "is 0,", "at least 1"]),
    ({"model": {"depth": 9}}, ["model.depth", "is 9,", "at most 8"]),
    ({"model": {"dropout_rate": 1.0}}, ["model.dropout_rate", "is 1.0,", "below 1.0"]),
    ({"model": {"dropout_rate": -0.1}}, ["model.dropout_rate", "is -0.1,", "at least 0.0"]),
    ({"model": {"dropout_rate": False}}, ["model.dropout_rate", "False", "a number"]),
    ({"model": {"batch_normalization": 1}}, ["model.batch_normalization", "is 1,", "true or false"]),
    ({"model": {"batch_normalization": "yes"}}, ["model.batch_normalization", "'yes'", "true or false"]),
    ({"model": {"activation": "gelu"}}, ["model.activation", "'gelu'", "elu, relu"]),
    ({"model": {"activation": 3}}, ["model.activation", "is 3,", "a text"]),
    ({"optimizer": {"learning_rate": float("nan")}}, ["optimizer.learning_rate", "nan", "a number"]),
    ({"optimizer": {"learning_rate": float("inf")}}, ["optimizer.learning_rate", "inf", "a number"]),
    ({"optimizer": {"learning_rate": "1e-3"}}, ["optimizer.learning_rate", "'1e-3'", "a number"]),
    ({"training": {"seed": 2**31}}, ["training.seed", "2147483648", "at most 2147483647"]),
    ({"training": {"threshold": 1.5}}, ["training.threshold", "1.5", "at most 1.0"]),
    ({"loss": {"class_weights": 5}}, ["loss.class_weights", "is 5,", "a list of numbers"]),
    ({"loss": {"class_weights": "1,5"}}, ["loss.class_weights", "'1,5'", "a list of numbers"]),
    ({"loss": {"class_weights": [1, "a"]}}, ["loss.class_weights", "'a'", "a number"]),
    ({"loss": {"class_weights": [1, True]}}, ["loss.class_weights", "True", "a number"]),
    ({"loss": {"class_weights": [1, float("nan")]}}, ["loss.class_weights", "nan", "a number"]),
    ({"loss": {"class_weights": [1, -2]}}, ["loss.class_weights", "-2", "at least 0"]),
    ({"data": {"data": ["a", "b"]}}, ["data.data", "['a', 'b']", "a text"]),
]


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message and len(message) < 600
    assert message[-1] in ".?"


@pytest.mark.parametrize(("content", "parts"), FILE_MISTAKES)
def test_mistakes_in_a_file(content, parts, tmp_path):
    file = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        cfg.resolve(file=file)
    assert_one_sentence(str(error.value))
    for part in [file, *parts]:
        assert part in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.json does not exist"):
        cfg.resolve(file=str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="not readable as JSON"):
        cfg.resolve(file=str(tmp_path))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(UserError, match=r"binary\.json is not readable as JSON"):
        cfg.resolve(file=str(tmp_path / "binary.json"))


MISMATCHES = [
    # flags, what the message names
    ({"kernel_size": 4}, ["--kernel-size is 4", "odd"]),
    ({"class_weights": [1.0]}, ["--class-weights has 1", "2 classes"]),
    ({"classes": 3, "class_weights": [1.0, 2.0]}, ["--class-weights has 2", "3 classes"]),
    ({"normalization": "range"}, ["--normalization-range is not given", "-1000,400"]),
    ({"normalization": "range", "normalization_range": [5]}, ["--normalization-range is 5.0", "lowest"]),
    ({"normalization": "range", "normalization_range": [5, 5]}, ["--normalization-range is 5.0,5.0", "lowest"]),
    ({"normalization": "range", "normalization_range": [1, 2, 3]}, ["--normalization-range is 1.0,2.0,3.0"]),
    ({"folds": 1}, ["--folds 1", "--folds 2 or more"]),
    ({"folds": 5, "fold": 5}, ["--fold 5", "--folds 5", "--fold below"]),
    ({"folds": 5, "validation_list": "a.txt"}, ["--folds", "--validation-list", "one of them"]),
    ({"blocks": True, "validation_list": "a.txt"}, ["--blocks", "--validation-list", "one of them"]),
    ({"validation_fraction": 0.0}, ["--validation-fraction is 0", "0.2"]),
    ({"data": "a", "images": "b", "masks": "c"}, ["--data", "--images", "--masks"]),
    ({"images": "b"}, ["--images", "--masks", "together"]),
    ({"masks": "b"}, ["--images", "--masks", "together"]),
    ({"depth": 0}, ["--depth is 0", "at least 1"]),
    ({"weight_map": True, "loss": "dice"}, ["--weight-map", "--loss dice", "--no-weight-map"]),
    ({"elastic_grid": 2}, ["--elastic-grid is 2", "at least 3"]),
    ({"weight_map_sigma": 0.0}, ["--weight-map-sigma is 0.0", "at least 0.1"]),
]


@pytest.mark.parametrize(("flags", "parts"), MISMATCHES)
def test_mistakes_in_flags(flags, parts):
    with pytest.raises(UserError) as error:
        cfg.resolve(flags=flags)
    assert_one_sentence(str(error.value))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"class_weights": [1, 2]},
        {"classes": 2, "class_weights": [1, 2]},
        {"classes": 3, "class_weights": [1, 2, 0]},
        {"normalization": "range", "normalization_range": [-1000, 400]},
        {"folds": 5, "fold": 4},
        {"folds": 5, "validation_fraction": 0.0},
        {"validation_list": "a.txt", "validation_fraction": 0.0},
        {"images": "a", "masks": "b"},
        {"kernel_size": 1, "depth": 1},
        {"weight_map": True, "loss": "focal"},
        {},
    ],
)
def test_settings_that_fit_each_other(flags):
    config = cfg.resolve(flags=flags)
    assert cfg.check(config) is config


def test_unknown_preset():
    with pytest.raises(UserError, match="--preset is 'best', but needs one of default, original, paper"):
        cfg.resolve("best")


def test_apply_leaves_the_start_alone():
    start = Config()
    changed = cfg.apply(start, {"depth": 3, "epochs": 2})
    assert (changed.model.depth, changed.training.epochs) == (3, 2)
    assert start == Config() and changed.data is start.data


def test_flag():
    assert cfg.flag("batch_size") == "--batch-size"
    assert all(re.fullmatch(r"--[a-z0-9-]+", cfg.flag(name)) for name in cfg.settings())


def test_listed():
    assert listed([]) == ""
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert listed([1, 2, 3], 2) == "1, 2 and 1 more"
