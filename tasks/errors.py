"""The two ways to fail: the user's mistake (exit status 2) and a fault of the machine or of ours (1)."""

from __future__ import annotations


class RefitError(Exception):
    """Something failed; the message is one line: what, what was found, what would be right, what to do."""

    exit_status = 1


class UserError(RefitError):
    """What the user gave cannot be used; nothing was changed."""

    exit_status = 2
