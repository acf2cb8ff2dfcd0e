"""Compares two registered versions by what was measured when each was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refit.errors import UserError
from refit.models.incumbent import TEST_TAG
from refit.runtime import registry_store
from refit.runtime.context import Context
from registry import versions


@dataclass(frozen=True)
class VersionComparison:
    """Two versions: of each the learner and, by name, the metrics on its test window."""

    versions: tuple[str, str]
    learners: tuple[str, str]
    metrics: Mapping[str, tuple[float | None, float | None]]
    same_test: bool  # whether both were judged on the same test rows


def compared(context: Context, first: str, second: str) -> VersionComparison:
    """Compare two versions.

    Raises:
        UserError: there is no such version.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        both = [versions.version(store, model, number) for number in (first, second)]
    for number, of in zip((first, second), both, strict=True):
        if of is None:
            raise UserError(f"{model} has no version {number!r}; `refit history` names those that were judged")
    before, after = (of for of in both if of is not None)
    measured = [
        {name: value for name, value in content.items() if isinstance(value, float)}
        for of in (before, after)
        for content in [versions.json_object(of, "the tag refit.metrics", of.tags.get("refit.metrics", "{}"))]
    ]
    names = sorted(name for name in {*measured[0], *measured[1]} if not name.endswith(("_lower", "_upper")))
    return VersionComparison(
        versions=(before.version, after.version),
        learners=(before.tags.get("refit.learner", "?"), after.tags.get("refit.learner", "?")),
        metrics={name: (measured[0].get(name), measured[1].get(name)) for name in names},
        same_test=before.tags.get(TEST_TAG) is not None and before.tags.get(TEST_TAG) == after.tags.get(TEST_TAG),
    )
