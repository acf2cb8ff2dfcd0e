"""What a training says of a candidate that is many models: one for each value of a category."""

from __future__ import annotations

from refit.schemas.artifact import Part

__all__ = ["GroupModel", "GroupModels"]


class GroupModel(Part):
    """A value with a model of its own."""

    value: str
    rows: int  # that the model was fitted to
    unseen_rows: int  # rows of the value that `validation` is of
    validation: float | None  # by the training's metric, of fits that have not seen the rows; None if it is undefined


class GroupModels(Part):
    """The models of the candidate."""

    by: str
    models: tuple[GroupModel, ...]  # in the order of the values
    pooled_values: int  # values without a model of their own, which share the one of all rows
    pooled_rows: int  # training rows of these values, and without a value

    @property
    def sentence(self) -> str:
        """How many models there are, and of how many rows.

        >>> two = (GroupModel(value="AA", rows=1200, unseen_rows=0, validation=None),
        ...        GroupModel(value="UA", rows=5000, unseen_rows=0, validation=None))
        >>> for part in GroupModels(by="carrier", models=two, pooled_values=3, pooled_rows=700).sentence.split("; "):
        ...     print(part)
        2 values of carrier have their own models, of 1,200 (AA) to 5,000 (UA) rows
        3 others, with 700 rows, and new ones share one of all rows
        """
        least = min(self.models, key=lambda model: model.rows)
        most = max(self.models, key=lambda model: model.rows)
        own = f"{len(self.models)} values of {self.by} have their own models"
        sizes = f"of {least.rows:,} ({least.value}) to {most.rows:,} ({most.value}) rows"
        others = f"{self.pooled_values} others, with {self.pooled_rows:,} rows, and new ones share one of all rows"
        return f"{own}, {sizes}; {others}"
