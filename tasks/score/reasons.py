"""Explains the champion's predictions of single rows: what each feature adds to them."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.sql_text import literal, quote
from refit.config.column_types import ArrayColumn
from refit.errors import UserError, counted
from refit.explanations import contributions, format_unit
from refit.explanations.occlusion import losses_by_patch
from refit.explanations.shapley import Contributions
from refit.models.verification import GOLDEN, MODEL
from refit.runtime.context import Context
from refit.schemas.explanations import ExplainedRow, FeatureContribution, RowExplanations
from refit.storage import prediction_log
from refit.storage.arrays import images
from tasks import featurize
from tasks.featurize.warehouse import open_warehouse
from tasks.score import of_file
from tasks.score.champion_model import Champion, load_champion
from tasks.score.data_as_of import NOW, validated_data_at

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 20  # of a file
SECONDS = 10.0  # approximate limit for one explanation


def run(context: Context, row: str) -> RowExplanations:
    """Explain what pushed predictions up and down, as `explained` does."""
    return explained(context, row)[0]


def explained(context: Context, row: str) -> tuple[RowExplanations, dict[str, NDArray[np.uint8]]]:
    """Explain what pushed predictions up and down; returns the first row's images too, by the name of their feature.

    Args:
        row: the key of a scored row, or of a row of the sources; or a CSV or Parquet file in the layout of the
            predicted source.

    Raises:
        UserError: there is no champion, no such row, or the file's rows cannot be scored.
        RefitError: the model's files differ from the registered ones.
    """
    import pyarrow.parquet as pq

    champion = load_champion(context)
    file = next((path for path in (Path(row), context.path(row)) if path.is_file()), None)
    if file:
        features, source = _rows_of_file(context, champion, file)
    elif (logged := _logged(context, champion, row)) is not None:
        features, source = logged, "as it was scored"
    else:
        features, source = _of_sources(context, champion, row), "as the sources have it"
    shown = features.slice(0, MOST_ROWS)
    background = pq.read_table(champion.folder.parents[len(MODEL.parts) - 1] / GOLDEN)
    context.progress(f"explaining {counted(shown.num_rows, 'row')}")
    shapley = contributions(champion.learner, shown, background, seed=0, seconds=SECONDS)
    predicted = champion.learner.predict(shown)
    names = champion.learner.spec.problem.predicted_values(predicted)
    report = RowExplanations(
        model=champion.version.model,
        version=champion.version.version,
        source=source,
        unit=shapley.unit,
        method=shapley.method,
        calibrated=shapley.calibrated,
        in_words=format_unit(shapley.unit, calibrated=shapley.calibrated),
        not_shown=features.num_rows - len(shapley.indices),
        rows=tuple(
            _explanation(champion, shown.slice(int(index), 1), predicted[index], names[int(index)], shapley, number)
            for number, index in enumerate(shapley.indices)
        ),
    )
    return report, _images(champion, shown.slice(int(shapley.indices[0]), 1))


def _images(champion: Champion, row: pa.Table) -> dict[str, NDArray[np.uint8]]:
    every = champion.learner.spec.arrays.items()
    return {name: images(row, name, array)[0] for name, array in every if array.kind == "image"}


def _patches(champion: Champion, row: pa.Table, name: str, output: int) -> tuple[tuple[float, ...], ...]:
    """Return what covering each patch of an image costs the prediction; nothing for other features."""
    array = champion.learner.spec.arrays.get(name)
    if array is None or array.kind != "image":
        return ()
    losses = losses_by_patch(champion.learner, row, name, array)[:, :, output]
    return tuple(tuple(line) for line in losses.round(9).tolist())


def _explanation(
    champion: Champion, row: pa.Table, predicted: Any, name: pa.Scalar, shapley: Contributions, number: int
) -> ExplainedRow:
    """Explain one row: its prediction, and its features by contribution; of several classes, to the likeliest."""
    target = champion.learner.spec.problem
    output = int(np.argmax(predicted)) if target.classes else 0
    values = shapley.values[number, :, output]
    order = np.argsort(-np.abs(values), kind="stable")
    return ExplainedRow(
        key=str(row[champion.key][0].as_py()),
        prediction=float(np.atleast_1d(target.output(predicted))[output]),
        predicted_class=name.as_py() if isinstance(name.as_py(), str) else None,
        task=target.task,
        log_odds=shapley.unit == "log-odds" and target.task == "binary",
        base=float(shapley.base[output]),
        total=float(shapley.base[output] + values.sum()),
        features=tuple(
            FeatureContribution(
                name=name,
                value=_shown_value(row[name][0].as_py(), champion.learner.spec.arrays.get(name)),
                adds=float(values[index]),
                patches=_patches(champion, row, name, output),
            )
            for name, index in ((shapley.features[index], index) for index in order)
        ),
    )


def _shown_value(value: Any, array: ArrayColumn | None) -> Any:
    """Return a feature's value, the kind of an array, or None for a number that is not finite."""
    if array is not None:
        return None if value is None else str(array)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _logged(context: Context, champion: Champion, key: str) -> pa.Table | None:
    """Return the row with the logged features, or None if it was not scored, or has arrays, which are not logged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if champion.learner.spec.arrays:
        return None
    for path in prediction_log.files(context, champion.version.version, date.min, date.max):
        if key in prediction_log.keys_in(path)[prediction_log.KEY].to_pylist():
            row = pq.read_table(path, filters=[(prediction_log.KEY, "=", key)])
            return row.append_column(champion.key, pa.array(row[prediction_log.KEY].combine_chunks()))
    return None


def _of_sources(context: Context, champion: Champion, key: str) -> pa.Table:
    """Return the row with the features that were known at its own prediction time."""
    validated = validated_data_at(context, NOW)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        table = warehouse.rows(champion.definitions.feature_set.spine, champion.definitions.sources)
        relation = f"(select * from {table} where {quote(champion.key)}::varchar = {literal(key)})"
        features = featurize.features_of(warehouse, champion.definitions, relation, context, champion.find(context))
        newest = f"select {quote(champion.key)}::varchar from {table} order by event_time desc, 1 limit 1"
        keys = [] if features.num_rows else warehouse.connection.execute(newest).fetchall()
    if not features.num_rows:
        example = f", such as '{keys[0][0]}'" if keys else ""
        raise UserError(
            f"--row {key}: no row of {champion.definitions.feature_set.spine.source!r} has this {champion.key}, and it "
            f"names no file; give a {champion.key} that a row has{example}, one of a scored file, or a CSV file"
        )
    return features


def _rows_of_file(context: Context, champion: Champion, file: Path) -> tuple[pa.Table, str]:
    """Return the rows of a file that can be scored, and where they come from, with what was refused."""
    validated = validated_data_at(context, NOW)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        requested = of_file(context, warehouse, champion, file)
        features = featurize.features_of(
            warehouse, champion.definitions, requested.relation, context, champion.find(context)
        )
    if not features.num_rows:
        why = f"the first, {requested.refusals[0].told}" if requested.refusals else "the definitions leave all out"
        raise UserError(f"--row {file}: none of its {requested.read:,} rows can be scored; {why}")
    source = f"rows of {file.name}"
    if requested.refusals:
        source += f" ({requested.refused:,} of {requested.read:,} refused; the first, {requested.refusals[0].told})"
    return features, source
