"""`profile.json`: how the counts of each column in `profile.parquet` are laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from refit.schemas.artifact import Artifact, Part

__all__ = ["CategoryBins", "NumberBins", "Profile"]

if TYPE_CHECKING:
    from feature_store.sketches import Layout


class NumberBins(Part):
    """The bins of numbers, or of the lengths of texts."""

    name: str
    kind: Literal["number", "text"]
    lows: tuple[float | int, ...]
    highs: tuple[float | int, ...]
    mean: float
    std: float


class CategoryBins(Part):
    """The names of categories that are counted."""

    name: str
    kind: Literal["category"]
    names: tuple[str, ...]
    others: tuple[str, ...]
    complete: bool


class Profile(Artifact):
    """The layout of a sketch: its columns in the order of their counts."""

    REMEDY: ClassVar[str] = "restore the folder, or train again"

    columns: tuple[Annotated[NumberBins | CategoryBins, Field(discriminator="kind")], ...]

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """The stored form of a layout."""
        return cls.model_validate(
            {"columns": tuple({"name": n, **vars(column)} for n, column in layout.columns.items())}
        )

    def layout(self) -> Layout:
        """The layout."""
        from feature_store.sketches import Categories, Layout, Numbers, Texts

        kinds = {"number": Numbers, "text": Texts, "category": Categories}
        return Layout({each.name: kinds[each.kind](**each.model_dump(exclude={"name"})) for each in self.columns})
