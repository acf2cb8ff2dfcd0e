"""Invariance: a change that means nothing leaves predictions as they are (Ribeiro et al. 2020, CheckList)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refit.config.behaviour import InvarianceTest
from refit.evaluation.behaviour.sampled_rows import EXACT, SampledRows
from refit.schemas.behaviour import BehaviourResult

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

WORDS = {
    "upper": "in upper case",
    "lower": "in lower case",
    "typo": "with two letters swapped",
    "shuffle": "of another row",
}


def judged(wanted: InvarianceTest, sample: SampledRows) -> BehaviourResult:
    """Predict the rows with the change, and compare; rows whose value it leaves as it is are left out."""
    column = sample.table.column(wanted.column)
    values = changed(column, wanted.change, sample.seed)
    differs = _differs(column, values)
    count = int(differs.sum())
    if not count:
        why = f"no test row has another value with {wanted.column} {WORDS[wanted.change]}, so nothing was tested"
        return BehaviourResult(name=wanted.name, kind="invariance", passed=False, sentence=why, rows=0)
    moved = np.abs(sample.changed(wanted.column, values) - sample.predicted)
    moved = np.where(differs, moved if moved.ndim == 1 else moved.max(axis=1), 0.0)
    far = ~(moved <= wanted.within + EXACT)
    share = float(1 - far[differs].mean())
    passed = share >= wanted.share - EXACT
    sentence = (
        f"with {wanted.column} {WORDS[wanted.change]}, {share:.1%} of {count:,} predictions stay within "
        f"{wanted.within:g} (the farthest moves by {moved.max():.4g}); {wanted.share:.1%} have to"
    )
    return BehaviourResult(
        name=wanted.name,
        kind="invariance",
        passed=passed,
        sentence=sentence,
        rows=count,
        share=share,
        worst=sample.worst(moved, far),
    )


def _differs(before: pa.ChunkedArray, after: pa.Array) -> NDArray[np.bool_]:
    """(rows,) whether the value is another one; missing is the same as missing."""
    missing = [each.is_null(nan_is_null=True).to_pylist() for each in (before, after)]
    rows = zip(before.to_pylist(), after.to_pylist(), *missing, strict=True)
    return np.array([not (none and none_after) and old != new for old, new, none, none_after in rows], dtype=np.bool_)


def changed(column: pa.ChunkedArray, change: str, seed: int) -> pa.Array:
    """The values of a column after a change; missing ones stay missing.

    >>> import pyarrow as pa
    >>> changed(pa.chunked_array([["Ab", None]]), "upper", 0).to_pylist()
    ['AB', None]
    >>> changed(pa.chunked_array([["ab", "x"]]), "typo", 0).to_pylist()
    ['ba', 'x']
    """
    import pyarrow as pa

    random = np.random.default_rng(seed)
    if change == "shuffle":
        return column.combine_chunks().take(pa.array(random.permutation(len(column))))

    def edited(text: str) -> str:
        if change == "typo":
            return with_typo(text, random)
        return text.upper() if change == "upper" else text.lower()

    return pa.array([None if text is None else edited(text) for text in column.to_pylist()], column.type)


def with_typo(text: str, random: Any) -> str:
    """A text with two neighbouring, different letters swapped; unchanged if it has no such pair."""
    pairs = [
        position
        for position in range(len(text) - 1)
        if text[position].isalpha() and text[position + 1].isalpha() and text[position] != text[position + 1]
    ]
    if not pairs:
        return text
    position = pairs[int(random.integers(len(pairs)))]
    return text[:position] + text[position + 1] + text[position] + text[position + 2 :]
