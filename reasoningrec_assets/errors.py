"""What every package tells people: lines of progress, the two kinds of failure that they can act on, and the one stop that is none.

The split decides retries: a permanent failure stops every retry mechanism, a transient one may be tried again.
"""

from collections.abc import Callable

Log = Callable[[str], None]  # takes one line


class PlatformError(Exception):
    """A failure: what was attempted (``read the ratings``), where, what was found there, and what the user can do."""

    def __init__(self, attempted: str, *, where: str, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(f"Could not {attempted} ({where}): {problem}. {remedy}.")


class PermanentError(PlatformError):
    """Trying again without a change gives the same failure: bad data, a bad setting, a missing file."""


class TransientError(PlatformError):
    """The same attempt may succeed later: a network that dropped, a server that is busy, a device that is taken."""


class DryRun(Exception):  # noqa: N818 - it is no error: the plan was asked for, and nothing else
    """A step stopped before it spent anything, as it was asked to; ``figures`` say what it would have spent."""

    def __init__(self, figures: dict[str, float]) -> None:
        self.figures = figures
        super().__init__("dry run: nothing was spent")
