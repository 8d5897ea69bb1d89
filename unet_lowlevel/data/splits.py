"""Which images train and which are held out: pure functions of the stems, the settings and the seed.

Images of one group stay on one side. A group is a patient, a volume, or the images for which --group-regex finds the
same text. Only a single volume is cut, into blocks of neighbouring slices. --blocks always holds out neighbours.
"""

import math
import re
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data.files import SUFFIXES, Pair, stem_of
from unet_lowlevel.errors import UserError, listed, reason, shown


def matched_group(stem: str, regex: str, known: str | None = None) -> str:
    """The group of an image: the text that the first bracket of `regex`, or all of it, matches in the stem.

    No regex: the group that is `known`, see `files.Pair.group`; else the stem.
    """
    if not regex:
        return known or stem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of syntax that a later Python may read differently
            match = re.search(regex, stem)
    except (re.error, OverflowError, RecursionError) as error:  # too large numbers, too deep brackets
        raise UserError(
            f"--group-regex {shown(regex)}, asked for the group of {stem!r}, is no regular expression "
            rf"({reason(error)}): mend it, as in 'patient\d+'."
        ) from None
    if match is None:
        raise UserError(
            f"--group-regex {shown(regex)} does not match the stem {stem!r}: give an expression that finds the group "
            "in every stem, rename the file, or leave the flag out where no images belong together."
        )
    bracket = match.group(1) if match.re.groups else None
    return match.group() if bracket is None else bracket


def pairs_of(pairs: list[Pair], split: dict, part: str) -> list[Pair]:
    """The pairs of --split: all, or the part that the run held out or trained on.

    Raises:
        UserError: when images of the part are missing.
    """
    if part == "all":
        return pairs
    wanted = set(split[part])
    chosen = [pair for pair in pairs if pair.stem in wanted]
    missing = sorted(wanted - {pair.stem for pair in chosen})
    if missing:
        raise UserError(
            f"--split {part} needs images that the data lacks ({listed(missing)}): name the data of the training, or "
            "use --split all for other data."
        )
    return chosen


def split(
    stems: list[str], data: DataConfig, seed: int, known: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """The stems to train on and the held-out stems, both sorted; the order of `stems` does not matter.

    Held out are the stems of `data.validation_list` if given; else fold `data.fold` of `data.folds` if given; else the
    groups whose images together come closest to `data.validation_fraction`, early ones of a random order first, leaving
    one group for training. With `data.blocks`, and for the slices of a single volume, the order is that of the stems:
    held out are the last groups, or the block of the fold, counted from the first.

    Args:
        stems: of all images.
        data: how to split.
        seed: of the order of the groups.
        known: {stem: group} of patients and volumes; --group-regex overrides it. See `files.Pair.group`.

    Raises:
        UserError: when one side would be empty, folds outnumber groups, or the list does not fit the images or cuts a
            group.
    """
    groups: dict[str, list[str]] = {}
    for stem in sorted(stems):
        groups.setdefault(matched_group(stem, data.group_regex, (known or {}).get(stem)), []).append(stem)
    if data.validation_list:
        held_out = _listed_stems(data.validation_list, groups, data.group_regex)
    else:
        single_volume = len(groups) == 1 and known and not data.group_regex and len(stems) > 1
        if single_volume:
            groups = {stem: [stem] for stem in sorted(stems)}
        if len(groups) < 2:
            found = f"one image, {stems[0]!r}" if len(stems) == 1 else f"{len(stems)} images of a single group"
            by = f" by --group-regex {data.group_regex!r}" if data.group_regex and len(stems) > 1 else ""
            raise UserError(
                f"There {'is' if len(stems) == 1 else 'are'} only {found}{by}, but one group must train and another be "
                f"held out: add images{', or mend --group-regex' if by else ''}."
            )
        if data.folds > len(groups):
            single = all(len(members) == 1 for members in groups.values())
            by = f" by --group-regex {data.group_regex!r}" if data.group_regex else ""
            kind = f"groups{by}" if by or not single else "slices" if single_volume else "images"
            raise UserError(f"--folds is {data.folds}, but there are only {len(groups)} {kind}: use at most that many.")
        if data.blocks or single_volume:
            order = list(groups)  # by their first stems
            chosen = _block(order, data) if data.folds else _first(order[::-1], groups, data)
        else:
            names = sorted(groups)
            order = [names[i] for i in np.random.Generator(np.random.Philox(seed)).permutation(len(names))]
            chosen = _fold(order, groups, data) if data.folds else _fraction(order, groups, data)
        held_out = {stem for name in chosen for stem in groups[name]}
    return sorted(set(stems) - held_out), sorted(held_out)


def _block(order: list[str], data: DataConfig) -> list[str]:
    """The groups of one fold, neighbours in `order`. All folds have equally many; the first ones may have one more."""
    return np.array_split(order, data.folds)[data.fold].tolist()


def _wanted(groups: dict[str, list[str]], data: DataConfig) -> int:
    """Number of images to hold out."""
    images = sum(map(len, groups.values()))
    return max(math.ceil(data.validation_fraction * images - 1e-9), 1)  # 0.55 * 100 is 55.00000000000001


def _first(order: list[str], groups: dict[str, list[str]], data: DataConfig) -> list[str]:
    """The first groups of `order`, as many as come closest to the fraction; at least one, not all."""
    images = np.cumsum([len(groups[name]) for name in order[:-1]])
    return order[: np.argmin(abs(images - _wanted(groups, data))) + 1]


def _fraction(order: list[str], groups: dict[str, list[str]], data: DataConfig) -> list[str]:
    """Groups that together come closest to the fraction, early ones of `order` first; at least one, not all."""
    sizes = [len(groups[name]) for name in order]
    if len(set(sizes)) == 1:
        return _first(order, groups, data)
    wanted, total = _wanted(groups, data), sum(sizes)
    last = {0: -1}  # {number of images: the group by which groups before it first came to so many}
    for group, size in enumerate(sizes):
        if wanted in last:
            break
        for images in list(last):
            if images + size < total:
                last.setdefault(images + size, group)
    images = min(last.keys() - {0}, key=lambda images: (abs(images - wanted), images))
    chosen = []
    while images:
        chosen.append(order[last[images]])
        images -= sizes[last[images]]
    return chosen


def _fold(order: list[str], groups: dict[str, list[str]], data: DataConfig) -> list[str]:
    """The groups of one fold: the largest groups are dealt first, each to the fold with the fewest images so far."""
    sizes = [0] * data.folds
    folds: list[list[str]] = [[] for _ in sizes]
    for name in sorted(order, key=lambda name: -len(groups[name])):  # stable: equal sizes stay in random order
        smallest = sizes.index(min(sizes))
        folds[smallest].append(name)
        sizes[smallest] += len(groups[name])
    return folds[data.fold]


def _listed_stems(path: str, groups: dict[str, list[str]], regex: str) -> set[str]:
    """The stems in the text file `path`, one a line; blank lines are skipped, and those with # that are no stems."""
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"--validation-list {path} is not readable ({reason}): name a text file of stems.") from None
    known = {stem for members in groups.values() for stem in members}
    held_out = set()
    for line in filter(None, lines):
        line = unicodedata.normalize("NFC", line)  # as in files.stem_of
        if line not in known and line.lower().endswith(SUFFIXES):
            line = stem_of(Path(line))
        if line in known or not line.startswith("#"):
            held_out.add(line)
    unknown = sorted(held_out - known)
    if unknown:
        raise UserError(
            f"--validation-list {path} names {listed(unknown)}, but no image has this stem: write one stem a line, "
            f"such as {min(known)}."
        )
    if not held_out or held_out == known:
        found = "names every image, which leaves none to train on" if held_out else "names no image"
        raise UserError(f"--validation-list {path} {found}: write the stem of one held-out image a line.")
    torn = [name for name, members in groups.items() if 0 < len(held_out.intersection(members)) < len(members)]
    if torn and (regex or len(groups) > 1):
        by = f"groups by --group-regex {regex!r}" if regex else "of a patient or volume"
        raise UserError(
            f"--validation-list {path} holds out only a part of {listed(torn)}, {by}: list all images of a "
            "group or none."
        )
    return held_out
