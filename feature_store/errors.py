"""The error of this package; it is not in `refit.errors` because this package imports nothing from `refit`."""

from __future__ import annotations


class DefinitionError(ValueError):
    """A feature definition cannot be used; the message states what was found and what would be right."""
