"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence that names the file or flag, the value found and the remedy. The
    command line prints it without a traceback and ends with exit code 2.
    """


def listed(names, limit: int = 5) -> str:
    """'a, b, c and 4 more': at most `limit` names, so that a message stays one readable sentence."""
    names = [str(name) for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
