"""Every setting once: default, limits and help. Flags, checks and JSON files are made from here.

A `Config` is six frozen dataclasses, one for each part of the work. Precedence, lowest first:
the defaults below, `--preset`, `--config FILE.json`, flags.
"""

import dataclasses
import json
import math
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path

from unet_lowlevel.errors import UserError, listed, reason, shown


def setting(default, help, *, choices=(), minimum=None, maximum=None, below=None):
    """A dataclass field that knows its help text and its limits (`below` is an open upper limit)."""
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum, "below": below}
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class ModelConfig:
    """The network that `unet.UNet` builds."""

    in_channels: int = setting(0, "channels of the input images; 0: as many as the data has", minimum=0, maximum=1024)
    classes: int = setting(
        1,
        "1: one kind of foreground, sigmoid output; K >= 2: softmax over K classes, class 0 the background",
        minimum=1,
        maximum=255,
    )
    depth: int = setting(5, "resolution levels, bottleneck included: depth - 1 poolings", minimum=1, maximum=8)
    base_channels: int = setting(16, "channels of the first level; doubled at every level", minimum=1, maximum=512)
    kernel_size: int = setting(3, "side of the convolution kernels in pixels, odd", minimum=1, maximum=15)
    convolutions_per_block: int = setting(
        2, "convolutions at each level, going down and going up", minimum=1, maximum=8
    )
    padding: str = setting(
        "same",
        "same: the output has the image's size; valid: the paper's convolutions without padding (572 -> 388)",
        choices=("same", "valid"),
    )
    activation: str = setting("elu", "non-linearity after every convolution", choices=("elu", "relu"))
    batch_normalization: bool = setting(True, "normalize over the batch between convolution and activation")
    precision: str = setting(
        "float32",
        "what the layers compute in; weights, statistics, losses and updates are float32 always. bfloat16 is about "
        "twice as fast on processors with instructions for it, and slower on others",
        choices=("float32", "bfloat16"),
    )
    recompute: bool = setting(
        False,
        "compute the activations of each block again for the gradient instead of keeping them: larger crops or "
        "batches fit into memory, a step takes about a third longer",
    )
    dropout_rate: float = setting(0.0, "share of activations set to zero while training", minimum=0.0, below=1.0)
    dropout_position: str = setting(
        "block",
        "block: after the first convolution of every block; contracting_end: after the two deepest blocks of the "
        "contracting path, as in the paper",
        choices=("block", "contracting_end"),
    )


@dataclass(frozen=True)
class LossConfig:
    """What training minimizes: see `losses.py` for the equations."""

    loss: str = setting(
        "dice_cross_entropy",
        "loss function",
        choices=(
            "dice",
            "batch_dice",
            "generalized_dice",
            "cross_entropy",
            "dice_cross_entropy",
            "focal",
            "tversky",
        ),
    )
    class_weights: tuple[float, ...] = setting(
        (),
        "weight of each class in cross-entropy and focal loss, background first, as in 1,5; none: all 1",
        minimum=0.0,
    )
    dice_smooth: float = setting(1.0, "pixels added to both sides of the Dice and Tversky ratios", minimum=0.0)
    focal_gamma: float = setting(2.0, "exponent that mutes easy pixels in the focal loss", minimum=0.0)
    tversky_alpha: float = setting(0.3, "weight of false positives in the Tversky loss", minimum=0.0)
    tversky_beta: float = setting(0.7, "weight of false negatives in the Tversky loss", minimum=0.0)
    weight_map: bool = setting(
        False,
        "weight each pixel in cross-entropy and focal loss as in the paper: classes balanced, and more between objects "
        "that are close to each other, between which, where they touch, the network learns a border of background; "
        "objects are those of --instances",
    )
    weight_map_w0: float = setting(10.0, "weight between objects that touch, beside that of the class", minimum=0.0)
    weight_map_sigma: float = setting(
        5.0, "how far that reaches, in pixels: the standard deviation of equation 2", minimum=0.1, maximum=1000.0
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move: see `optimizers.py` for the equations."""

    optimizer: str = setting("adam", "update rule", choices=("adam", "sgd"))
    learning_rate: float = setting(1e-3, "learning rate at its highest", minimum=0.0)
    momentum: float = setting(0.9, "momentum of SGD", minimum=0.0, below=1.0)
    nesterov: bool = setting(False, "Nesterov's form of the momentum of SGD")
    weight_decay: float = setting(
        0.0, "decoupled weight decay of the kernels, per step and unit of learning rate", minimum=0.0
    )
    schedule: str = setting(
        "cosine",
        "course of the learning rate from the warm-up to the last step",
        choices=("constant", "exponential", "polynomial", "cosine"),
    )
    warmup_steps: int = setting(0, "steps in which the learning rate rises linearly from 0", minimum=0)
    final_fraction: float = setting(
        0.01, "learning rate at the last step as a share of the highest", minimum=0.0, maximum=1.0
    )
    polynomial_power: float = setting(0.9, "exponent of the polynomial schedule", minimum=0.0)
    clip_norm: float = setting(0.0, "largest global norm of the gradient; 0: not clipped", minimum=0.0)
    ema_decay: float = setting(
        0.0,
        "decay of the moving average of the weights that validation and prediction use; 0: none",
        minimum=0.0,
        below=1.0,
    )


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are normalized and which of them are held out."""

    data: str = setting(
        "",
        "folder with images/ and masks/; none: to train, phantoms in data/phantoms; to evaluate, the data of the run",
    )
    images: str = setting("", "folder of images, when they do not lie in DATA/images; or one stack of slices")
    masks: str = setting("", "folder of masks, when they do not lie in DATA/masks; or the stack of theirs")
    instances: str = setting(
        "",
        "folder of instance labels, a number for each object and 0 for the background; none: DATA/instances, or the "
        "connected components of the masks",
    )
    channels: str = setting(
        "as_stored",
        "what images become: gray or rgb, where some are gray and some have colours",
        choices=("as_stored", "gray", "rgb"),
    )
    mask_values: str = setting(
        "", "which gray value of the masks is which class, as in 0:0,128:1,255:2; none: 0 and 255, or class numbers"
    )
    mask_colors: str = setting("", "which colour of the masks is which class, as in 000000:0,ff0000:1,00ff00:2")
    max_megapixels: float = setting(
        500.0,
        "larger images are refused before they are decoded, for a small file can claim any size; uncompressed TIFF "
        "files are not limited",
        minimum=0.0,
    )
    stream: bool = setting(
        False,
        "keep the decoded images in RUN/decoded while training, and read from there what a step needs: for data larger "
        "than memory",
    )
    normalization: str = setting(
        "standard",
        "standard: each image to zero mean and unit variance; minmax: each image to 0..1; range: the fixed range "
        "of --normalization-range to 0..1",
        choices=("standard", "minmax", "range"),
    )
    normalization_range: tuple[float, ...] = setting(
        (),
        "lowest and highest gray value of --normalization range, as in --normalization-range=-1000,400 (Hounsfield "
        "units)",
    )
    validation_fraction: float = setting(0.2, "share of the images (of whole groups) held out", minimum=0.0, below=1.0)
    validation_list: str = setting("", "text file with the stem of one held-out image a line")
    folds: int = setting(
        0, "number of folds of a cross-validation; 0: use --validation-fraction", minimum=0, maximum=1000
    )
    fold: int = setting(0, "which fold is held out, from 0", minimum=0, maximum=999)
    blocks: bool = setting(
        False,
        "hold out neighbours in the order of the stems: a block of images for each of the --folds, or without these "
        "the last images; for slices, of which neighbours resemble each other",
    )
    group_regex: str = setting(
        "",
        "regular expression on the stem: images whose match (or first bracket) is equal stay on one side of the split",
    )


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the training images; all zero or off with --no-augment."""

    augment: bool = setting(True, "change the training images at random, as below")
    flips: bool = setting(True, "mirror left-right and up-down")
    quarter_turns: bool = setting(True, "turn by 90, 180 or 270 degrees (square crops)")
    elastic: float = setting(
        0.0,
        "standard deviation in pixels of random displacements on a coarse grid, smooth between its points; 10 in the "
        "paper",
        minimum=0.0,
        maximum=1000.0,
    )
    elastic_grid: int = setting(3, "points a side of that grid, which spans the crop", minimum=3, maximum=64)
    rotation: float = setting(0.0, "largest angle of a rotation, in degrees", minimum=0.0, maximum=180.0)
    scaling: float = setting(0.0, "largest relative change of size", minimum=0.0, maximum=0.5)
    shear: float = setting(0.0, "largest angle of a shear, in degrees", minimum=0.0, maximum=45.0)
    interpolation: str = setting(
        "bilinear",
        "how an image is resampled after these four; a mask takes the nearest pixel",
        choices=("bilinear", "bicubic"),
    )
    brightness: float = setting(0.1, "largest shift, in units of the normalized image", minimum=0.0)
    contrast: float = setting(0.1, "largest relative change of contrast", minimum=0.0, below=1.0)
    gamma: float = setting(0.1, "largest relative change of the gamma exponent", minimum=0.0, below=1.0)
    noise: float = setting(
        0.05, "largest standard deviation of added Gaussian noise, in units of the normalized image", minimum=0.0
    )


@dataclass(frozen=True)
class TrainingConfig:
    """The loop around the step."""

    epochs: int = setting(15, "passes over the training images", minimum=1, maximum=10**6)
    steps_per_epoch: int = setting(0, "training steps an epoch; 0: one pass over the images", minimum=0, maximum=10**6)
    batch_size: int = setting(4, "images a training step", minimum=1, maximum=10**5)
    crop_size: int = setting(
        0,
        "side in pixels of the square that training sees of an image; 0: the largest image, at most 256. Smaller "
        "images are mirrored up",
        minimum=0,
        maximum=2**15,
    )
    seed: int = setting(0, "seed of everything random", minimum=0, maximum=2**31 - 1)
    output_bias_prior: bool = setting(True, "start the output bias at the share of each class in the training masks")
    keep: str = setting(
        "best",
        "whose weights the run keeps in best/, to predict with: the epoch's with the best validation mean IoU, or the "
        "last one's, so that the held-out images choose nothing",
        choices=("best", "last"),
    )
    patience: int = setting(0, "epochs without a better validation mean IoU before training stops; 0: never", minimum=0)
    checkpoint_minutes: float = setting(
        10.0, "save the state also within an epoch, after so many minutes; 0: at the end of epochs only", minimum=0.0
    )
    checkpoint_steps: int = setting(0, "save the state also within an epoch, after so many steps; 0: never", minimum=0)
    checkpoints_to_keep: int = setting(2, "newest checkpoints kept, beside the best", minimum=1)
    pictures: int = setting(4, "validation pictures in TensorBoard", minimum=0, maximum=64)
    threshold: float = setting(
        0.5, "probability from which a pixel is foreground (one-class networks)", minimum=0.0, maximum=1.0
    )
    overfit_one_batch: bool = setting(False, "learn one batch by heart: the first thing to try on new data")


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()


PRESETS = {
    "default": {},
    # The 2019 hyper-parameters: no batch normalization was ever applied, and images were not augmented.
    "original": {
        "batch_normalization": False,
        "dropout_rate": 0.2,
        "loss": "dice",
        "schedule": "constant",
        "augment": False,
        "output_bias_prior": False,
        "epochs": 40,
        "patience": 10,
    },
    # Ronneberger et al. 2015. The paper names no learning rate and no dropout rate; these are ours.
    "paper": {
        "padding": "valid",
        "activation": "relu",
        "base_channels": 64,
        "batch_normalization": False,
        "dropout_rate": 0.5,
        "dropout_position": "contracting_end",
        "classes": 2,
        "loss": "cross_entropy",
        "weight_map": True,
        "elastic": 10.0,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.99,
        "schedule": "constant",
        "batch_size": 1,
        "crop_size": 572,
        "output_bias_prior": False,
    },
}


def sections() -> dict[str, type]:
    """{'model': ModelConfig, ...}: the sections of a configuration in their order."""
    return {section.name: section.type for section in dataclasses.fields(Config)}


def settings() -> dict[str, tuple[str, dataclasses.Field]]:
    """{setting: (section, field)} over all sections; a setting's name stands in one section only."""
    return {item.name: (section, item) for section, kind in sections().items() for item in dataclasses.fields(kind)}


def flag(name: str) -> str:
    """The command-line flag of a setting: 'batch_size' -> '--batch-size'."""
    return "--" + name.replace("_", "-")


def is_list(item: dataclasses.Field) -> bool:
    return typing.get_origin(item.type) is tuple


def checked(name: str, value, source: str):
    """`value` in the type of the setting `name`, or a `UserError` that names `source`, e.g. '--depth'."""
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
    """Whether files, logs and TensorBoard can take the text: a name may hold other bytes, which Python lets through."""
    return not re.search("[\0\ud800-\udfff]", text)


def checked_number(value, kind: type, limits, source: str):
    """`value` as `kind` (int or float) within the limits, or a `UserError`."""
    # Whole numbers beyond 64 bits would overflow further on.
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
    """`config` with `values` ({setting: value}) laid over it; `source` turns a name into what to call it."""
    changes: dict[str, dict] = {}
    for name, value in values.items():
        changes.setdefault(settings()[name][0], {})[name] = checked(name, value, source(name))
    parts = {section: dataclasses.replace(getattr(config, section), **part) for section, part in changes.items()}
    return dataclasses.replace(config, **parts)


def check(config: Config) -> Config:
    """`config` itself once the settings fit each other, else a `UserError`."""
    model, data, loss = config.model, config.data, config.loss
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
    if bool(data.images) != bool(data.masks):
        raise UserError("--images and --masks go together: give both, or --data with images/ and masks/ in it.")
    return config


def to_json(config: Config) -> dict:
    """The settings as plain dictionaries, ready for `json.dump`."""
    return dataclasses.asdict(config)


def from_json(values, source: str, start: Config = Config()) -> Config:
    """The configuration of `{section: {setting: value}}` laid over `start`; unknown keys are errors.

    The key 'run', in which a run folder's config.json tells what it was made with, is passed over.
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
        if path.exists() and not path.is_file():  # a pipe, for example, would be waited for
            raise ValueError("it is no file")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: name an existing JSON file.") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, too many digits
        raise UserError(f"{path} is not readable as JSON ({reason(error)}): mend or replace it.") from None


def resolve(
    preset: str = "default", file: str | None = None, flags: dict | None = None, defaults: dict | None = None
) -> Config:
    """The configuration of a command: defaults (its own over the general ones) < preset < file < flags, checked."""
    if preset not in PRESETS:
        raise UserError(f"--preset is {preset!r}, but needs one of {', '.join(PRESETS)}.")
    config = apply(apply(Config(), defaults or {}), PRESETS[preset])
    if file:
        config = from_json(load_json(file), str(file), config)
    return check(apply(config, flags or {}))
