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
