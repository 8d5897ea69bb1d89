"""Which images train and which are held out: pure functions of the stems, the settings and the seed.

Images of one group (a patient, a stack: whatever --group-regex finds equal in their stems) never part.
"""

import math
import re
import unicodedata
from pathlib import Path

import numpy as np

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data.files import SUFFIXES
from unet_lowlevel.errors import UserError, listed


def group_of(stem: str, regex: str) -> str:
    """The group of an image: what the first bracket of `regex` matches, else all it matches; no regex: the stem."""
    if not regex:
        return stem
    try:
        match = re.search(regex, stem)
    except re.error as error:
        raise UserError(
            f"--group-regex {regex!r}, asked for the group of {stem!r}, is no regular expression ({error}): "
            r"mend it, as in 'patient\d+'."
        ) from None
    if match is None:
        raise UserError(
            f"--group-regex {regex!r} does not match the stem {stem!r}: give an expression that finds the group in "
            "every stem, or rename the file."
        )
    bracket = match.group(1) if match.re.groups else None
    return match.group() if bracket is None else bracket


def split(stems: list[str], data: DataConfig, seed: int) -> tuple[list[str], list[str]]:
    """The stems to train on and those held out, both sorted, in whatever order `stems` come.

    By `data.validation_list` if given, else by fold `data.fold` of `data.folds` if given, else whole groups in
    random order until they hold at least `data.validation_fraction` of the images, one group staying for training.

    Raises:
        UserError: nothing is left for one side, or the list does not fit the images or cuts through a group.
    """
    groups: dict[str, list[str]] = {}
    for stem in sorted(stems):
        groups.setdefault(group_of(stem, data.group_regex), []).append(stem)
    if data.validation_list:
        held_out = _listed_stems(data.validation_list, groups, data.group_regex)
    else:
        if len(groups) < 2:
            found = f"one image, {stems[0]!r}," if len(stems) == 1 else f"{len(stems)} images of a single group"
            by = f" by --group-regex {data.group_regex!r}" if data.group_regex else ""
            raise UserError(
                f"There is only {found}{by}, but one group must train and another be held out: add images"
                f"{', or mend --group-regex' if by else ''}."
            )
        names = sorted(groups)
        order = [names[i] for i in np.random.Generator(np.random.Philox(seed)).permutation(len(names))]
        chosen = _fold(order, groups, data) if data.folds else _fraction(order, groups, data)
        held_out = {stem for name in chosen for stem in groups[name]}
    return sorted(set(stems) - held_out), sorted(held_out)


def _fraction(order: list[str], groups: dict[str, list[str]], data: DataConfig) -> list[str]:
    """The first groups of `order` that together reach the fraction: at least one, never all."""
    total = sum(map(len, groups.values()))
    wanted = math.ceil(data.validation_fraction * total - 1e-9)  # 0.55 * 100 is 55.00000000000001
    count, images = 1, len(groups[order[0]])
    while images < wanted and count < len(order) - 1:
        images += len(groups[order[count]])
        count += 1
    return order[:count]


def _fold(order: list[str], groups: dict[str, list[str]], data: DataConfig) -> list[str]:
    """The groups of one fold: the largest groups are dealt first, each to the fold with the fewest images so far."""
    if data.folds > len(groups):
        kind = f"groups by --group-regex {data.group_regex!r}" if data.group_regex else "images"
        raise UserError(f"--folds is {data.folds}, but there are only {len(groups)} {kind}: use at most that many.")
    sizes = [0] * data.folds
    folds: list[list[str]] = [[] for _ in sizes]
    for name in sorted(order, key=lambda name: -len(groups[name])):  # stable: equal sizes stay in random order
        smallest = sizes.index(min(sizes))
        folds[smallest].append(name)
        sizes[smallest] += len(groups[name])
    return folds[data.fold]


def _listed_stems(path: str, groups: dict[str, list[str]], regex: str) -> set[str]:
    """The stems in the text file `path`, one a line; blank lines and lines that start with # are passed over."""
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"--validation-list {path} is not readable ({reason}): name a text file of stems.") from None
    known = {stem for members in groups.values() for stem in members}
    held_out = set()
    for line in filter(None, lines):
        line = unicodedata.normalize("NFC", line)  # as files.list_images has it
        if line not in known and line.lower().endswith(SUFFIXES):
            line = line.rpartition(".")[0]
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
    if torn:
        raise UserError(
            f"--validation-list {path} holds out only a part of {listed(torn)}, groups by --group-regex {regex!r}: "
            "list all images of a group or none."
        )
    return held_out
