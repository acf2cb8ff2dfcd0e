"""Leaves out of a new project what tells its label: a first training with it would spend a look at the test window."""

from __future__ import annotations

from collections.abc import Sequence

from refit.files.yaml_files import YamlTree
from refit.new_project.new_params import is_feature
from refit.new_project.table_reading import TableReading
from refit.schemas.feature_table import Giveaway


def without(
    params: YamlTree, reading: TableReading, leaks: Sequence[Giveaway]
) -> tuple[YamlTree, tuple[Giveaway, ...]]:
    """Return params that exclude the features that tell every label, and these; all stay if no other is left."""
    certain = {name: leak for leak in leaks if leak.is_label for name in leak.features}
    if not certain or not {column.alias for column in reading.columns if is_feature(column, reading)} - set(certain):
        return params, ()
    featurize = params["featurize"]
    exclude = [*featurize.get("exclude", ()), *certain]
    return {**params, "featurize": {**featurize, "exclude": exclude}}, tuple(certain.values())
