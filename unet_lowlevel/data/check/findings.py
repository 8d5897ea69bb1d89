"""Judges a data set by the facts of `inspection.py`: how bad a problem is, what it is, how to mend it."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.data import splits
from unet_lowlevel.data.check import likeness
from unet_lowlevel.data.check.inspection import Measurement, Mistake
from unet_lowlevel.data.masks import stray_values
from unet_lowlevel.data.packed import Part
from unet_lowlevel.data.resolution import working_size
from unet_lowlevel.errors import UserError, listed, what_and_remedy
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.summary import training_bytes

# Training would fail; it would run, but probably learn something wrong; it would be fine.
ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")
NEARLY_EVERYTHING = 0.95
RARE = 0.01
FAR_FROM_FRACTION = 0.15
BLURRED = "save them as PNG with nothing but 0 and 255, resized with nearest neighbour, never as JPEG"
BLURRED_BY_JPEG = "export them anew as PNG with nothing but 0 and 255, since JPEG makes such edges"
# The text before the last number of a stem: the patient, if the number is that of a slice.
BEFORE_LAST_NUMBER = r"^(.*\D)\d+\D*$"


@dataclass(frozen=True)
class Finding:
    """Something that the user should know.

    Attributes:
        severity: one of `SEVERITIES`.
        kind: a name for programs, as in "duplicates".
        what: half a sentence that names the images, at most five.
        fix: what to do about it, half a sentence.
        stems: of all images concerned.
    """

    severity: str
    kind: str
    what: str
    fix: str
    stems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """All facts that are judged; both sides of the split are empty if there is none."""

    config: Config
    measurements: list[Measurement]
    mistakes: list[Mistake]
    training: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()

    def torn(self, stems) -> bool:
        """Whether the split puts some of the stems on each side."""
        return not self.training.isdisjoint(stems) and not self.held_out.isdisjoint(stems)


def judge(
    config: Config, measurements: list[Measurement], mistakes: list[Mistake], available: int | None
) -> tuple[list[Finding], Evidence]:
    """All findings, the worst first, and their evidence; `available`: bytes of available memory, if known."""
    found, sides = [], ([], [])
    if measurements and not config.training.overfit_one_batch:  # for which nothing is split
        groups = {m.stem: m.pair.group for m in measurements}
        try:
            sides = splits.split(list(groups), config.data, config.training.seed, groups)
        except UserError as error:
            found.append(Finding(ERROR, "split", *what_and_remedy(error)))
    evidence = Evidence(config, measurements, mistakes, *map(frozenset, sides))
    for rule in (
        unusable,
        channels,
        blank,
        empty,
        full,
        misplaced,
        stray,
        classes,
        duplicates,
        groups_of_names,
        split_size,
    ):
        found += rule(evidence)
    found += memory(evidence, available)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)), evidence


def unusable(evidence: Evidence) -> Iterator[Finding]:
    """Files that training would refuse; those with the same remedy become one finding."""
    alike: dict[tuple[str, str], list[Mistake]] = defaultdict(list)
    for mistake in evidence.mistakes:
        remedy = what_and_remedy(mistake.error)[1]
        if mistake.kind == "gray_edges":
            remedy = BLURRED_BY_JPEG if "because JPEG" in str(mistake.error) else BLURRED
        alike[mistake.kind, remedy if mistake.stem else str(mistake.error)].append(mistake)
    for (kind, remedy), mistakes in alike.items():
        stems = tuple(mistake.stem for mistake in mistakes if mistake.stem)
        what, fix = what_and_remedy(mistakes[0].error)
        if kind == "gray_edges":
            what = f"{count(stems, 'mask')} with gray edges, which leave open what is marked: {listed(stems)}"
            fix = remedy
        elif len(stems) > 1:
            what += f"; likewise {listed(stems[1:])}"
        yield Finding(ERROR, kind, what, fix, stems)


def channels(evidence: Evidence) -> Iterator[Finding]:
    kinds = defaultdict(list)
    for m in evidence.measurements:
        if m.image:
            kinds[m.image.channels].append(m.stem)
    if len(kinds) > 1:
        found = [f"{len(stems)} with {channels} ({listed(stems, 2)})" for channels, stems in sorted(kinds.items())]
        fix = "add --channels gray or --channels rgb" if set(kinds) <= {1, 3} else "convert them to one kind"
        rarest = min(kinds.values(), key=len)
        yield Finding(ERROR, "channels", f"images differ in their channels, {' and '.join(found)}", fix, tuple(rarest))


def blank(evidence: Evidence) -> Iterator[Finding]:
    stems = tuple(m.stem for m in evidence.measurements if m.image and m.image.low == m.image.high)
    if stems:
        what = f"{count(stems, 'image')} of a single value, on which nothing shows: {listed(stems)}"
        yield Finding(WARNING, "blank", what, "replace them, or take them out with their masks", stems)


def empty(evidence: Evidence) -> Iterator[Finding]:
    masks = with_masks(evidence)
    stems = tuple(m.stem for m in masks if m.mask.foreground == 0)
    if stems and len(stems) == len(masks):
        fix = "see whether these are the right masks, and whether --mask-values is right"
        yield Finding(WARNING, "empty", "no mask marks anything", fix, stems)
    elif stems:
        what = f"{count(stems, 'mask')} of {len(masks)} without foreground: {listed(stems)}"
        yield Finding(NOTE, "empty", what, "look whether there is truly nothing to mark", stems)


def full(evidence: Evidence) -> Iterator[Finding]:
    masks = with_masks(evidence)
    stems = tuple(m.stem for m in masks if m.mask.foreground > NEARLY_EVERYTHING)
    if stems:
        what = f"{count(stems, 'mask')} of {len(masks)} that mark nearly everything: {listed(stems)}"
        # If most masks are like this, it is intended, as with a class for every pixel.
        severity = WARNING if len(stems) < len(masks) / 2 else NOTE
        yield Finding(severity, "full", what, "look whether foreground and background are exchanged", stems)


def misplaced(evidence: Evidence) -> Iterator[Finding]:
    """Masks that do not lie on their images as the others do."""
    measured = [m for m in evidence.measurements if m.traits]
    inverted, strange = (
        tuple(measured[i].stem for i in indices) for indices in likeness.misplaced([m.traits for m in measured])
    )
    if inverted:
        what = f"{count(inverted, 'mask')} of {len(measured)} look inverted beside the others: {listed(inverted)}"
        yield Finding(WARNING, "inverted", what, "look at them with --sheet, and exchange 0 and 255 in them", inverted)
    if strange:
        what = f"{count(strange, 'mask')} of {len(measured)} unlike all others: {listed(strange)}"
        fix = "look at them with --sheet, and replace those that are wrong or of another image"
        yield Finding(WARNING, "unlike", what, fix, strange)


def stray(evidence: Evidence) -> Iterator[Finding]:
    """Masks with a few pixels of values that --mask-values does not name."""
    config = evidence.config
    found = {m.stem: stray_values(m.mask.values, config.model.classes, config.data) for m in with_masks(evidence)}
    stems = tuple(stem for stem, values in found.items() if values)
    if stems:
        values = listed(sorted({value for stem in stems for value in found[stem]}))
        what = f"{count(stems, 'mask')} with a few pixels of the values {values}, which --mask-values does not name"
        fix = "they count as the nearest of the values that it names; name them if they are something else"
        yield Finding(NOTE, "stray", f"{what}: {listed(stems)}", fix, stems)


def classes(evidence: Evidence) -> Iterator[Finding]:
    masks = with_masks(evidence)
    number = max(evidence.config.model.classes, 2)
    counts = {m.stem: np.pad(m.mask.counts, (0, number - len(m.mask.counts))) for m in masks}
    total = sum(counts.values(), np.zeros(number, np.int64))
    if not total[1:].any():
        return
    for k in range(number):
        having = {stem for stem, pixels in counts.items() if pixels[k]}
        if not having:
            fix = f"lower --classes {evidence.config.model.classes}, or add images that show it"
            if k or number > 2:
                yield Finding(WARNING if k else NOTE, "classes", f"class {k} occurs in no mask", fix)
        elif evidence.training and not having & evidence.training:
            what = f"class {k} occurs in held-out images only, so that it is never learned: {listed(sorted(having))}"
            yield Finding(
                WARNING, "classes", what, "choose the held-out images by --validation-list, or another --seed"
            )
        elif evidence.held_out and not having & evidence.held_out:
            what = f"class {k} occurs in no held-out image, so that nothing tells how well it is learned"
            yield Finding(NOTE, "classes", what, "choose the held-out images by --validation-list, or another --seed")
        elif k and total[k] < RARE * total.sum():
            what = f"class {k} has {100 * total[k] / total.sum():.2g} % of the pixels"
            yield Finding(
                NOTE, "rare", what, "keep a loss with Dice in it, or try --loss tversky or a smaller --crop-size"
            )


def groups_of_names(evidence: Evidence) -> Iterator[Finding]:
    """Images whose names suggest that they belong together, but which are on both sides of the split."""
    stems = [m.stem for m in evidence.measurements if m.pair.group == m.stem]
    if evidence.config.data.group_regex or not stems:
        return
    regex = BEFORE_LAST_NUMBER
    if not all(re.search(regex, stem) for stem in stems):
        regex += "|.+"  # --group-regex must match every stem
    groups = defaultdict(list)
    for stem in stems:
        groups[splits.matched_group(stem, regex)].append(stem)
    together = {name: members for name, members in groups.items() if len(members) > 1}
    # benign_1, ..., benign_437 are running numbers in a class, not images of one patient.
    if any(len(together[name]) > len(stems) / 3 and not re.search(r"\d", name) for name in together):
        return
    torn = [members for members in together.values() if evidence.torn(members)]
    if len(groups) > 1 and sum(map(len, together.values())) > len(stems) / 2 and torn:
        what = (
            "the names of images look as if some were of one patient, whom the split would put on both sides: "
            + listed([f"{members[0]} ~ {members[-1]}" for members in torn])
        )
        fix = f"add --group-regex '{regex}', or --group-regex '.+' if every image is of another patient"
        yield Finding(WARNING, "groups", what, fix, tuple(stem for members in torn for stem in members))


def memory(evidence: Evidence, available: int | None) -> Iterator[Finding]:
    sizes = [m for m in evidence.measurements if m.image]
    if available is None or not sizes:
        return
    image = sizes[0].pair.image
    stays = evidence.config.data.stream or (isinstance(image, Part) and image.record.packed.has(evidence.config))
    data = 0 if stays else decoded_bytes(evidence.config, sizes)
    if data > available:
        what = f"the decoded data takes {data / 2**30:.3g} GiB, of which {available / 2**30:.3g} GiB are available"
        yield Finding(ERROR, "memory", what, "add --stream")
        return
    start_tensorflow()
    from unet_lowlevel.data.pipeline import resolve_crop_size

    crop_size = resolve_crop_size(evidence.config, working_sizes(evidence.config, sizes))
    config = settings.apply(evidence.config, {"crop_size": crop_size})
    step, batch, side = training_bytes(config), config.training.batch_size, config.training.crop_size
    if data + step > available:
        what = (
            f"a training step takes about {step / 2**30:.3g} GiB with --batch-size {batch} and --crop-size {side}, but "
            f"{(available - data) / 2**30:.3g} GiB are available{' beside the decoded data' if data else ''}"
        )
        remedies = ["lower one of the two" if batch > 1 else "lower --crop-size"]
        remedies += [] if config.model.recompute else ["add --recompute"]
        remedies += ["add --stream"] if available >= step else []
        yield Finding(ERROR, "memory", what, ", or ".join(remedies))


def split_size(evidence: Evidence) -> Iterator[Finding]:
    """Groups so unequal, or so few, that the held-out share is far from the one asked for."""
    data, held_out, images = evidence.config.data, len(evidence.held_out), len(evidence.measurements)
    wanted = data.validation_fraction * images
    far = abs(held_out - wanted) > max(FAR_FROM_FRACTION * images, 1)
    if far and held_out and not (data.validation_list or data.folds):
        what = (
            f"{held_out} of {images} images are held out, where --validation-fraction {data.validation_fraction:g} "
            f"asks for {wanted:.0f}, because images of one group stay together"
        )
        fix = "choose them by --validation-list, or set --validation-fraction to what is meant"
        yield Finding(WARNING, "split", what, fix)


def working_sizes(config: Config, measurements: list[Measurement]) -> list[tuple[int, int]]:
    """Height and width at which the network sees the images."""
    return [working_size(m.size, config.data) for m in measurements if m.image]


def decoded_bytes(config: Config, measurements: list[Measurement]) -> int:
    """Bytes that a training without --stream keeps in memory: images, labels, and what they are resized to."""
    images = [m.image for m in measurements if m.image]
    found = 0
    for image, (height, width) in zip(images, working_sizes(config, measurements), strict=True):
        found += math.prod(image.size)
        found += image.nbytes if (height, width) == image.size else (4 * image.channels + 1) * height * width
    return found


def duplicates(evidence: Evidence) -> Iterator[Finding]:
    """Images that occur twice, and images of different groups that are nearly the same."""
    same = defaultdict(list)
    for m in evidence.measurements:
        if m.image and m.image.low < m.image.high:  # see `blank`
            same[m.image.digest].append(m)
    sets = [members for members in same.values() if len(members) > 1]
    contradicting = [members for members in sets if len({m.mask.digest for m in members if m.mask}) > 1]
    fix = "keep the right mask, and each image once"
    yield from twins(contradicting, ERROR, "contradicting", "one image with different masks", fix)
    rest = [members for members in sets if members not in contradicting]
    torn = [members for members in rest if evidence.torn([m.stem for m in members])]
    fix = "keep each image once"
    yield from twins(torn, WARNING, "duplicates", "the same image on both sides of the split", fix)
    rest = [members for members in rest if members not in torn]
    yield from twins(rest, NOTE, "duplicates", "the same image more than once", fix)
    once = [members[0] for members in same.values()]
    signatures = np.stack([m.image.signature for m in once]) if once else np.empty((0, 0), np.float32)
    groups = np.array([group_name(m, evidence.config) for m in once])
    near = [[once[i] for i in members] for members in likeness.near_duplicates(signatures, groups)] if once else []
    torn = [members for members in near if evidence.torn([m.stem for m in members])]
    fix = "keep one of them, or keep them together by --group-regex"
    what = "nearly the same image on both sides of the split"
    yield from twins(torn, WARNING, "near_duplicates", what, fix)
    rest = [members for members in near if members not in torn]
    yield from twins(rest, NOTE, "near_duplicates", "nearly the same image more than once", fix)


def twins(sets, severity: str, kind: str, what: str, fix: str) -> Iterator[Finding]:
    """One finding for all `sets` of measurements, if there are any."""
    if sets:
        names = [" = ".join([m.stem for m in members[:3]] + ["..."] * (len(members) > 3)) for members in sets]
        stems = tuple(m.stem for members in sets for m in members)
        times = f" ({len(sets)} times)" if len(sets) > 1 else ""
        yield Finding(severity, kind, f"{what}{times}: {listed(names)}", fix, stems)


def group_name(m: Measurement, config: Config) -> str:
    """The group of an image in the split."""
    try:
        return splits.matched_group(m.stem, config.data.group_regex, m.pair.group)
    except UserError:  # already reported for the split
        return m.pair.group


def with_masks(evidence: Evidence) -> list[Measurement]:
    return [m for m in evidence.measurements if m.mask]


def count(things, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
