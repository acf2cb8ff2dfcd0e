"""The one way a definition can be wrong, kept apart from `refit.errors` because this package knows nothing above it."""

from __future__ import annotations


class DefinitionError(ValueError):
    """A feature definition cannot be used: what, what was found, what would be right."""
