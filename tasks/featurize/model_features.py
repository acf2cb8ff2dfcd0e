"""Features that other registered models compute, each row by the version that was champion at its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.definition import ModelFeature, ModelVersion, ModelView
from refit.config import nearest
from refit.config.featurize import FeatureModelParams
from refit.errors import RefitError, UserError
from refit.learners.contract import Learner
from refit.models.feature_models import Find

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["view_of", "with_models"]

WHERE = "params.yaml: featurize.models"


def view_of(params: FeatureModelParams, versions: tuple[ModelVersion, ...]) -> ModelView:
    """The definition of a model's features, with the versions that compute them."""
    features = tuple(
        ModelFeature(
            name=f"{params.name}_{column}",
            column=column,
            description=f"{column} by {params.name}",
            missing=f"{params.name} had no champion yet",
        )
        for column in params.columns
    )
    return ModelView(name=params.name, features=features, inputs=params.inputs, versions=versions)


def with_models(table: pa.Table, models: tuple[ModelView, ...], find: Find, trusted_types: tuple[str, ...]) -> pa.Table:
    """Append the features of models to a table with `prediction_time` and the features that they need.

    Raises:
        UserError: a model needs a feature that the table lacks or has in another type, or has no such column.
        RefitError: its files are not those that were recorded, or a prediction is invalid.
    """
    for model in models:
        table = _with(table, model, find, trusted_types)
    return table


def _with(table: pa.Table, model: ModelView, find: Find, trusted_types: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = table["prediction_time"].cast(pa.timestamp("us"))
    starts = [pa.scalar(each.since.astimezone(UTC).replace(tzinfo=None), moments.type) for each in model.versions]
    counted = [pc.fill_null(pc.greater_equal(moments, start), False) for start in starts]
    rows = pa.array(range(table.num_rows), pa.int64())
    chosen: list[pa.Array] = []
    for number in range(len(model.versions)):
        last = number == len(model.versions) - 1
        mine = counted[number] if last else pc.and_not(counted[number], counted[number + 1])
        chosen.append(rows.filter(mine.combine_chunks() if isinstance(mine, pa.ChunkedArray) else mine))
    needed = [number for number, places in enumerate(chosen) if len(places)]
    parts: list[tuple[pa.Array, Mapping[str, pa.Array]]] = [
        (chosen[number], _predicted(table.take(chosen[number]), model, model.versions[number], find, trusted_types))
        for number in needed or [-1]  # without a row, the last one says of which type a column is
    ]
    placed = pa.concat_arrays([chosen for chosen, _ in parts])
    indices = pc.index_in(rows, value_set=placed)
    for feature in model.features:
        cells = [values[feature.name] for _, values in parts]
        if len(kinds := {str(each.type) for each in cells}) > 1:
            raise UserError(
                f"{WHERE}: {model.name}: {feature.column} is {' and '.join(sorted(kinds))} in different versions, "
                "which cannot be one feature; leave it out"
            )
        table = table.append_column(feature.name, pa.concat_arrays(cells).take(indices))
    return table


def _predicted(
    table: pa.Table, model: ModelView, version: ModelVersion, find: Find, trusted_types: tuple[str, ...]
) -> dict[str, pa.Array]:
    """The columns that a version gives some rows, by the names of the features."""
    import numpy as np

    name = f"version {version.version} of {model.name}"
    learner = _loaded(find(model.name, version), name, version, trusted_types)
    inputs = _inputs(table, model, learner, name)
    problem = learner.spec.problem
    if problem.played:
        raise UserError(f"{WHERE}: {name} is a policy, which plays and gives no columns; leave it out")
    predicted = learner.predict(inputs) if table.num_rows else np.zeros(problem.shape(0))
    if fault := problem.check_predictions(predicted, table.num_rows):
        raise RefitError(f"{WHERE}: {name} predicts {fault}; roll it back in its project: refit rollback")
    columns = _columns(learner, predicted)
    return {feature.name: columns[_known(feature, columns, model, name)] for feature in model.features}


def _loaded(folder: Path, name: str, version: ModelVersion, trusted_types: tuple[str, ...]) -> Learner:
    from refit import learners

    learner = learners.load(folder, trusted_types=trusted_types)
    if (digest := learner.digest()) != version.model_digest:
        raise RefitError(
            f"{WHERE}: {name} was altered: its model was {version.model_digest[:12]} and is {digest[:12]}; delete "
            f"{folder}, it is fetched again"
        )
    return learner


def _inputs(table: pa.Table, model: ModelView, learner: Learner, name: str) -> pa.Table:
    """The columns that a version needs, under its own names."""
    import pyarrow as pa

    own = {feature: model.inputs.get(feature, feature) for feature in learner.spec.features}
    if lacking := [feature for feature, column in own.items() if column not in table.column_names]:
        feature = lacking[0]
        others = f", and {len(lacking) - 1} more" if lacking[1:] else ""
        raise UserError(
            f"{WHERE}: {name} needs {feature!r}{others}, and there is no feature {own[feature]!r} here"
            f"{nearest(own[feature], table.column_names)}; name the one that it is as inputs: {{{feature}: FEATURE}}"
        )
    if surplus := sorted(set(model.inputs) - set(own)):
        raise UserError(
            f"{WHERE}: {name} has no feature {surplus[0]!r}{nearest(surplus[0], own)}; it has {', '.join(own)}"
        )
    return pa.table({feature: table[column] for feature, column in own.items()})


def _columns(learner: Learner, predicted: object) -> dict[str, pa.Array]:
    """The columns of predictions, by the names that `refit score` gives them."""
    import numpy as np
    import pyarrow as pa

    problem, values = learner.spec.problem, np.asarray(predicted, dtype=np.float64)
    columns = {"prediction": problem.predicted_values(values)}
    columns |= {name: pa.array(values[:, index]) for index, name in enumerate(problem.parts)}
    return columns | {f"probability_{name}": pa.array(values[:, i]) for i, name in enumerate(problem.classes)}


def _known(feature: ModelFeature, columns: Mapping[str, object], model: ModelView, name: str) -> str:
    if feature.column not in columns:
        raise UserError(
            f"{WHERE}: {name} has no column {feature.column!r}{nearest(feature.column, columns)}; it has "
            f"{', '.join(columns)}"
        )
    return feature.column
