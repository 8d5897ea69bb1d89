"""A look at the data before a training: warnings before hours are lost, and the plan."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from unet_lowlevel.config import Config
from unet_lowlevel.data.check.findings import NOTE, judge
from unet_lowlevel.data.check.inspection import Measurement, measurement, objects_of
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.samples import decoded
from unet_lowlevel.data.splits import matched_group
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory
from unet_lowlevel.planning.fingerprint import Fingerprint, fingerprint
from unet_lowlevel.planning.plan import Choice, Speed, plan, table
from unet_lowlevel.terminal import progress, warn


@dataclass(frozen=True)
class Planned:
    """A plan made of a look at the data.

    Attributes:
        found: the fingerprint of the data.
        asked: the settings before the plan.
        config: those with it.
        choices: the plan.
    """

    found: Fingerprint
    asked: Config
    config: Config
    choices: list[Choice]

    def waits(self) -> bool:
        """Whether the number of steps has to wait until the speed is measured, see `at`."""
        return bool(self.config.training.minutes) and not {"epochs", "steps_per_epoch"} <= self.config.given

    def at(self, speed: Speed) -> "Planned":
        """The plan for --minutes, at the speed that was measured."""
        return Planned(self.found, self.asked, *plan(self.found, self.asked, speed))

    def text(self) -> str:
        """The plan for people, a line for each choice."""
        return "\n".join(
            ["planned for this data (a flag overrides its line, --plan off all of them):", *table(self.choices)]
        )

    def to_json(self) -> dict[str, Any]:
        """What plan.json holds."""
        return {"fingerprint": self.found.to_json(), "plan": [dataclasses.asdict(choice) for choice in self.choices]}


def look_at(pairs: list[Pair], config: Config, *, check: bool) -> Planned:
    """Reads every pair once, one at a time in memory, and plans.

    Args:
        pairs: at least one.
        config: the settings that are asked for.
        check: also prints what is probably wrong with the data.

    Raises:
        UserError: when a pair cannot be used; with `check` also when a training step would not fit into the memory.
    """
    available, measurements = available_memory(), []
    for pair, sample in zip(pairs, decoded(progress("looking")(pairs), config), strict=True):
        objects = objects_of(pair, sample.label, config)
        measurements.append(measurement(pair, sample.image, sample.label, objects))
    planned = planned_for(measurements, config)
    if check:
        warn_of(planned.config, measurements, available)
    return planned


def planned_for(measurements: list[Measurement], config: Config) -> Planned:
    """The plan for measured pairs, of which at least one could be read; --group-regex may group them."""
    groups = {matched_group(m.stem, config.data.group_regex, m.pair.group) for m in measurements}
    found = fingerprint([m for m in measurements if m.shapes], len(groups), config.model.classes)
    return Planned(found, config, *plan(found, config))


def warn_of(config: Config, measurements: list[Measurement], available: int | None) -> None:
    """Prints what is probably wrong with the data.

    Args:
        available: bytes of memory, before the data is in it.

    Raises:
        UserError: when a training step would not fit into the memory.
    """
    for finding in judge(config, measurements, [], available)[0]:
        if finding.kind == "memory":
            raise UserError(f"{finding.what[0].upper()}{finding.what[1:]}: {finding.fix}, or --no-check to try it.")
        if finding.severity != NOTE:
            warn(f"{finding.what}; {finding.fix}")
