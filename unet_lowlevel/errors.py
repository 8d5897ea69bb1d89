"""The one exception that a user's mistake raises."""

import re
import reprlib

# What a message shows of a value, a name or a reason: a file may hold anything, of any length and depth.
LONGEST = 300
# What TensorFlow puts around the words of the system: its operation, the name of a temporary file, what was to be done.
FROM_TENSORFLOW = re.compile(r"\{\{.*?\}\}|/[^;\n]*; (?=[A-Z][\w/ -]*(?:\n| \[Op:|$))|\n\t.*|\[Op:\w+\]$", re.DOTALL)
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxlong = _brief.maxother = LONGEST


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence that names the file or flag, the value found and the remedy. The
    command line prints it without a traceback and ends with `exit_code`.
    """

    exit_code = 2


class NothingFound(UserError):
    """A training has ended with a network that finds no foreground; its run folder stays."""

    exit_code = 1


class WorkerLost(UserError):
    """One of several processes of a training has ended before the others; started again, they go on."""

    exit_code = 75  # of sysexits.h, for what may succeed next time


def listed(names, limit: int = 5) -> str:
    """'a, b, c and 4 more': at most `limit` names, so that a message stays one readable sentence."""
    names = [cut(str(name)) for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def shown(value) -> str:
    """`repr(value)`, shortened where that is long or deep."""
    return _brief.repr(value)


def reason(error: BaseException) -> str:
    """What an exception says, on one line and without a full stop; its type where it says nothing."""
    text = getattr(error, "strerror", None) or FROM_TENSORFLOW.sub("", str(error))
    return cut(" ".join(text.split())).rstrip(".:") or type(error).__name__


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def what_and_remedy(error: UserError) -> tuple[str, str]:
    """What is wrong, and the remedy: it stands behind the last colon."""
    what, _, remedy = str(error).rpartition(": ")
    return what, remedy.removesuffix(".")
