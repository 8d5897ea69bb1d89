"""All settings: default, limits and help text. `settings.py` makes flags, checks and JSON files from them.

A `Config` is six frozen dataclasses, one for each part of the work. Precedence, lowest first:
the defaults below, `--preset`, `--config FILE.json`, flags.
"""

from dataclasses import dataclass, field

# The label of a pixel that does not count: none of the classes, of which there are at most 255.
IGNORED = 255


def setting(
    default, help, *, choices=(), minimum=None, maximum=None, below=None, metavar: str = "", everyday: bool = False
):
    """A dataclass field with its help text and limits (`below`: exclusive upper limit).

    `metavar` names the value in the help. Settings that are not `everyday` appear in --help-all only.
    """
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum, "below": below}
    return field(default=default, metadata={"help": help, "metavar": metavar, "everyday": everyday, **limits})


@dataclass(frozen=True)
class ModelConfig:
    """The network; see `core/unet.py`."""

    in_channels: int = setting(0, "channels of the input images; 0: as many as the data has", minimum=0, maximum=1024)
    classes: int = setting(
        1,
        "1: one kind of foreground, sigmoid output; K >= 2: softmax over K classes, class 0 the background",
        minimum=1,
        maximum=255,
        everyday=True,
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
    sync_batch_norm: bool = setting(
        False,
        "normalize over the whole batch also where several devices or machines share it (--strategy); else over the "
        "images that each of them has",
    )
    precision: str = setting(
        "float32",
        "what the layers compute in; weights, statistics, losses and updates are float32 always. bfloat16 is about "
        "twice as fast on processors with instructions for it, and slower on others; float16 is for GPUs that have no "
        "bfloat16, and slow elsewhere",
        choices=("float32", "bfloat16", "float16"),
        everyday=True,
    )
    recompute: bool = setting(
        False,
        "compute the activations of each block again for the gradient instead of keeping them: larger crops or "
        "batches fit into memory, a step takes about a third longer",
    )
    plain: bool = setting(
        False,
        "run the definitions of unet_lowlevel/core as they are printed instead of their fast forms: to step through, "
        "and to time; numbers differ by rounding",
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
    """What training minimizes: see `core/losses.py` for the equations."""

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
        everyday=True,
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
    """How the weights move: see `core/optimizers.py` for the equations."""

    optimizer: str = setting("adam", "update rule", choices=("adam", "sgd"))
    learning_rate: float = setting(
        1e-3, "learning rate at its highest; may be another with --resume", minimum=0.0, everyday=True
    )
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
    clip_norm: float = setting(
        0.0, "largest global norm of the gradient; may be another with --resume; 0: not clipped", minimum=0.0
    )
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
        metavar="DIR",
        everyday=True,
    )
    images: str = setting(
        "",
        "folder of images, when they do not lie in DIR/images of --data; or one stack of slices",
        metavar="DIR",
        everyday=True,
    )
    masks: str = setting(
        "",
        "folder of masks, when they do not lie in DIR/masks of --data; or the stack of theirs",
        metavar="DIR",
        everyday=True,
    )
    instances: str = setting(
        "",
        "folder of instance labels, a number for each object and 0 for the background; none: DIR/instances of --data, "
        "or the connected components of the masks",
        metavar="DIR",
    )
    channels: str = setting(
        "as_stored",
        "what images become: gray or rgb, where some are gray and some have colours",
        choices=("as_stored", "gray", "rgb"),
    )
    mask_values: str = setting(
        "",
        "which gray value of the masks is which class, as in 0:0,128:1,255:2,254:ignore, or 0:0,other:1; none: 0 and "
        "255, or class numbers",
    )
    mask_colors: str = setting(
        "", "which colour of the masks is which class, as in 000000:0,ff0000:1,00ff00:2,808080:ignore"
    )
    ignore_value: tuple[float, ...] = setting(
        (),
        "gray value of the pixels of masks that nobody has labelled, as in 254; they count in no loss, score or class "
        "frequency",
    )
    max_megapixels: float = setting(
        500.0,
        "larger images are refused before they are decoded, for a small file can claim any size; uncompressed TIFF "
        "files are not limited",
        minimum=0.0,
    )
    nan: str = setting(
        "error",
        "NaN in images and masks, as resampling leaves it outside of what was scanned. error: refuse it; background: "
        "it becomes 0, unless it is where the mask marks something; 0: it becomes 0",
        choices=("error", "background", "0"),
    )
    resolution: float = setting(
        1.0,
        "side of the images that the network works on, as a share of the side as stored: 0.5 for half as many pixels a "
        "side. Crops, tiles and all other lengths of the training are in pixels of these images; masks, scores and "
        "what is predicted have the pixels as stored",
        minimum=0.01,
        maximum=1.0,
    )
    image_size: int = setting(
        0,
        "resize every image to so many pixels a side, so that a place in the image means the same in all of them: for "
        "images that show the same, in several sizes; 0: by --resolution",
        minimum=0,
        maximum=2**15,
    )
    stream: bool = setting(
        False,
        "keep the decoded images in decoded/ of the run folder while training, and read from there what a step needs: "
        "for data larger than memory",
        everyday=True,
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
    validation_list: str = setting("", "text file with the stem of one held-out image a line", metavar="FILE")
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
        "regular expression on the stem: images whose match (or first bracket) is equal stay on one side of the split, "
        "and --bootstrap draws them together",
        metavar="REGEX",
        everyday=True,
    )

    @property
    def resizes(self) -> bool:
        """Whether the network sees images of another size than they are stored in."""
        return bool(self.image_size) or self.resolution < 1

    @property
    def ignored(self) -> int | None:
        """The label of pixels that do not count; None where masks have none."""
        return IGNORED if self.ignore_value or ":ignore" in self.mask_values + self.mask_colors else None


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the training images; all zero or off with --no-augment."""

    augment: bool = setting(True, "change the training images at random, as below")
    flips: bool = setting(True, "mirror left-right and up-down")
    flip_axes: str = setting(
        "both",
        "which of the two: for images that have a left and a right, or an up and a down",
        choices=("both", "left_right", "up_down"),
    )
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
    deformation_probability: float = setting(
        1.0, "share of the crops that each of these four changes", minimum=0.0, maximum=1.0
    )
    interpolation: str = setting(
        "bilinear",
        "how an image is resampled after these four; a mask takes the nearest pixel",
        choices=("bilinear", "bicubic"),
    )
    brightness: float = setting(0.1, "largest shift, in units of the normalized image", minimum=0.0)
    brightness_probability: float = setting(
        1.0, "share of the crops whose brightness changes", minimum=0.0, maximum=1.0
    )
    contrast: float = setting(0.1, "largest relative change of contrast", minimum=0.0, below=1.0)
    contrast_probability: float = setting(1.0, "share of the crops whose contrast changes", minimum=0.0, maximum=1.0)
    gamma: float = setting(0.1, "largest relative change of the gamma exponent", minimum=0.0, below=1.0)
    gamma_probability: float = setting(1.0, "share of the crops whose gamma changes", minimum=0.0, maximum=1.0)
    gamma_inverse_probability: float = setting(
        0.0, "share of the crops whose gamma changes with black and white exchanged", minimum=0.0, maximum=1.0
    )
    blur: float = setting(
        0.0, "largest standard deviation of a Gaussian blur, in pixels; 0: none", minimum=0.0, maximum=20.0
    )
    blur_probability: float = setting(1.0, "share of the crops that are blurred", minimum=0.0, maximum=1.0)
    low_resolution: float = setting(
        0.0,
        "largest factor, 1 or more, by which a crop is shrunk and enlarged again to its size; 0: none",
        minimum=0.0,
        maximum=64.0,
    )
    low_resolution_probability: float = setting(1.0, "share of the crops of lower resolution", minimum=0.0, maximum=1.0)
    noise: float = setting(
        0.05, "largest standard deviation of added Gaussian noise, in units of the normalized image", minimum=0.0
    )
    noise_probability: float = setting(1.0, "share of the crops with noise", minimum=0.0, maximum=1.0)


@dataclass(frozen=True)
class TrainingConfig:
    """The loop around the step."""

    plan: str = setting(
        "auto",
        "auto: what is not given is planned for the data, see unet_lowlevel/planning; off: it is as this help says",
        choices=("auto", "off"),
        everyday=True,
    )
    minutes: float = setting(
        0.0,
        "about how long the training takes on this machine, in minutes: the speed is measured, and gives the number of "
        "steps; 0: the plan does",
        minimum=0.0,
        maximum=1e6,
        everyday=True,
    )
    epochs: int = setting(
        15,
        "passes over the training images; with --resume, more of them extend a training: the schedule becomes that "
        "of all epochs, and the learning rate jumps",
        minimum=1,
        maximum=10**6,
        everyday=True,
    )
    steps_per_epoch: int = setting(
        0, "training steps an epoch; 0: one pass over the images", minimum=0, maximum=10**6, everyday=True
    )
    batch_size: int = setting(4, "images a training step", minimum=1, maximum=10**5, everyday=True)
    accumulate: int = setting(
        1,
        "parts in which the gradient of a batch is computed, one after another: a batch of 32 in 4 parts takes the "
        "memory of 8 images. Batch normalization sees a part; all else is as of the whole batch",
        minimum=1,
        maximum=10**5,
    )
    crop_size: int = setting(
        0,
        "side in pixels of the square that training sees of an image; 0: the largest image, at most 256. Smaller "
        "images are mirrored up",
        minimum=0,
        maximum=2**15,
        everyday=True,
    )
    draw_by: str = setting(
        "image",
        "how often an image is drawn beside others. image: all equally often; area: as often as crops fit into it, so "
        "that pixels of large and small images count alike",
        choices=("image", "area"),
    )
    foreground_crops: float = setting(
        0.0,
        "share of the crops that are drawn where an image has foreground, each class of it equally often; the others "
        "lie anywhere",
        minimum=0.0,
        maximum=1.0,
    )
    seed: int = setting(0, "seed of everything random", minimum=0, maximum=2**31 - 1)
    init: str = setting(
        "",
        "run folder, of any implementation, whose best weights the training begins with; what does not fit, as for "
        "other classes or channels, starts anew",
        metavar="DIR",
    )
    output_bias_prior: bool = setting(True, "start the output bias at the share of each class in the training masks")
    keep: str = setting(
        "best",
        "whose weights the run keeps in best/, to predict with: those of the epoch with the best validation Dice, the "
        "median of it and of the two epochs before, or those of the last epoch",
        choices=("best", "last"),
    )
    patience: int = setting(
        0,
        "epochs without a better validation Dice (median of 3 epochs) before training stops; 0: never",
        minimum=0,
        everyday=True,
    )
    checkpoint_minutes: float = setting(
        10.0, "save the state also within an epoch, after so many minutes; 0: at the end of epochs only", minimum=0.0
    )
    checkpoint_steps: int = setting(0, "save the state also within an epoch, after so many steps; 0: never", minimum=0)
    checkpoints_to_keep: int = setting(2, "newest checkpoints kept, beside the best", minimum=1)
    pictures: int = setting(4, "validation images in TensorBoard's pictures", minimum=0, maximum=64)
    profile: int = setting(0, "record which operation takes how long in so many steps; 0: none", minimum=0)
    threshold: float = setting(
        0.0,
        "probability from which a pixel is foreground (one-class networks); 0: 0.5 while training, and then the one of "
        "the best Dice on the held-out images",
        minimum=0.0,
        maximum=1.0,
    )
    average_flips: bool = setting(
        False,
        "predict by the mean over the image mirrored and turned in the ways that the training shows, up to 8: takes up "
        "to 8 times as long; the validation of every epoch goes without",
    )
    overfit_one_batch: bool = setting(
        False, "learn one batch by heart: the first thing to try on new data", everyday=True
    )

    @property
    def decision_threshold(self) -> float:
        """The threshold that was given or chosen, else 0.5."""
        return self.threshold or 0.5


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
        given: the names of the settings that are not by default, but by flag, file or preset: no plan changes them.
    """

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def of(cls, preset: str = "default", file: str | None = None, **settings) -> "Config":
        """The settings given by name, from any section, on top of a preset (or several, "a,b") and a JSON file.

        >>> config = Config.of(preset="original", depth=4)
        >>> config.model.depth, config.model.base_channels, config.loss.loss, sorted(config.given)[:2]
        (4, 16, 'dice', ['augment', 'batch_normalization'])
        >>> Config.of(dept=4)
        Traceback (most recent call last):
        unet_lowlevel.errors.UserError: dept is no setting: did you mean depth?

        Raises:
            UserError: for an unknown name, a value outside its limits, or values that contradict each other.
        """
        from unet_lowlevel.settings import resolve  # it imports this module

        return resolve(preset, file, settings)


# After Isensee et al. 2021 (nnU-Net), supplementary information and code: how far each change goes and how often.
# 45 degrees are any angle together with quarter turns. Units of gray values are those of --normalization standard.
STRONG_AUGMENTATION = {
    "augment": True,
    "rotation": 45.0,
    "scaling": 0.3,
    "deformation_probability": 0.2,
    "brightness": 0.3,
    "brightness_probability": 0.15,
    "contrast": 0.25,
    "contrast_probability": 0.3,
    "gamma": 0.4,
    "gamma_probability": 0.3,
    "gamma_inverse_probability": 0.1,
    "blur": 1.5,
    "blur_probability": 0.1,
    "low_resolution": 2.0,
    "low_resolution_probability": 0.125,
    "noise": 0.3,
    "noise_probability": 0.1,
}

PRESETS = {
    "default": {},
    # The 2019 hyper-parameters: no batch normalization was ever applied, and images were not augmented.
    "original": {
        "plan": "off",
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
        "plan": "off",
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
    # The strength of the random changes alone; the light one, that of the defaults, takes the strong one back.
    "light_augmentation": {name: getattr(AugmentationConfig(), name) for name in STRONG_AUGMENTATION},
    "strong_augmentation": STRONG_AUGMENTATION,
}
