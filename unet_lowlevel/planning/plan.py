"""The plan: which settings fit a data set, and why.

A pure function of the fingerprint of the data, the settings that are given and, with --minutes, the measured speed.
Each rule below is a function that yields its choices. It sees the settings that the rules before it have chosen. What
the user has given stays as it is.
"""

import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.resolution import working_size
from unet_lowlevel.geometry import LARGEST_CROP, crops_in, learned_side, legal_size
from unet_lowlevel.planning.fingerprint import ClassFingerprint, Fingerprint
from unet_lowlevel.summary import step_operations, summarize

# Images that are seen whole have this side where objects are hard to tell, and a multiple of so many pixels.
SMALL_IMAGE, MULTIPLE = 128, 16
# So many pixels are left of the thinnest class, the background included.
THINNEST = 8
# Working resolutions, easy to say; those between would be no better.
RESOLUTIONS = (1 / 16, 1 / 12, 1 / 10, 1 / 8, 1 / 6, 1 / 5, 1 / 4, 1 / 3, 2 / 5, 1 / 2, 2 / 3, 3 / 4, 1)
# A crop has at least so many pixels a side at the bottleneck.
BOTTLENECK = 4
DEEPEST = 5
# Where objects stand out less than this, neither their gray values nor their places tell much.
HARD = 0.5
# Then every crop is changed by so much, and activations are dropped: images are seen often, and would be learned by
# heart.
CHANGES = {
    "dropout_rate": 0.2,
    "elastic": 10.0,
    "rotation": 20.0,
    "scaling": 0.25,
    "brightness": 0.3,
    "contrast": 0.3,
    "gamma": 0.3,
}
# {how objects stand out: training steps of so much or more}
STEPS = {0.9: 400, 0.6: 1500, 0.0: 9000}
# Objects of which more than this share touch another are to be separated, which takes so many steps.
TOUCHING, STEPS_TO_SEPARATE = 0.05, 3000
# Floating-point operations of a training: about half an hour on two cores of 2020 or later.
OPERATIONS = 6e14
# The validation takes at most this share of a training, which has at least and at most so many epochs.
VALIDATION, FEWEST_EPOCHS, MOST_EPOCHS = 0.1, 3, 25
# From this factor between the crops in the largest and in the smallest image on, images are drawn by their area.
UNEQUAL = 2
# Where random crops show a class less often than the first, the second share of them is drawn where it is: a third, as
# in Isensee et al. 2021, Methods.
SEEN, FOREGROUND_CROPS = 0.9, 0.33
# Images have a common layout from this correlation on. Mirrored they are as they were from that.
COMMON, SYMMETRIC = 0.3, 0.9


@dataclass(frozen=True)
class Choice:
    """A setting, its value, and half a sentence that says why."""

    setting: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Speed:
    """What was measured of a training on this machine.

    Attributes:
        step: seconds of a training step.
        validation: seconds of the validation of all held-out images.
    """

    step: float
    validation: float


Rule = Callable[[Fingerprint, Config, Speed | None], Iterator[Choice]]


def plan(found: Fingerprint, config: Config, speed: Speed | None = None) -> tuple[Config, list[Choice]]:
    """`config` with the settings that the data decides, and these with their reasons.

    Args:
        found: the fingerprint of the data.
        config: defaults, and what is given, which stays; see `Config.given`.
        speed: for --minutes; None leaves out what depends on it.
    """
    chosen: list[Choice] = []
    given = config.given if config.training.crop_size else config.given - {"crop_size"}  # 0 asks for a choice
    for rule in RULES if config.training.plan == "auto" else (steps_in_time,):
        for choice in rule(found, config, speed):
            if choice.setting not in given:
                config = settings.apply(config, {choice.setting: choice.value})
                chosen.append(choice)
    return config, chosen


def largest(found: Fingerprint) -> float:
    """The extent of the large objects, in pixels as stored; the side of the images without objects."""
    return max((kind.extent[-1] for kind in found.foreground), default=max(found.height[1], found.width[1]))


def standing_out(found: Fingerprint) -> float:
    """How well the foreground class that is hardest to tell is told by its gray values or by its place, 0 to 1."""
    return min((max(kind.contrast, kind.place) for kind in found.foreground), default=0.0)


def hard(found: Fingerprint) -> bool:
    """Whether objects stand out so little that neither gray values nor places tell much."""
    return standing_out(found) < HARD


def why_hard(found: Fingerprint) -> str:
    return f"objects stand out by {standing_out(found):.2f} of 1 only"


def sizes(found: Fingerprint, config: Config) -> list[tuple[int, int]]:
    """Height and width at which the network sees the smallest, the median and the largest image."""
    sides = zip(found.height, found.width, strict=True)
    return [working_size((round(height), round(width)), config.data) for height, width in sides]


def resolution(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """Large objects fit into a crop, as long as the thinnest class can still be seen.

    Images that have a layout in common are seen whole, all of one size: a place then means the same in all of them.
    Else

    resolution = max(LARGEST_CROP / extent of large objects, THINNEST / least thickness), the next of `RESOLUTIONS`
    """
    extent = largest(found)
    thickness = max(min(kind.thickness[0] for kind in found.classes if kind.images), 1)
    longer = max(found.height[1], found.width[1])
    side = max(SMALL_IMAGE if hard(found) else LARGEST_CROP, THINNEST / thickness * longer)
    side = MULTIPLE * math.ceil(min(side, longer) / MULTIPLE)
    if found.layout.common >= COMMON and side <= LARGEST_CROP and {*found.height, *found.width} != {side}:
        reason = "all images show the same in the same place"
        if hard(found):
            reason += f"; {why_hard(found)}, which takes many steps, quick in small ones"
        yield Choice("image_size", side, reason)
        return
    wanted = max(LARGEST_CROP / extent, THINNEST / thickness)
    value = min((one for one in RESOLUTIONS if one >= wanted), default=1)
    if value < 1:
        reason = f"so that objects of {extent:.0f} pixels fit into a crop"
    elif wanted > THINNEST / thickness:
        reason = f"objects of {extent:.0f} pixels fit into a crop as they are"
    else:
        reason = f"what is {thickness:.0f} pixels thin would be lost in smaller images"
    yield Choice("resolution", round(value, 3), reason)


def network(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """The crop holds a whole image, up to `LARGEST_CROP`; the network is as deep as that allows, up to `DEEPEST`."""
    side = max(sizes(found, config)[1])
    crop, depth = min(side, LARGEST_CROP), DEEPEST
    while depth > 1 and crop < BOTTLENECK * 2 ** (depth - 1):
        depth -= 1
    yield Choice("depth", depth, f"an output pixel sees {receptive_field(config, depth)} pixels a side")
    depth = config.model.depth if "depth" in config.given else depth
    if side > LARGEST_CROP:
        reason = "larger crops take more time and memory"
    else:
        reason = "a crop is a whole image" if config.data.image_size else "half of the images are no larger"
    yield Choice("crop_size", legal_size(settings.apply(config, {"depth": depth}).model, crop), reason)
    yield Choice("base_channels", 16, "twice as many take three times the time")
    yield Choice("batch_size", 8, "so many crops give batch normalization steady statistics")


def receptive_field(config: Config, depth: int) -> int:
    """That of the output of a network of this depth, in pixels a side."""
    model = settings.apply(config, {"depth": depth, "in_channels": 1, "padding": "same"}).model
    return summarize(model, 2**depth, 2**depth)[-1].receptive_field


def drawing(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """By their area where some images hold many more crops than others; where a class is if few crops would show it."""
    small, _, large = (crops_in(size, config) for size in sizes(found, config))
    if large >= UNEQUAL * small:
        reason = f"{large:.0f} crops fit into the largest image, {small:.0f} into the smallest"
        yield Choice("draw_by", "area", reason)
    share = min((share_of_crops(found, config, kind) for kind in found.foreground), default=1)
    if share < SEEN:
        yield Choice("foreground_crops", FOREGROUND_CROPS, f"only {share:.0%} of random crops show a class")


def share_of_crops(found: Fingerprint, config: Config, kind: ClassFingerprint) -> float:
    """The share of random crops that show a class, of the median of the images that have it.

    1 - (1 - p)^n,  p = min(crop / height + extent / stored height, 1) min(crop / width + extent / stored width, 1),

    p the probability that what is learned of a crop meets one of its n objects.
    """
    lengths = zip(sizes(found, config)[1], (found.height[1], found.width[1]), strict=True)
    crop = learned_side(config)
    meets = math.prod(min(crop / length + kind.extent[1] / stored, 1) for length, stored in lengths)
    return 1 - (1 - meets) ** (kind.objects / kind.images)


def mirroring(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """Mirrors only where images share no layout, or one that mirroring hardly changes, or objects are hard to tell."""
    layout = found.layout
    free = hard(found) or layout.common < COMMON
    left_right, up_down, turned = (
        free or correlation > SYMMETRIC for correlation in (layout.left_right, layout.up_down, layout.transposed)
    )
    if hard(found):
        reason = f"{why_hard(found)}: mirrored and turned, fewer are learned by heart"
    elif free:
        reason = "images have no layout in common"
    else:
        reason = (
            f"the mean image correlates {layout.left_right:.2f} with itself mirrored left-right, {layout.up_down:.2f} "
            f"up-down, {layout.transposed:.2f} with rows and columns exchanged"
        )
    yield Choice("flips", left_right or up_down, reason)
    if left_right != up_down:
        yield Choice("flip_axes", "left_right" if left_right else "up_down", reason)
    yield Choice("quarter_turns", left_right and up_down and turned, reason)


def augmentation(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """`CHANGES` where objects are hard to tell; else those by default."""
    if hard(found):
        for name, value in CHANGES.items():
            yield Choice(name, value, why_hard(found))


def loss(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """A weight map where objects touch. The last epoch is kept: that of the best Dice need not part objects best."""
    if found.touching and found.touching > TOUCHING:
        reason = f"{100 * found.touching:.0f} % of the objects touch another"
        yield Choice("loss", "cross_entropy", reason)
        yield Choice("weight_map", True, reason)
        yield Choice("keep", "last", "Dice hardly tells how well objects that touch are parted")


def averaging(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    if not config.training.overfit_one_batch:
        yield Choice("ema_decay", 0.998, "the average of the last 500 steps is steadier than the last step")


def views(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """The mean over mirror images, in each of which a network errs differently, where objects are hard or touch."""
    reason = why_hard(found) if hard(found) else "objects touch"
    if hard(found) or config.loss.weight_map:
        yield Choice("average_flips", True, f"{reason}, and the mean over mirror images errs less")


def steps(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """The more steps, the less objects stand out, of `OPERATIONS` at most; with --minutes see `steps_in_time`."""
    if config.training.minutes:
        yield from steps_in_time(found, config, speed)
        return
    # Epochs that are given are passes over the images, unless --steps-per-epoch is given as well.
    if "epochs" in config.given or config.training.overfit_one_batch:
        return
    count = next(steps for limit, steps in STEPS.items() if standing_out(found) >= limit)
    reason = f"objects stand out by {standing_out(found):.2f} of 1"
    if config.loss.weight_map and count < STEPS_TO_SEPARATE:
        count, reason = STEPS_TO_SEPARATE, "it takes longer to separate objects that touch"
    cost = step_operations(settings.apply(config, {"in_channels": found.channels}))
    if count * cost > OPERATIONS:
        count, reason = int(OPERATIONS / cost), "more would take longer than about half an hour"
    crops = config.training.batch_size * config.training.crop_size**2
    image = math.prod(sizes(found, config)[1])
    validation = config.data.validation_fraction * found.images * cost / 3 * image / crops
    yield from in_epochs(config, count, epochs_of(config, count * cost, validation), reason)


def steps_in_time(found: Fingerprint, config: Config, speed: Speed | None) -> Iterator[Choice]:
    """As many steps as --minutes allows."""
    seconds = 60 * config.training.minutes
    if not seconds or not speed:
        return
    epochs = epochs_of(config, seconds, speed.validation)
    count = int((seconds - epochs * speed.validation) / speed.step)
    minutes = f"{config.training.minutes:g} minute{'s' * (config.training.minutes != 1)}"
    reason = f"{minutes} at {1000 * speed.step:.0f} ms a step, measured on this machine"
    yield from in_epochs(config, count, epochs, reason)


def in_epochs(config: Config, count: int, epochs: int, reason: str) -> Iterator[Choice]:
    yield Choice("epochs", epochs, f"validations then take no more than {VALIDATION:.0%} of the time")
    yield Choice("steps_per_epoch", max(count // epochs, 1), reason)


def epochs_of(config: Config, training: float, validation: float) -> int:
    """How many epochs there are, where a training and a validation cost so much."""
    if "epochs" in config.given:
        return config.training.epochs
    return int(min(max(VALIDATION * training / max(validation, 1e-9), FEWEST_EPOCHS), MOST_EPOCHS))


RULES: tuple[Rule, ...] = (resolution, network, drawing, mirroring, augmentation, loss, averaging, views, steps)


def table(choices: list[Choice]) -> list[str]:
    """A paragraph for each reason, with all that it is the reason of."""
    lines: dict[str, list[str]] = {}
    for choice in choices:
        lines.setdefault(choice.reason, []).append(f"{choice.setting} {choice.value}")
    return [
        textwrap.fill(f"{', '.join(names)}: {reason}", 96, initial_indent="  ", subsequent_indent="      ")
        for reason, names in lines.items()
    ]
