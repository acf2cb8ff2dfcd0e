"""The params section `featurize`: features, the label, and the windows of rows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from refit.config.section import Hours, Name, Section, Share, Unit


class LabelParams(Section):
    """The column to predict, and when it is known."""

    source: Name = Field(description="event source whose rows are predicted; it has the label")
    column: str | None = Field(min_length=1, description="its column to predict; null for a problem without labels")
    delay_hours: Hours = Field(
        48, ge=0, description="time after an event until its label is known; windows end this long before as_of"
    )
    use_unlabelled: bool = Field(
        False, description="keep rows of training and validation that have no label, for learners that use them"
    )
    keep_late: bool = Field(
        False,
        description="keep the training rows whose label was known after validation began but before the test, for "
        "learners of a stream: the last fit learns them",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> LabelParams:
        if self.keep_late and self.use_unlabelled:
            raise ValueError("keep_late gives late rows with their label, use_unlabelled without it: set one of them")
        return self

    @property
    def name(self) -> str:
        """The column, for code that only a problem with labels reaches."""
        assert self.column is not None
        return self.column


Periods = Annotated[int, Unit("periods")]


class WindowParams(Section):
    """Lengths in periods (`ingest.period`), counted back from the end of the newest complete period."""

    test: Periods = Field(1, ge=1, description="newest periods, which models are judged on")
    validation: Periods = Field(1, ge=1, description="periods before the test, which learners are compared on")
    training: Periods | None = Field(
        None, ge=1, description="periods before validation, which are learned from; default: everything earlier"
    )


_RULE = re.compile(r"as column (.+) says|\S+ of (.+), seed \d+", re.DOTALL)  # what SplitParams.rule writes


class SplitParams(Section):
    """Random windows instead of windows of time, for tables without a course of time."""

    test: Share = Field(0.2, gt=0, lt=1, description="share of the rows kept apart to judge models on")
    validation: Share = Field(0.2, ge=0, lt=1, description="share that learners are compared on; 0 with folds")
    by: str | None = Field(None, description="column whose equal values stay together; default: each row by its key")
    column: str | None = Field(
        None, description="column that says itself train, validation or test, in place of chance; else a row is in none"
    )
    seed: Annotated[int, Unit("none: any whole number")] = Field(
        0, ge=0, lt=2**32, description="another seed assigns the rows differently"
    )

    @model_validator(mode="after")
    def _something_left(self) -> SplitParams:
        if self.column and self.by:
            raise ValueError(
                f"column {self.column!r} says where each row is, by {self.by!r} leaves it to chance: drop one"
            )
        if self.test + self.validation >= 1:
            raise ValueError(f"test and validation take {self.test + self.validation:g} of the rows; none are left")
        return self

    @property
    def rule(self) -> str:
        """The rule that assigns rows to windows: models with the same rule have not seen each other's test rows."""
        if self.column:
            return f"as column {self.column} says"
        return f"{self.test:g} of {self.by or 'the rows'}, seed {self.seed}"

    @staticmethod
    def columns_in(rule: str, key: str) -> tuple[str, ...]:
        """The columns that a `rule` reads to assign a row; models store only its text.

        >>> SplitParams.columns_in("as column part says", "id"), SplitParams.columns_in("0.2 of shop, seed 0", "id")
        (('part',), ('shop', 'id'))
        """
        match = _RULE.fullmatch(rule)
        if match is None:
            return (key,)
        column, by = match.groups()
        return (column,) if column else tuple(dict.fromkeys([*([by] if by != "the rows" else []), key]))


CHAMPION_OF = re.compile(r"models:/([a-z][a-z0-9_]*)@champion")


class FeatureModelParams(Section):
    """Another project's model, whose predictions are features."""

    model: str = Field(description="models:/NAME@champion: each row by the version that was champion at its prediction")
    columns: tuple[str, ...] = Field(
        min_length=1, description="columns of its predictions, as `refit score` writes them; features <NAME>_<column>"
    )
    inputs: dict[str, str] = Field({}, description="the model's feature: one of this project; default: the same name")
    project: str | None = Field(
        None, min_length=1, description="folder of its project, for its registry; default: the registry of this one"
    )
    counts_from: Literal["promotion", "as_of"] = Field(
        "promotion",
        description="when a version becomes champion: by the ledger's clock, or at the end of the data that it saw, "
        "for versions that were made of the past after the fact",
    )

    @field_validator("model")
    @classmethod
    def _names_a_champion(cls, value: str) -> str:
        if not CHAMPION_OF.fullmatch(value):
            raise ValueError(f"{value!r} names no champion; write models:/NAME@champion")
        return value

    @property
    def name(self) -> str:
        """The registered name."""
        match = CHAMPION_OF.fullmatch(self.model)
        assert match is not None
        return match[1]


class FeaturizeParams(Section):
    definitions: str | None = Field(
        None, description="module, or .py file in the project, that defines FEATURES; default: the columns as they are"
    )
    label: LabelParams = Field(description="the column to predict, and when it is known")
    windows: WindowParams = Field(
        WindowParams(), description="lengths of the windows that rows are learned from and judged on, in periods"
    )
    split: SplitParams | None = Field(None, description="windows by a hash of the row's key; default: by time")
    exclude: tuple[str, ...] = Field((), description="features to leave out, as shell patterns")
    text: tuple[str, ...] = Field((), description="features that are free text, to learn from their words")
    keep: tuple[str, ...] = Field(
        (), description="columns of the rows to predict that are kept with the features: to group, cluster or slice by"
    )
    models: tuple[FeatureModelParams, ...] = Field((), description="predictions of other projects' models as features")

    @field_validator("models")
    @classmethod
    def _each_once(cls, value: tuple[FeatureModelParams, ...]) -> tuple[FeatureModelParams, ...]:
        names = [each.name for each in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} is named twice; give one entry all its columns")
        return value
