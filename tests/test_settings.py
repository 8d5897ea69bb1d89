"""Settings checked, read and written: precedence, limits, and the sentence that each mistake gets."""

import json
import re

import pytest

from unet_lowlevel import settings
from unet_lowlevel.config import PRESETS, Config
from unet_lowlevel.errors import UserError


def written(folder, content) -> str:
    path = folder / "settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_precedence(tmp_path):
    """Defaults < preset < file < flags; each lower one sets all that the higher ones set, and one setting more."""
    file = written(tmp_path, {"training": {"epochs": 7, "patience": 3}, "model": {"depth": 2}})
    config = settings.resolve("original", file, {"epochs": 9})
    assert config.training.epochs == 9
    assert config.training.patience == 3
    assert config.model.depth == 2
    assert config.model.dropout_rate == 0.2
    assert config.model.kernel_size == 3


def test_a_file_can_take_back_what_the_preset_says(tmp_path):
    file = written(tmp_path, {"model": {"dropout_rate": 0.0}})
    assert settings.resolve("original", file).model.dropout_rate == 0.0


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset):
    config = settings.apply(
        settings.resolve(preset), {"class_weights": [1, 5.5], "normalization_range": (-1000.0, 400.0)}
    )
    text = json.dumps(settings.to_json(config), allow_nan=False)
    assert settings.from_json(json.loads(text), "settings.json") == config
    # Complete: the settings of the file alone, whatever it is laid over.
    assert settings.from_json(json.loads(text), "settings.json", settings.resolve("paper")) == config


def test_file_of_a_run_is_a_settings_file(tmp_path):
    file = written(tmp_path, settings.to_json(settings.resolve("original")) | {"run": {"versions": {}}})
    assert settings.resolve(file=file) == settings.resolve("original")


def test_whole_numbers_do_for_real_ones_and_lists_become_tuples(tmp_path):
    config = settings.resolve(
        file=written(tmp_path, {"optimizer": {"learning_rate": 1}, "loss": {"class_weights": [1, 5]}})
    )
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
        settings.resolve(file=file)
    assert_one_sentence(str(error.value))
    for part in [file, *parts]:
        assert part in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.json does not exist"):
        settings.resolve(file=str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="not readable as JSON"):
        settings.resolve(file=str(tmp_path))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(UserError, match=r"binary\.json is not readable as JSON"):
        settings.resolve(file=str(tmp_path / "binary.json"))


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
    ({"plain": True, "recompute": True}, ["--recompute", "--plain", "one of them"]),
    ({"normalization_range": [0, 1]}, ["--normalization-range", "--normalization is standard"]),
    ({"class_weights": [1, 2], "loss": "dice"}, ["--class-weights", "--loss dice", "cross_entropy"]),
    ({"fold": 1}, ["--fold is 1", "--folds is not given"]),
    ({"low_resolution": 0.5}, ["--low-resolution is 0.5", "at least 1", "0 for none"]),
    ({"flip_axes": "up_down"}, ["--flip-axes is up_down", "--no-quarter-turns"]),
    ({"mask_values": "0:0", "mask_colors": "000000:0"}, ["--mask-values", "--mask-colors", "one of them"]),
]


@pytest.mark.parametrize(("flags", "parts"), MISMATCHES)
def test_mistakes_in_flags(flags, parts):
    with pytest.raises(UserError) as error:
        settings.resolve(flags=flags)
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
        {"plain": True},
        {"recompute": True},
        {},
    ],
)
def test_settings_that_fit_each_other(flags):
    config = settings.resolve(flags=flags)
    assert settings.check(config) is config


def test_unknown_preset():
    with pytest.raises(
        UserError,
        match="--preset is 'best', but needs one of default, original, paper, light_augmentation, strong_augmentation",
    ):
        settings.resolve("best")


def test_the_plain_network_of_a_file_is_not_recomputed(tmp_path):
    """Wherever the two come from."""
    file = written(tmp_path, {"model": {"plain": True}})
    assert settings.resolve(file=file).model.plain
    with pytest.raises(UserError, match="--recompute is one of the fast forms that --plain leaves out"):
        settings.resolve(file=file, flags={"recompute": True})


def test_value_of_finds_every_setting_in_its_section():
    config = settings.resolve("paper", flags={"class_weights": [1, 5], "data": "mine", "seed": 3})
    assert settings.value_of(config, "depth") == 5
    assert settings.value_of(config, "padding") == "valid"
    assert settings.value_of(config, "class_weights") == (1.0, 5.0)
    assert settings.value_of(config, "learning_rate") == 1e-3
    assert settings.value_of(config, "data") == "mine"
    assert settings.value_of(config, "elastic") == 10.0
    assert settings.value_of(config, "seed") == 3
    sections = settings.to_json(config)
    for name, (section, _) in settings.settings().items():
        assert settings.value_of(config, name) == sections[section][name]


@pytest.mark.parametrize("preset", PRESETS)
def test_there_are_no_differences_to_oneself(preset):
    config = settings.resolve(preset)
    again = settings.from_json(json.loads(json.dumps(settings.to_json(config))), "settings.json")
    assert settings.differences(config, config) == settings.differences(config, again) == {}


def test_differences_are_the_settings_that_differ():
    changes = {"depth": 3, "class_weights": [1, 5], "augment": False, "data": "mine", "seed": 7, "ema_decay": 0.5}
    one, other = Config(), settings.resolve(flags=changes)
    assert settings.differences(one, other) == {
        "depth": (5, 3),
        "class_weights": ((), (1.0, 5.0)),
        "augment": (True, False),
        "data": ("", "mine"),
        "seed": (0, 7),
        "ema_decay": (0.0, 0.5),
    }
    swapped = settings.differences(other, one)
    assert swapped == {name: values[::-1] for name, values in settings.differences(one, other).items()}
    # In the order of the table, for whoever reports the first of them.
    assert list(swapped) == [name for name in settings.settings() if name in changes]
    assert settings.apply(one, {name: values[0] for name, values in swapped.items()}) == other


def test_apply_leaves_the_start_alone():
    start = Config()
    changed = settings.apply(start, {"depth": 3, "epochs": 2})
    assert (changed.model.depth, changed.training.epochs) == (3, 2)
    assert start == Config() and changed.data is start.data


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("epoch", "did you mean epochs?"),
        ("learning_rte", "did you mean learning_rate?"),
        ("batch-size", "did you mean batch_size?"),
        ("xyz", "see config.py."),
        ("model", "see config.py."),
    ],
)
def test_apply_names_the_setting_that_was_meant(name, remedy):
    with pytest.raises(UserError) as error:
        settings.apply(Config(), {"depth": 3, name: 1})
    assert str(error.value) == f"{name} is no setting: {remedy}"


def test_flag():
    assert settings.flag("batch_size") == "--batch-size"
    assert all(re.fullmatch(r"--[a-z0-9-]+", settings.flag(name)) for name in settings.settings())
