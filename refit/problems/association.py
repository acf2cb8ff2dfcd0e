"""Association: a row is a basket of items, and a model says what else belongs into it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from refit.metrics import LOSS, SHARE, Metric
from refit.problems.contract import Options
from refit.problems.unlabelled import Unlabelled, needs_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from refit.metrics.formulas import OfSums
    from refit.problems.contract import Floats, Labels, Naive

TOP = 5  # items that are recommended
RATES = {  # metrics that are one part's sum over another's
    "hit_rate": ("hit", "eligible"),
    "rule_confidence": ("confirmed", "applied"),
    "rule_lift": ("confirmed", "expected"),
}


class AssociationOptions(Options):
    """What a basket looks like."""

    separator: str = Field(",", min_length=1, description="between the items of a basket")


@dataclass(frozen=True)
class Association(Unlabelled):
    """A prediction says whether the item left out of a basket is among the five that a model adds to the rest.

    Which item is left out depends on the basket alone, so that all models get the same one; a basket of fewer than two
    items is not eligible. The other parts count the model's rules that apply to the whole basket, those of them that it
    confirms, and how many it would confirm if their items were independent: confidence and lift on baskets that no rule
    has seen. The one feature is a text of items.
    """

    name: ClassVar[str] = "association"
    task: ClassVar[str] = "association"
    demand: ClassVar[str] = "not finite"
    options_class: ClassVar[type[Options] | None] = AssociationOptions
    inexplicable: ClassVar[str] = (
        "a basket is one feature; what is added to it follows from rules, which rules.json of the model lists"
    )
    parts: ClassVar[tuple[str, ...]] = ("hit", "eligible", "applied", "confirmed", "expected")
    explained_part: ClassVar[str] = "hit"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("hit_rate", "hit rate of five items", True, SHARE),
        Metric("rule_confidence", "confidence of rules on unseen baskets", True, SHARE, comparable=False),
        Metric("rule_lift", "lift of rules on unseen baskets", True, LOSS, comparable=False),
    )
    default_metric: ClassVar[str] = "hit_rate"

    @property
    def separator(self) -> str:
        options = AssociationOptions() if self.options is None else self.options
        assert isinstance(options, AssociationOptions)
        return options.separator

    def unusable(self, rows: pa.Table) -> str:
        import pyarrow as pa

        texts = [name for name in rows.column_names if pa.types.is_string(rows[name].type)]
        if len(texts) != 1 or rows.num_columns > 1:
            return (
                f"a basket is one text of items, and there are {rows.num_columns} features "
                f"({', '.join(rows.column_names[:5])}): leave out the others (featurize.exclude)"
            )
        filled = sum(len(basket) > 1 for basket in self.baskets(rows))
        if not filled:
            return (
                f"no basket of {rows.num_rows:,} has two items or more, divided by {self.separator!r}: check "
                "train.problem.separator"
            )
        return ""

    def baskets(self, rows: pa.Table) -> list[tuple[str, ...]]:
        """The different items of each row, sorted; none of a missing or empty text."""
        column = rows[rows.column_names[0]].to_pylist()
        return [tuple(sorted({item.strip() for item in (text or "").split(self.separator)} - {""})) for text in column]

    def invalid_predictions(self, predicted: Floats) -> NDArray[np.bool_]:
        import numpy as np

        return np.asarray((~np.isfinite(predicted)).any(axis=1), dtype=np.bool_)

    def predicted_values(self, predicted: Floats) -> pa.Array:
        """Whether the item that was left out is among the five; `refit score` writes the five themselves."""
        import pyarrow as pa

        return pa.array(predicted[:, 0])

    def predicted_value_sql(self, column: str) -> str:
        return f"{column}[1]"

    def naive(self, labels: Labels, metric: str, rows: pa.Table | None = None) -> Naive:
        """The most frequent items, whatever is in the basket."""
        if rows is None:
            raise needs_rows(self.name)
        return {"column": rows.column_names[0], "items": list(most_frequent(self.baskets(rows)))}

    def guess(self, naive: Naive, rows: int) -> Floats:
        raise needs_rows(self.name)

    def guess_for(self, table: pa.Table, naive: Naive) -> Floats:
        import numpy as np

        result = np.zeros(self.shape(table.num_rows))
        for row, basket in enumerate(self.baskets(table.select([naive["column"]]))):
            if len(basket) > 1:
                item, rest = left_out(basket)
                result[row, :2] = item in first_absent(naive["items"], rest), 1
        return result

    def formula(self, metric: str) -> OfSums:
        from refit.metrics.formulas import OfSums

        above, below = (self.parts.index(part) for part in RATES[metric])
        return OfSums(
            lambda _, predicted, __: (predicted[:, above], predicted[:, below]), lambda sums: sums[0] / sums[1]
        )


def left_out(basket: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The item that is left out of a basket, and the others: by a hash of the basket, so that it is always the same.

    >>> left_out(("bread", "milk", "rice"))
    ('rice', ('bread', 'milk'))
    """
    index = zlib.crc32("\n".join(basket).encode()) % len(basket)
    return basket[index], (*basket[:index], *basket[index + 1 :])


def most_frequent(baskets: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of baskets with each item, the most frequent first; of equal ones the first by name.

    >>> most_frequent([("a", "b"), ("b",)])
    {'b': 1.0, 'a': 0.5}
    """
    from collections import Counter

    counts = Counter(item for basket in baskets for item in basket)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {item: count / len(baskets) for item, count in ordered}


def first_absent(items: Sequence[str], basket: Sequence[str], chosen: Sequence[str] = ()) -> list[str]:
    """The chosen items, filled up to `TOP` with the first of others that are not in the basket."""

    def more() -> Iterator[str]:
        yield from (item for item in items if item not in basket and item not in chosen)

    filled = list(chosen[:TOP])
    for item in more():
        if len(filled) >= TOP:
            break
        filled.append(item)
    return filled
