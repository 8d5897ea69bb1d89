"""Checks, reads and writes the settings that `config.py` defines."""

import dataclasses
import difflib
import functools
import json
import math
import re
import shlex
import typing
from pathlib import Path

from unet_lowlevel.config import PRESETS, Config
from unet_lowlevel.errors import UserError, listed, reason, shown

DEFAULTS = Config()
# Both say how large images are: when one is given, nothing else decides the other.
SIZES = {"resolution", "image_size"}


@functools.cache
def sections() -> dict[str, type]:
    """{'model': ModelConfig, ...}: the sections of a configuration in their order."""
    parts = {item.name: getattr(DEFAULTS, item.name) for item in dataclasses.fields(Config)}
    return {name: type(part) for name, part in parts.items() if dataclasses.is_dataclass(part)}


@functools.cache
def settings() -> dict[str, tuple[str, dataclasses.Field]]:
    """{setting: (section, field)} over all sections; each name occurs in one section only."""
    return {item.name: (section, item) for section, kind in sections().items() for item in dataclasses.fields(kind)}


def flag(name: str) -> str:
    """The command-line flag of a setting: 'batch_size' -> '--batch-size'."""
    return "--" + name.replace("_", "-")


def typed(values: dict) -> list[str]:
    """The flags of {setting: value} as they are typed in a shell.

    >>> typed({"epochs": 40, "stream": False, "normalization_range": (-1000, 400)})
    ['--epochs 40', '--no-stream', '--normalization-range=-1000,400']
    """
    found = []
    for name, value in values.items():
        if isinstance(value, bool):
            found.append(flag(name if value else f"no_{name}"))
            continue
        text = ",".join(f"{number:g}" for number in value) if isinstance(value, (tuple, list)) else str(value)
        found.append(f"{flag(name)}={text}" if text.startswith("-") else f"{flag(name)} {shlex.quote(text)}")
    return found


def is_list(item: dataclasses.Field) -> bool:
    return typing.get_origin(item.type) is tuple


def checked(name: str, value, source: str):
    """`value` in the type of the setting `name`; a `UserError` calls the value by its `source`, e.g. '--depth'."""
    item = settings()[name][1]
    limits = item.metadata
    if is_list(item):
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{source} is {shown(value)}, but needs a list of numbers such as 1,2.")
        return tuple(checked_number(number, float, limits, source) for number in value)
    if item.type is bool:
        if not isinstance(value, bool):
            raise UserError(f"{source} is {shown(value)}, but needs true or false.")
    elif item.type is str:
        value = str(value) if isinstance(value, Path) else value
        if not isinstance(value, str):
            raise UserError(f"{source} is {shown(value)}, but needs a text in quotes.")
        if not is_utf8(value):
            raise UserError(f"{source} is {shown(value)}, but needs a text in UTF-8: rename what it names.")
        if limits["choices"] and value not in limits["choices"]:
            raise UserError(f"{source} is {shown(value)}, but needs one of {', '.join(limits['choices'])}.")
    else:
        value = checked_number(value, item.type, limits, source)
    return value


def is_utf8(text: str) -> bool:
    """Whether files, logs and TensorBoard accept the text: Python reads other bytes in a file name as surrogates."""
    return not re.search("[\0\ud800-\udfff]", text)


def checked_number(value, kind, limits, source: str):
    """`value` as `kind` (int or float) within the limits, or a `UserError`."""
    # Integers beyond 64 bits would overflow later.
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if not whole and not (kind is float and isinstance(value, float) and math.isfinite(value)):
        raise UserError(f"{source} is {shown(value)}, but needs a {'whole ' if kind is int else ''}number.")
    value = kind(value)
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise UserError(f"{source} is {value}, but must be at least {limits['minimum']}.")
    if limits["maximum"] is not None and value > limits["maximum"]:
        raise UserError(f"{source} is {value}, but must be at most {limits['maximum']}.")
    if limits["below"] is not None and value >= limits["below"]:
        raise UserError(f"{source} is {value}, but must be below {limits['below']}.")
    return value


def apply(config: Config, values: dict, source=flag) -> Config:
    """`config` with `values` {setting: value} in place of its own, which are then given; see `Config.given`.

    `source` makes a setting's name for messages.
    """
    changes: dict[str, dict] = {}
    for name, value in values.items():
        if name not in settings():
            close = difflib.get_close_matches(name, settings(), 1)
            raise UserError(f"{name} is no setting: {f'did you mean {close[0]}?' if close else 'see config.py.'}")
        changes.setdefault(settings()[name][0], {})[name] = checked(name, value, source(name))
    parts = {section: dataclasses.replace(getattr(config, section), **part) for section, part in changes.items()}
    given = config.given | values.keys()
    return dataclasses.replace(config, **parts, given=given | SIZES if given & SIZES else given)


def value_of(config: Config, name: str):
    """The value of a setting, from whichever section has it."""
    return getattr(getattr(config, settings()[name][0]), name)


def differences(one: Config, other: Config) -> dict[str, tuple]:
    """{setting: (its value in one, its value in the other)} where they are not equal."""
    pairs = {name: (value_of(one, name), value_of(other, name)) for name in settings()}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def check(config: Config) -> Config:
    """Returns `config` itself; a `UserError` if its settings contradict each other."""
    model, data, loss, changes = config.model, config.data, config.loss, config.augmentation
    if model.plain and model.recompute:
        raise UserError("--recompute is one of the fast forms that --plain leaves out: give one of them.")
    if model.kernel_size % 2 == 0:
        raise UserError(f"--kernel-size is {model.kernel_size}, but must be odd so that a kernel has a center.")
    classes = max(model.classes, 2)
    if loss.class_weights and len(loss.class_weights) != classes:
        raise UserError(
            f"--class-weights has {len(loss.class_weights)} weights, but needs one for each of {classes} classes, "
            "background first."
        )
    if data.normalization == "range":
        bounds = data.normalization_range
        if len(bounds) != 2 or bounds[0] >= bounds[1]:
            raise UserError(
                f"--normalization-range is {','.join(map(str, bounds)) or 'not given'}, but --normalization range "
                "needs a lowest and a highest value, as in --normalization-range=-1000,400."
            )
    elif data.normalization_range:
        raise UserError(
            f"--normalization-range is given, but --normalization is {data.normalization}: add --normalization range, "
            "or leave the range out."
        )
    if loss.class_weights and loss.loss not in ("cross_entropy", "dice_cross_entropy", "focal"):
        raise UserError(f"--class-weights has no effect on --loss {loss.loss}: leave it out, or use cross_entropy.")
    if loss.weight_map and loss.loss not in ("cross_entropy", "dice_cross_entropy", "focal"):
        raise UserError(f"--weight-map has no effect on --loss {loss.loss}: use cross_entropy, or --no-weight-map.")
    if config.training.accumulate > 1 and (loss.loss == "batch_dice" or data.ignored is not None):
        cause = "--loss batch_dice" if loss.loss == "batch_dice" else "pixels without a label"
        raise UserError(
            f"--accumulate adds up the losses of the parts of a batch, but with {cause} that of a batch is no sum over "
            "its images: leave one of them out."
        )
    if changes.augment and changes.flips and changes.flip_axes != "both" and changes.quarter_turns:
        raise UserError(
            f"--flip-axes is {changes.flip_axes}, but turns by 90 degrees make the other flip of it: add "
            "--no-quarter-turns."
        )
    if 0 < changes.low_resolution < 1:
        raise UserError(f"--low-resolution is {changes.low_resolution}, but must be at least 1, or 0 for none.")
    if data.image_size and data.resolution != 1:
        raise UserError("--image-size and --resolution both say how large images are: give one of them.")
    if data.fold and not data.folds:
        raise UserError(f"--fold is {data.fold}, but --folds is not given: say how many folds there are.")
    if data.folds == 1 or (data.folds and data.fold >= data.folds):
        raise UserError(
            f"--fold {data.fold} of --folds {data.folds} does not exist: use --folds 2 or more and --fold below it."
        )
    if data.folds and data.validation_list:
        raise UserError("--folds and --validation-list both say what is held out: give one of them.")
    if data.blocks and data.validation_list:
        raise UserError("--blocks and --validation-list both say what is held out: give one of them.")
    if not data.folds and not data.validation_list and data.validation_fraction == 0:
        raise UserError("--validation-fraction is 0, but some images must be held out: use for example 0.2.")
    if data.data and (data.images or data.masks):
        raise UserError("--data already names the folder of images/ and masks/: give it, or --images with --masks.")
    if data.mask_values and data.mask_colors:
        raise UserError("--mask-values and --mask-colors both say what the masks mean: give one of them.")
    named = [value for value in data.ignore_value if value in range(classes)]
    if named and not data.mask_values:
        raise UserError(
            f"--ignore-value is {named[0]:g}, but that is class {named[0]:g}: give that of pixels without a label, or "
            "say with --mask-values which value each class has."
        )
    if data.ignore_value and data.mask_colors:
        raise UserError(
            "--ignore-value is a gray value, but --mask-colors names colours: add the colour there, as in "
            "808080:ignore."
        )
    if bool(data.images) != bool(data.masks):
        raise UserError("--images and --masks go together: give both, or --data with images/ and masks/ in it.")
    return config


def to_json(config: Config) -> dict:
    """The settings as plain dictionaries, ready for `json.dump`."""
    return {section: dataclasses.asdict(getattr(config, section)) for section in sections()}


def from_json(values, source: str, start: Config = DEFAULTS) -> Config:
    """`start` with the values of {section: {setting: value}} in place of its own; unknown keys are errors.

    The key 'run' is skipped: there the config.json of a run folder records how the run was made.
    """
    if not isinstance(values, dict):
        raise UserError(f'{source} holds no JSON object: it needs sections such as {{"model": {{"depth": 5}}}}.')
    for section, part in values.items():
        if section == "run":
            continue
        if section not in sections():
            raise UserError(f"{source} has the unknown section {shown(section)}: it may have {', '.join(sections())}.")
        known = [item.name for item in dataclasses.fields(sections()[section])]
        if not isinstance(part, dict):
            raise UserError(
                f"{source} has {shown(part)} in section {section!r}, but needs settings such as {known[0]!r} there."
            )
        unknown = [name for name in part if name not in known]
        if unknown:
            name = shown(unknown[0])[1:-1]
            raise UserError(
                f"{source} has the unknown setting {section}.{name}: section {section!r} has {listed(known, 20)}."
            )
        start = apply(start, part, lambda name, section=section: f"{section}.{name} in {source}")
    return start


def load_json(path: str | Path):
    """The content of a JSON file, or a `UserError`."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            raise ValueError("it is no file")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: name an existing JSON file.") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, too many digits
        raise UserError(f"{path} is not readable as JSON ({reason(error)}): mend or replace it.") from None


def resolve(
    preset: str = "default", file: str | None = None, flags: dict | None = None, defaults: dict | None = None
) -> Config:
    """The checked configuration of a command. Later ones win: general defaults, `defaults`, presets, file, flags."""
    config = apply(Config(), defaults or {})
    for name in preset.split(","):
        if name not in PRESETS:
            raise UserError(f"--preset is {name!r}, but needs one of {', '.join(PRESETS)}.")
        config = apply(config, PRESETS[name])
    if file:
        config = from_json(load_json(file), str(file), config)
    return check(apply(config, flags or {}))
