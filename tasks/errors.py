"""The two ways to fail: the user's mistake (exit status 2) and a fault of the machine or of ours (1)."""

from __future__ import annotations

from tasks.plain_text import one_line


class RefitError(Exception):
    r"""Something failed; the message is one line: what, what was found, what would be right, what to do.

    A message often repeats what a file or a person said, so it is plain text wherever it ends up: in a terminal, in
    Prefect's log, in a traceback. Several problems are several arguments.

    >>> print(UserError("2 problems:", "a", "b\x1b[2J"))
    2 problems:
      a
      b\x1b[2J
    """

    exit_status = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What was wrong, and then each of the problems, where there are several."""
        return tuple(one_line(each) for each in self.args)

    def __str__(self) -> str:
        return "\n  ".join(self.lines)

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        first, *problems = self.lines or ("",)
        return f"{first} {'; '.join(problems)}" if problems else first


class UserError(RefitError):
    """What the user gave cannot be used; nothing was changed."""

    exit_status = 2
