"""The model card of what is exported: that of the run, with scores, form and licence."""

from pathlib import Path
from typing import Any

from unet_lowlevel.export import QUANTIZED
from unet_lowlevel.inference.evaluation import scores_of_run
from unet_lowlevel.inference.model_card import BOOTSTRAP, model_card, stored_card
from unet_lowlevel.training.checkpoints import best_weights


def exported_card(run: Path, *, form: str, average: str, scored: bool, license: str) -> dict[str, Any]:
    """`model_card` of a run in another form.

    The scores are those of the card in the run folder, if these are of each image; else the held-out images are scored.

    Args:
        run: its folder.
        form: what is exported, a sentence.
        average: over which views it predicts, see `predictor.load`; the run's card is of those of "".
        scored: whether the held-out images are there to be scored.
        license: of the weights; "": not stated.
    """
    weights = best_weights(run)
    stored = stored_card(run, weights) if not average else None
    scores = stored["scores"] if stored else {}
    if scored and not scores.get("worst"):
        scores = scores_of_run(run, average=average, bootstrap=BOOTSTRAP)
    card = model_card(run, weights, scores) | {"form": form}
    return card | {"license": license} if license else card


def quantized(card: dict[str, Any], quantize: str, agreement: str) -> dict[str, Any]:
    """The card of a form of fewer bits: `quantize` is of `QUANTIZED`, `agreement` what the parity check has found."""
    told = (
        f"Quantized ({quantize}: {QUANTIZED[quantize]}). Beside the run in float32, {agreement} (of one image). "
        "The scores are those of float32."
    )
    return card | {"quantize": quantize, "limits": [told, *card["limits"]]}
