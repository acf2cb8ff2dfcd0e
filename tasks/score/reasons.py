"""Why the model in charge predicts what it does of single rows: what each feature adds to their predictions."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.compile import literal, quote
from refit.errors import UserError
from refit.explanations import contributions, format_unit
from refit.explanations.shapley import Contributions
from refit.models.verification import GOLDEN, MODEL
from refit.runtime.context import Context
from refit.storage import prediction_log
from tasks import featurize
from tasks.featurize.warehouse import open_warehouse
from tasks.score import of_file
from tasks.score.champion_model import Champion, in_charge
from tasks.score.data_as_of import NOW, known_at

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 20  # of a file
SECONDS = 10.0  # about what one answer may take, at most

Report = dict[str, Any]


def run(context: Context, row: str) -> Report:
    """What pushed predictions up and down.

    Args:
        row: the key of a row that was scored, or of one that the sources hold; or a CSV or Parquet file in the layout
            of the source that is predicted.

    Raises:
        UserError: nobody is in charge, there is no such row, or the file's rows cannot be scored.
        RefitError: the model's files are not those that were registered.
    """
    import pyarrow.parquet as pq

    champion = in_charge(context)
    file = next((path for path in (Path(row), context.path(row)) if path.is_file()), None)
    if file:
        features, source = _rows_of_file(context, champion, file), f"rows of {file.name}"
    elif (logged := _logged(context, champion, row)) is not None:
        features, source = logged, "as it was scored"
    else:
        features, source = _of_sources(context, champion, row), "as the sources have it"
    kept = features.slice(0, MOST_ROWS)
    background = pq.read_table(champion.folder.parents[len(MODEL.parts) - 1] / GOLDEN)
    context.progress(f"explaining {kept.num_rows:,} row{'s' if kept.num_rows > 1 else ''}")
    found = contributions(champion.learner, kept, background, seed=0, seconds=SECONDS)
    predicted = champion.learner.predict(kept)
    return {
        "model": champion.version.model,
        "version": champion.version.version,
        "source": source,
        "unit": found.unit,
        "method": found.method,
        "calibrated": found.calibrated,
        "in_words": format_unit(found.unit, calibrated=found.calibrated),
        "not_shown": features.num_rows - len(found.indices),
        "rows": [
            _told(champion, kept.slice(int(place), 1), predicted[place], found, number)
            for number, place in enumerate(found.indices)
        ],
    }


def _told(champion: Champion, row: pa.Table, predicted: Any, found: Contributions, number: int) -> Report:
    """One row: what is predicted of it, and its features by how much they add; of several classes, to the likeliest."""
    target = champion.learner.spec.target
    output = int(np.argmax(predicted)) if target.classes else 0
    values = found.values[number, :, output]
    order = np.argsort(-np.abs(values), kind="stable")
    return {
        "key": str(row[champion.key][0].as_py()),
        "prediction": float(np.atleast_1d(predicted)[output]),
        "class": target.classes[output] if target.classes else None,
        "task": target.task,
        "log_odds": found.unit == "log-odds" and target.task == "binary",
        "base": float(found.base[output]),
        "total": float(found.base[output] + values.sum()),
        "features": [
            {"name": name, "value": _known(row[name][0].as_py()), "adds": float(values[place])}
            for place, name in ((place, found.features[place]) for place in order)
        ],
    }


def _known(value: Any) -> Any:
    """A feature's value; none where it is no finite number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _logged(context: Context, champion: Champion, key: str) -> pa.Table | None:
    """The row with the features that the model was shown; none: it was not asked about it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in prediction_log.files(context.project, champion.version.version, date.min, date.max):
        if key in prediction_log.keys_in(path)[prediction_log.KEY].to_pylist():
            found = pq.read_table(path, filters=[(prediction_log.KEY, "=", key)])
            return found.append_column(champion.key, pa.array(found[prediction_log.KEY].combine_chunks()))
    return None


def _of_sources(context: Context, champion: Champion, key: str) -> pa.Table:
    """The row with the features that were known at its own prediction time."""
    known = known_at(context, NOW)
    with open_warehouse(context.project, known, context.params) as warehouse:
        table = warehouse.relation(champion.definitions.feature_set.spine.source, champion.definitions.sources)
        relation = f"(select * from {table} where {quote(champion.key)}::varchar = {literal(key)})"
        features = featurize.features_of(warehouse, champion.definitions, relation, context.params)
        newest = f"select {quote(champion.key)}::varchar from {table} order by event_time desc, 1 limit 1"
        keys = [] if features.num_rows else warehouse.connection.execute(newest).fetchall()
    if not features.num_rows:
        example = f", such as '{keys[0][0]}'" if keys else ""
        raise UserError(
            f"--row {key}: no row of {champion.definitions.feature_set.spine.source!r} has this {champion.key}, and it "
            f"names no file; give a {champion.key} that a row has{example}, one of a scored file, or a CSV file"
        )
    return features


def _rows_of_file(context: Context, champion: Champion, file: Path) -> pa.Table:
    known = known_at(context, NOW)
    with open_warehouse(context.project, known, context.params) as warehouse:
        given = of_file(context, warehouse, champion, file)
        features = featurize.features_of(warehouse, champion.definitions, given.relation, context.params)
    if not features.num_rows:
        why = given.refusals[0].reason if given.refusals else "the definitions leave all out"
        raise UserError(f"--row {file}: none of its {given.read:,} rows can be scored; the first: {why}")
    return features
