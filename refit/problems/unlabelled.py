"""Problems without labels: every row counts from its event on, and metrics judge predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from refit.problems.contract import LabelSql, Problem

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import JsonValue

    from refit.problems.contract import Labels


@dataclass(frozen=True)
class Unlabelled(Problem):
    """A base for kinds of problems whose rows have no label: each row gets the label 0, which nothing depends on."""

    labelled: ClassVar[bool] = False
    can_leak: ClassVar[bool] = False
    dtype: ClassVar[Any] = "int64"

    def label_sql(self, column: str) -> LabelSql:
        return LabelSql("''", "0::bigint")

    def labels(self, column: pa.ChunkedArray) -> Labels:
        import numpy as np

        return np.zeros(len(column), dtype=np.int64)

    def describe_labels(self, column: pa.ChunkedArray) -> dict[str, JsonValue]:
        return {}

    def invalid_labels(self, labels: Labels) -> str:
        return ""

    def constant_labels(self, labels: Labels) -> str:
        return ""

    def has_variation(self, labels: Labels) -> tuple[bool, str]:
        return True, f"{len(labels):,} test rows, which need no label"
