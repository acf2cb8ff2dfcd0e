"""Problems without labels: every row counts from its event on, and metrics judge predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from refit.errors import RefitError
from refit.problems.contract import LabelSql, Problem

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from refit.metrics.formulas import OfSums
    from refit.problems.contract import Floats, Labels, Naive


@dataclass(frozen=True)
class Unlabelled(Problem):
    """A base for kinds of problems whose rows have no label: each row gets the label 0, which nothing depends on."""

    labelled: ClassVar[bool] = False
    can_leak: ClassVar[bool] = False
    naive_of_rows: ClassVar[bool] = True
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


@dataclass(frozen=True)
class OfFeatures(Unlabelled):
    """A base for kinds whose predictions are several numbers for each row, and whose losses are of the features."""

    demand: ClassVar[str] = "not finite"
    of_features: ClassVar[bool] = True

    def unusable(self, rows: pa.Table) -> str:
        return unusable(rows)

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        import numpy as np

        return np.asarray((~np.isfinite(predicted)).any(axis=1), dtype=np.bool_)

    def guess(self, naive: Naive, rows: int) -> Floats:
        raise needs_rows(self.name)

    def mean_of(self, part: str) -> OfSums:
        """The formula of a metric that is the mean of one of the parts."""
        import numpy as np

        from refit.metrics.formulas import OfSums

        column = self.parts.index(part)
        return OfSums(
            lambda labels, predicted, _: (predicted[:, column], np.ones(len(labels))), lambda sums: sums[0] / sums[1]
        )


def needs_rows(kind: str) -> RefitError:
    """The error of a naive guess that was to be made from labels, or a number of rows, alone."""
    return RefitError(f"the naive guess of task {kind!r} is made from the features of its rows, which were not given")


def numbers_of(table: pa.Table) -> Floats:
    """(rows, values) the columns of numbers, and the values of images and vectors; nan where there is none.

    Columns of texts, and of lists of different lengths, are left out.

    >>> import pyarrow as pa
    >>> numbers_of(pa.table({"x": [1, None], "name": ["a", "b"], "v": [[0.0, 2.0], [3.0, 4.0]]})).tolist()
    [[1.0, 0.0, 2.0], [nan, 3.0, 4.0]]
    """
    import numpy as np

    parts = [values for name in table.column_names if (values := _values(table[name])) is not None]
    numbers = np.hstack(parts) if parts else np.empty((table.num_rows, 0))
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _values(column: pa.ChunkedArray) -> Floats | None:
    """(rows, values) of a column; None if it has no fixed number of values."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, array = column.type, column.combine_chunks()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)[:, None]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        cells = [np.frombuffer(cell, np.uint8).astype(np.float64) for cell in array.to_pylist() if cell is not None]
    elif pa.types.is_nested(kind) and not pa.types.is_nested(kind.value_type):
        cells = [np.asarray(cell, np.float64) for cell in array.to_pylist() if cell is not None]
    else:
        return None
    if len({len(cell) for cell in cells}) != 1:
        return None
    result = np.full((len(array), len(cells[0])), np.nan)
    result[pc.is_valid(array).to_numpy(zero_copy_only=False)] = np.stack(cells)
    return result


def rows_of(numbers: Floats, like: pa.Table) -> pa.Table | None:
    """Rows of the same columns with the given numbers; None if a column is neither a number nor a vector.

    >>> import numpy as np, pyarrow as pa
    >>> rows_of(np.array([[0.5, 1.0, 2.0]]), pa.table({"x": [1], "v": [[0.0, 2.0]]})).to_pylist()
    [{'x': 0.5, 'v': [1.0, 2.0]}]
    """
    import pyarrow as pa

    columns, start = {}, 0
    for name, kind in zip(like.column_names, like.schema.types, strict=True):
        width = numbers_of(like.select([name])).shape[1]
        part = numbers[:, start : start + width]
        if not pa.types.is_nested(kind) and width == 1:
            columns[name] = pa.array(part[:, 0])
        elif pa.types.is_nested(kind) and not pa.types.is_nested(kind.value_type) and width:
            columns[name] = pa.array(part.tolist(), kind)
        else:
            return None
        start += width
    return pa.table(columns)


def unusable(rows: pa.Table) -> str:
    """The reason why the features of rows say nothing; empty if they do.

    A feature that never varies has no scale, so that no distance or density in it means anything.
    """
    import numpy as np
    import pyarrow as pa

    wordy = [name for name in rows.column_names if pa.types.is_string(rows[name].type)]
    if wordy:
        return (
            f"feature {wordy[0]!r} is a text or a category, and only numbers, images and vectors have distances: leave "
            "it out (featurize.exclude), or make numbers of it where it is cut (ingest.sources)"
        )
    if len(rows) < 2:
        return f"there are {len(rows)} training rows; two are needed at least: widen featurize.windows"
    numbers = {name: numbers_of(rows.select([name])) for name in rows.column_names}
    if not sum(values.shape[1] for values in numbers.values()):
        return "no feature is a number, an image or a vector: name one column at least (ingest.sources)"
    empty = [name for name, values in numbers.items() if np.isnan(values).all()]
    if empty:
        return f"feature {empty[0]!r} has no value in any of {len(rows):,} training rows: leave it out"
    constant = [name for name, values in numbers.items() if not (np.nanstd(values, axis=0) > 0).any()]
    if len(constant) == rows.num_columns:
        return f"all {len(rows):,} training rows are equal: there is nothing to tell apart"
    if constant:
        return (
            f"feature {constant[0]!r} has one value in all {len(rows):,} training rows, so it has no scale: leave it "
            "out (featurize.exclude)"
        )
    return ""
