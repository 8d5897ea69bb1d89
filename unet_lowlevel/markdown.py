"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose last line does not end; cells may be anything that has a text.

    >>> print(markdown_table(["", "Dice"], [["phantoms", 0.97]]))
    |  | Dice |
    | --- | --- |
    | phantoms | 0.97 |
    """
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))
