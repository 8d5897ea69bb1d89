"""Sums over the steps of an epoch."""

import json

import numpy as np

from unet_lowlevel.errors import listed
from unet_lowlevel.scoring import counts


class Totals:
    """Sums loss and counts over images, and computes the scores from the sums."""

    def __init__(self):
        self.steps, self.images, self.seconds = 0, 0, 0.0
        self.learning_rate = 0.0  # of the last step; 0: unknown
        self.loss, self.confusion, self.thresholds = 0.0, np.int64(0), np.int64(0)

    def add(self, result: dict, images: int) -> None:
        """Adds the result of a `TrainStep` or an `EvaluationStep` for so many images."""
        self.steps += 1
        self.images += images
        self.learning_rate = result.get("learning_rate", 0.0)
        self.loss += float(result["loss"]) * images
        self.confusion = self.confusion + np.asarray(result["confusion"]).sum(0)
        self.thresholds = self.thresholds + np.asarray(result["thresholds"]).sum(0)

    def scores(self) -> dict[str, float]:
        """loss, dice, iou, mean_iou, precision, recall: mean loss over the images, pooled scores."""
        pooled = counts.scores(self.confusion, self.thresholds)
        names = ("dice", "iou", "mean_iou", "precision", "recall")
        return {"loss": self.loss / self.images} | {name: float(pooled[name]) for name in names}

    def to_json(self) -> str:
        """All sums as text, exact to the last bit."""
        return json.dumps({name: np.asarray(value).tolist() for name, value in vars(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "Totals":
        """Reads what `to_json` wrote; an empty text gives empty totals.

        Raises:
            ValueError, TypeError, OverflowError, RecursionError: for any other text.
        """
        totals = cls()
        found = json.loads(text) if text else vars(totals)
        if isinstance(found, dict):
            found = {"learning_rate": 0.0} | found  # version 0.1 did not save it
        if not isinstance(found, dict) or found.keys() != vars(totals).keys():
            raise ValueError(f"not the sums {listed(vars(totals))}")
        for name, value in found.items():
            kind = type(getattr(totals, name))
            setattr(totals, name, np.array(value, np.int64) if kind is np.int64 else kind(value))
        return totals
