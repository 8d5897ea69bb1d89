"""Scores, computed from counts that can be added over images.

Each image gives arrays of counts. The same equations compute scores [...] from the counts of one image, from the sums
over all images, and from the sums over images drawn at random.
"""

from collections.abc import Iterable

from unet_lowlevel.errors import UserError, listed

# Optional scores beside those of single pixels: the keys of `scorers.SCORERS`.
SCORES = ("instances", "surfaces", "boundaries")


def check_scores(names: Iterable[str]) -> None:
    """Raises a `UserError` unless all names are of `SCORES`."""
    for name in names:
        if name not in SCORES:
            raise UserError(f"--scores has {name!r}, but may have {listed(list(SCORES))}.")


def score_text(score: float | None, like: float | None = None) -> str:
    """A score with four digits after the point, or below 0.01 with four significant digits; a dash for None.

    Args:
        score: what to write.
        like: the number whose size decides, such as the mean of a column; None: the score itself.

    >>> score_text(0.87654), score_text(0.00012345), score_text(None)
    ('0.8765', '1.234e-04', '-')
    """
    if score is None:
        return "-"
    size = score if like is None else like
    return f"{score:.4f}" if size >= 0.01 or size == 0 else f"{score:.3e}"
