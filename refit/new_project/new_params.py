"""The params of a new project, for rows with a time, rows without one, or series."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.definition import interval
from feature_store.sql_text import literal
from refit.config import ForecastParams
from refit.config.forecasting import HOURS
from refit.config.section import free
from refit.files.yaml_files import YamlTree
from refit.new_project.column_reading import Column
from refit.new_project.period_reading import complete_within, holdout_share
from refit.new_project.series_reading import Series
from refit.new_project.table_reading import TableReading
from refit.new_project.windows import (
    DAY,
    LEAST_MOMENTS,
    SECONDS,
    periods_of_rows,
    periods_of_test,
    validation_periods,
)
from refit.new_project.zone_reading import local, utc
from refit.problems import kind_of
from tasks.featurize.forecasts import scales
from tasks.train.folds import FEWEST_ROWS
from tasks.validate.suites import SOME_VALUE

LOGISTIC = {"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 500}}
LINEAR: Mapping[str, YamlTree] = {
    "binary": LOGISTIC,
    "multiclass": LOGISTIC,
    "regression": {"name": "ridge", "kind": "sklearn.linear_model.Ridge", "params": {"alpha": 1.0}},
}
FEW_DAYS = 20  # of a test window, below which days are too few to be clusters
FEWEST_MOMENTS = 8  # of forecasts in a test window, below which no gate decides: docs/gate.md
MANY = 6  # seasons of a history from which cross-validation covers several, as one may differ from the others
MOST_FORECASTS = 1_000_000  # rows; with more, forecasts are of every n-th step
LEARNED_FORECASTS = 300_000  # of these, in as many horizons as that leaves
LONG = ("w", "mo", "y")  # units of steps whose newest row may lie long before a period's end
_PACKED = (".csv", ".tsv", ".txt", ".parquet", ".pq")  # before the suffix of an archive
ESTIMATORS = {"binary": "classifier", "multiclass": "classifier", "regression": "regressor"}


@dataclass(frozen=True)
class _Sections:
    """The sections of the params that depend on what a row is."""

    ingest: YamlTree
    featurize: YamlTree
    train: YamlTree
    evaluate: YamlTree
    drift: YamlTree | None = None


def params_of(name: str, reading: TableReading) -> YamlTree:
    """Return the params in the form of `params.yaml`."""
    sections = _of_series(reading, reading.series) if reading.series else _of_rows(reading)
    return {
        "project": {"name": name, "timezone": reading.zone},
        "ingest": {"period": reading.period, **_completion(reading), **sections.ingest},
        "validate": {**_rows_band(reading), "suites": _suites(reading)},
        "featurize": sections.featurize,
        "train": sections.train,
        "evaluate": sections.evaluate,
        "register": {"golden_rows": 50},
        **({"drift": sections.drift} if sections.drift else {}),
        "registry": {"tracking_uri": None, "trusted_types": []},
        "cost": {"cpu_hour": 0.05, "currency": "USD"},
    }


def _of_rows(reading: TableReading) -> _Sections:
    """Return the params of labelled rows: features are the columns, the test is later rows or a random sample."""
    features = [column for column in reading.columns if is_feature(column, reading)]
    columns = {column.alias: _feature(column) for column in features}
    columns[reading.label.alias] = _label(reading)
    split = reading.split
    if split:
        columns[split.column.alias] = split.sql
    text = [column.alias for column in features if column.is_read]
    featurize: YamlTree = {
        "definitions": None,
        "label": {"source": "cases", "column": reading.label.alias, "delay_hours": reading.label_delay},
        **({"text": text} if text else {}),
    }
    train = {
        "task": reading.task,
        "metric": kind_of(reading.task).default_metric,
        "seed": 0,
        "learners": _learners(reading),
    }
    test = _periods(reading)
    test_rows = split.rows["test"] if split else test * reading.rows_per_period
    days = 1 if split else test * reading.days_per_period
    gate = {
        "mode": "non_inferiority",
        "max_loss": _margin(reading, 0.01),
        "min_gain_over_baseline": _margin(reading, 0.02),
        "min_rows": max(20, min(2000, test_rows // 2)) if reading.time else min(50, test_rows // 2),
        "cluster": "row" if days < FEW_DAYS else "day",
    }
    cases = {"cases": {"available_at": "event_time", "columns": columns}}
    ingest, evaluate = {"sources": {"table": _source(reading, cases)}}, {"gate": gate}
    if split:
        featurize["split"] = {"column": split.column.alias, "validation": 0.2 if split.rows["validation"] else 0}
        featurize["exclude"] = [split.column.alias]
        if not split.rows["validation"]:
            train["cross_validation"] = _folds(reading, split.rows["train"])
        return _Sections(ingest, featurize, train, evaluate)
    if reading.time is None:
        share = holdout_share(reading.rows)
        folds = _folds(reading, (1 - share) * reading.rows)
        featurize["split"] = {"test": share, "validation": 0, "seed": 0}
        train["cross_validation"] = evaluate["cross_validation"] = folds
        return _Sections(ingest, featurize, train, evaluate)
    featurize["windows"] = {"test": test, "validation": math.ceil(test / 2), "training": None}
    weekly = reading.rows_per_period * 7 // 30 if reading.period == "month" else reading.rows_per_period
    return _Sections(ingest, featurize, train, evaluate, _drift(reading, weekly // 2))


def _folds(reading: TableReading, rows: float) -> YamlTree:
    """Return the most folds that have enough rows each, with a margin, since rows are drawn at random."""
    count = max(2, min(5, int(0.9 * rows / FEWEST_ROWS)))
    return {"kind": kind_of(reading.task).folds, "folds": count}


def _periods(reading: TableReading) -> int:
    """Return how many of the last periods are the test window."""
    if reading.time is None:
        return 1
    rarer = min(reading.label.counts[each] for each in reading.label.values) if reading.task == "binary" else None
    return periods_of_rows(reading.rows, reading.rows_per_period, reading.period, rarer=rarer)


def _of_series(reading: TableReading, series: Series) -> _Sections:
    """Return the params of series to forecast: changes from a level by their own past and the calendar."""
    assert reading.time
    by_name = {column.name: column for column in reading.columns}
    identifiers = {name.lower(): by_name[name] for name in series.columns}
    value = reading.label.alias
    columns = {**{alias: column.sql for alias, column in identifiers.items()}, value: reading.label.value}
    unit = series.step.lstrip("0123456789")
    available_at = utc(f"{local('event_time', series.zone)} + {interval(series.step)}", series.zone)
    source = _source(reading, {"steps": {"available_at": available_at, "columns": columns}})
    if series.inexact:
        period_start = f"date_trunc('{'year' if unit == 'y' else 'month'}', {local(source['event_time'], series.zone)})"
        source["event_time"] = utc(period_start, series.zone)
    test = periods_of_test(series.length, series.step_seconds, reading.period)
    test_steps = int(test * SECONDS[reading.period] / series.step_seconds)
    thinned = _thinned(series, test_steps)
    every = thinned.get("every", 1)
    forecast = {
        "of": "table",
        **({"series": {alias: column.type for alias, column in identifiers.items()}} if identifiers else {}),
        "step": series.step,
        "horizons": list(series.horizons),
        "season": series.season,
        "lags": list(series.lags),
        **thinned,
    }
    clusters = test * SECONDS[reading.period] / max(DAY, every * series.step_seconds)
    rows = series.count * len(series.horizons) * (test_steps // every)
    typical_error = max(series.naive_error, 0.01 * reading.spread)
    return _Sections(
        ingest={
            **({"complete_within_hours": HOURS[unit]} if unit in LONG else {}),
            "sources": {"table": source, "forecasts": {"kind": "forecasts", "forecast": forecast}},
        },
        featurize={
            "label": {"source": "steps", "column": value, "delay_hours": 0},
            "windows": {"test": test, "validation": validation_periods(test), "training": None},
        },
        train={
            "task": "forecast",
            "metric": "mae",
            "seed": 0,
            **({"cross_validation": {"kind": "time", "folds": 3}} if series.length >= MANY * series.season else {}),
            "intervals": {"level": 0.9, "within": "horizon"},
            "learners": _forecasters(series),
        },
        evaluate={
            "gate": {
                "mode": "non_inferiority",
                "max_loss": float(f"{0.02 * typical_error:.2g}"),
                "min_gain_over_baseline": float(f"{0.01 * typical_error:.2g}"),
                "min_rows": max(20, min(1000, rows // 2)),
                "cluster": "day",  # never rows: the horizons and series of one moment share its errors
                **_fewer_clusters(clusters),
            }
        },
    )


def _fewer_clusters(moments: float) -> dict[str, int]:
    """Let the gate decide by fewer clusters than usual where a test window has no more moments.

    >>> _fewer_clusters(24), _fewer_clusters(12), _fewer_clusters(4)
    ({}, {'min_clusters': 10}, {'min_clusters': 8})
    """
    return {} if moments >= FEW_DAYS else {"min_clusters": max(FEWEST_MOMENTS, math.floor(0.9 * moments))}


def _thinned(series: Series, test_steps: int) -> dict[str, int]:
    """Which forecasts of many are made and learned from: of each n-th step, of each time of a cycle in turn.

    The test window keeps as many moments as a gate needs clusters; what that leaves too many is not learned from.

    >>> from dataclasses import replace
    >>> hours = Series(("id",), 1, "1h", 3600, 850, 168, (24,), tuple(range(1, 49)), 1.0, False, False)
    >>> _thinned(hours, 408), _thinned(replace(hours, count=414), 408)
    ({}, {'every': 17, 'learn': 14})
    >>> days = Series(("id",), 1000, "1d", DAY, 730, 7, (), tuple(range(1, 29)), 1.0, False, False)
    >>> _thinned(days, 121)
    {'every': 5, 'learn': 2}
    """
    rows = series.count * series.length * len(series.horizons)
    if rows <= MOST_FORECASTS:
        return {}
    least, most = math.ceil(rows / MOST_FORECASTS), max(1, test_steps // LEAST_MOMENTS)
    cycles = (series.season, *series.lags)
    coprime = [each for each in range(1, most + 1) if all(math.gcd(each, cycle) == 1 for cycle in cycles)]
    every = next((each for each in coprime if each >= least), coprime[-1])
    learn = max(1, LEARNED_FORECASTS * len(series.horizons) * every // rows)
    thinned = {"every": every} if every > 1 else {}
    return thinned | ({"learn": learn} if learn < len(series.horizons) else {})


def _forecasters(series: Series) -> list[YamlTree]:
    """Return a seasonal baseline, and learners of the change from a level, as trees cannot extrapolate.

    Whether changes from a mean or from the last value are learned better, the validation rows decide.
    """
    forecast = ForecastParams(
        of="table", step=series.step, horizons=series.horizons, season=series.season, lags=series.lags
    )
    level, scaled = scales(forecast)
    change = {"change": "difference"} if series.negative else {}
    relative_params = {"level": level, "scaled": scaled, **change}
    boosting = {"loss": "absolute_error", "learning_rate": 0.05, "max_iter": 300, "min_samples_leaf": 20}
    relative = [
        {
            "name": name,
            "kind": "relative",
            "params": {
                **relative_params,
                "level": each,
                "scaled": list(scaled),  # a copy: YAML would write an alias of the one above
                "kind": "sklearn.ensemble.HistGradientBoostingRegressor",
                "params": dict(boosting),
            },
        }
        for name, each in (("boosting", level), ("boosting_from_last", f"last_{forecast.steps(1)}"))
    ]
    return [
        {"name": "season_before", "kind": "baseline"},
        {"name": "linear", "kind": "relative", "params": {**relative_params, "kind": "sklearn.linear_model.Ridge"}},
        *relative,
    ]


def _source(reading: TableReading, events: YamlTree) -> YamlTree:
    """The source of the table in `raw/`. Without a key, lines identify rows; without a time, one day dates all."""
    columns = {column.name: column.type for column in reading.columns}
    key = list(reading.key)
    line_columns: YamlTree = {}
    if not key:
        lower = {name.lower() for name in columns}
        key = [name if name not in lower else free(f"table_{name}", lower) for name in ("file", "line")]
        columns |= {key[0]: "text", key[1]: "integer"}
        line_columns = {"file_column": key[0], "line_column": key[1]}
    time = reading.time
    required = [*reading.key, *([time.name] if time else [])]
    return {
        "kind": "files",
        "path": _pattern(reading.file.path),
        **({} if reading.is_parquet else {"delimiter": reading.file.delimiter}),
        **({"encoding": reading.file.encoding} if reading.file.encoding != "utf-8" else {}),
        **({"skip_lines": reading.file.skip_lines} if reading.file.skip_lines else {}),
        "nulls": list(reading.nulls),
        "columns": columns,
        **line_columns,
        **({"required": list(dict.fromkeys(required))} if required else {}),
        "key": key,
        "event_time": time.moment if time else f"timestamp '{reading.dated}'",
        "events": events,
    }


def _pattern(path: Path) -> str:
    """The pattern that the next files match, too: a name keeps its kind only, not the date or version before it.

    >>> [_pattern(Path(name)) for name in ("sales.2024.csv", "sales.2024.csv.gz", "sales.2024.gz", "sales.2024")]
    ['raw/*.csv', 'raw/*.csv.gz', 'raw/*.gz', 'raw/*']
    """
    *_, inner, last = ("", "", *path.suffixes)
    if last.lower() in (".gz", ".zip"):
        return f"raw/*{inner if inner.lower() in _PACKED else ''}{last}"
    return "raw/*" + ("" if any(letter.isdigit() for letter in last) else last)


def _learners(reading: TableReading) -> list[YamlTree]:
    return [
        {"name": "base_rate", "kind": "baseline"},
        LINEAR[reading.task],
        {
            "name": "boosting",
            "kind": f"sklearn.ensemble.HistGradientBoosting{ESTIMATORS[reading.task].capitalize()}",
            "params": {"learning_rate": 0.05, "max_iter": 300, "min_samples_leaf": 20},
        },
    ]


def _drift(reading: TableReading, rows: int) -> YamlTree:
    window = "week" if reading.period == "month" else reading.period
    return {"window": window, "min_labelled_rows": max(30, min(500, rows))}


def _label(reading: TableReading) -> str:
    """Return SQL of the label in `cases`: 0 and 1, or the column as it is."""
    if reading.task != "binary":
        return reading.label.value
    return f"({reading.label.sql}::varchar = {literal(_cast_text(reading, reading.positive))})::integer"


def _completion(reading: TableReading) -> YamlTree:
    """Return a shorter completion time for days, which the default of 24 hours would end with their first row."""
    hours = complete_within(reading.period)
    return {"complete_within_hours": hours} if hours != 24 and reading.time else {}


def _rows_band(reading: TableReading) -> YamlTree:
    """Return a band with a margin around the table's own periods, if the default one is too narrow."""
    least, most = reading.band
    low, high = round(min(0.5, 0.7 * least), 3), round(max(2.0, 1.4 * most), 1)
    return {} if (low, high) == (0.5, 2.0) else {"rows_band": {"low": max(low, 0.001), "high": high}}


def _suites(reading: TableReading) -> YamlTree:
    """Return checks: values of a binary label (others may get new ones), sparse columns, how numbers are written."""
    needed = {*reading.key, *([reading.time.name] if reading.time else [])}
    sparse = [name for name in reading.sparse if name not in needed]
    checks: list[YamlTree] = [{SOME_VALUE: {"column": name, "min_value": 0}} for name in sparse]
    # A number such as 12.5 among those with a decimal comma, or 12,5 among amounts, would be read as 125.
    checks += [
        {"expect_column_values_to_match_regex": {"column": column.name, "regex": rf"^\s*{column.number_form}\s*$"}}
        for column in reading.columns
        if column.number_form
    ]
    if reading.task == "binary":
        label_values = {"column": reading.label.name, "value_set": _label_values(reading)}
        checks.insert(0, {"expect_column_values_to_be_in_set": label_values})
    return {"table": checks} if checks else {}


def _margin(reading: TableReading, share: float) -> float:
    """Return a margin of the gate: for regression, the share of the label's mean deviation, in its units."""
    return float(f"{share * reading.spread:.2g}") if reading.task == "regression" else share


def is_feature(column: Column, reading: TableReading) -> bool:
    """Return whether a column is a feature: no role, not empty, and no text that identifies nearly every row."""
    is_identifier = column.is_text and column.distinct > reading.rows / 2 and not column.is_read
    roles = {reading.label.name, *reading.key}
    roles |= {column.name for column in (reading.time, reading.split and reading.split.column) if column}
    return bool(column.filled) and column.name not in roles and not is_identifier


def _feature(column: Column) -> str:
    """Return SQL of a feature in `cases`; a time becomes days, unless it keeps its name and is converted where used."""
    if column.moment and (column.formats or column.alias != column.name):
        return f"epoch({column.moment}) / 86400"
    return column.value


def _cast_text(reading: TableReading, positive: str) -> str:
    """Return the positive label as DuckDB prints it after a cast to the column's type."""
    if reading.label.type == "boolean":
        return str(positive.strip().lower() in ("true", "t", "yes", "y", "1")).lower()
    if reading.label.type in ("integer", "number"):
        number = float(positive)
        return str(int(number)) if reading.label.type == "integer" else str(number)
    return positive


def _label_values(reading: TableReading) -> list[Any]:
    if reading.label.type == "boolean":
        return [False, True]
    if reading.label.type == "integer":
        return [int(value) for value in reading.label.values]
    if reading.label.type == "number":
        return [float(value) for value in reading.label.values]
    return list(reading.label.values)
