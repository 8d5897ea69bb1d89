"""The check of a data set while a training reads it: warnings before hours are lost."""

from unet_lowlevel.config import Config
from unet_lowlevel.data.check.findings import NOTE, judge
from unet_lowlevel.data.check.inspection import Measurement, measurement
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import available_memory
from unet_lowlevel.terminal import warn


class Check:
    """Measures the samples that it is shown, and judges them when all have been read."""

    def __init__(self, pairs: list[Pair]):
        self.pairs = {pair.stem: pair for pair in pairs}
        self.measurements: list[Measurement] = []
        self.available = available_memory()  # before the data is in memory

    def look(self, sample: Sample) -> None:
        """Measures a sample as stored."""
        self.measurements.append(measurement(self.pairs[sample.stem], sample.image, sample.label))

    def warn(self, config: Config) -> None:
        """Prints what is probably wrong with the data.

        Raises:
            UserError: when a training step would not fit into the memory.
        """
        for finding in judge(config, self.measurements, [], self.available)[0]:
            if finding.kind == "memory":
                raise UserError(f"{finding.what[0].upper()}{finding.what[1:]}: {finding.fix}, or --no-check to try it.")
            if finding.severity != NOTE:
                warn(f"{finding.what}; {finding.fix}")
