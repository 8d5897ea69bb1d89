"""What follows a training: thresholds and the model card, of the network that it has kept."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unet_lowlevel import run_folder
from unet_lowlevel.inference.best_thresholds import store_thresholds
from unet_lowlevel.inference.evaluation import scores_of_run
from unet_lowlevel.inference.model_card import an_extra, store_first_card


def store_results(run: Path, counts: Mapping[str, dict[str, np.ndarray]], known: Mapping[str, str]) -> None:
    """Chooses thresholds, see `store_thresholds`, and writes the card with the scores of what the run then predicts.

    Args:
        run, known: see `store_first_card`.
        counts: by the last validation of the kept network, which sees each image in one view.
    """
    chosen = store_thresholds(run)
    store_first_card(run, chosen or counts, known)
    if run_folder.read(run)[0].training.average_flips and not chosen:
        with an_extra():
            scores_of_run(run)
