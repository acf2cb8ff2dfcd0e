"""`refit init`: a folder that runs at once, from the user's own CSV or from a small generated one."""

from __future__ import annotations

import random
import shlex
import shutil
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import typer
import yaml

from flows.deployments import PREFECT_YAML, prefect_yaml
from flows.session import prepare
from flows.table_reading import NULLS, Column, TableReading, read_table
from registry.metrics import DEFAULTS
from tasks import memory
from tasks.artifacts import atomic
from tasks.errors import UserError
from tasks.params import STAGES, parse

LOGISTIC = {"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 500}}
LINEAR: Mapping[str, Any] = {
    "binary": LOGISTIC,
    "multiclass": LOGISTIC,
    "regression": {"name": "ridge", "kind": "sklearn.linear_model.Ridge", "params": {"alpha": 1.0}},
}
SORTS = {"binary": "classifier", "multiclass": "classifier", "regression": "regressor"}
IGNORED = ".refit/\nrun.yaml\ncomparand.json\nwarm_start.json\n/data/\n/models/\n/reports/\n/dvc_plots/\n"
EXAMPLE = "subscriptions.csv"


def create(folder: Path, *, csv: Path | None, time: str | None, label: str | None, key: tuple[str, ...]) -> None:
    """Make a project in `folder`; nothing is written before the table is understood.

    Raises:
        UserError: the folder holds a project already, or the table leaves a role open.
    """
    if (folder / "params.yaml").exists():
        raise UserError(f"{folder} holds a project already (params.yaml); name another folder, or edit that file")
    if csv is not None:
        reading, table = read_table(csv, key=key, time=time, label=label), csv.name
    else:
        table = EXAMPLE
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; name a folder that you may write to") from None
    with atomic(folder / "raw" / table) as scratch:
        if csv is not None:
            shutil.copyfile(csv, scratch)
        else:
            scratch.write_text("\n".join(_subscriptions()) + "\n")
    if csv is None:
        reading = read_table(folder / "raw" / table, key=("subscription",), time="renewal", label="churned")
    name = _project_name(folder)
    params = _params(name, reading)
    parse(params)
    _write(folder / "params.yaml", _commented(params, reading, generated=csv is None))
    _write(folder / "dvc.yaml", _DVC_HEAD + yaml.safe_dump({"stages": pipeline(("raw",))}, sort_keys=False, width=110))
    _write(folder / PREFECT_YAML, prefect_yaml(name, params["project"]["timezone"]))
    _write(folder / ".gitignore", IGNORED)
    _write(folder / "README.md", _readme(name, table, reading, generated=csv is None))
    memory.initialise(folder)
    prepare(folder)
    _tell(folder, table, reading)


_CANDIDATE = ("models/candidate", "models/training.json")


def pipeline(raw: tuple[str, ...]) -> dict[str, Any]:
    """The six stages of a project outside the repository: code enters as a digest in run.yaml, not as files."""
    deps: dict[str, list[str]] = {
        "ingest": list(raw),
        "validate": ["data/snapshot.json", "released.json"],
        "featurize": ["data/validated.json"],
        "train": ["data/features", "warm_start.json"],
        "evaluate": ["data/validated.json", "data/features", *_CANDIDATE, "comparand.json"],
        "register": [*_CANDIDATE, "reports/decision.json", "reports/evaluation.json"],
    }
    sections = {
        "ingest": ("project", "ingest", "featurize.label"),
        "validate": ("project", "validate", "ingest"),
        "featurize": ("project", "featurize", "ingest"),
        "train": ("train", "featurize.label", "registry.trusted_types"),
        "evaluate": ("project", "evaluate", "train.seed", "registry", "cost"),
        "register": ("project", "register", "registry"),
    }
    outs: dict[str, list[Any]] = {
        "ingest": [{"data/batches": {"persist": True}}, "data/snapshot.json"],
        "validate": [
            *({path: {"persist": True}} for path in ("data/validation", "data/quarantine", "reports/data_docs")),
            "data/validated.json",
        ],
        "featurize": ["data/features"],
        "train": ["models/candidate", "models/training.json"],
        "evaluate": [
            f"reports/{name}"
            for name in ("evaluation.json", "decision.json", "model_card.html", "predictions.parquet", "figures")
        ],
        "register": [{"models/receipt.json": {"persist": True}}],
    }
    stages: dict[str, Any] = {}
    for stage in STAGES:
        own = dict.fromkeys(f"overrides.{section.partition('.')[0]}" for section in sections[stage])
        run = [*{"ingest": ["as_of"], "featurize": ["task"]}.get(stage, []), f"code.{stage}", *own]
        stages[stage] = {
            "cmd": f"refit stage {stage}",
            "deps": deps[stage],
            "params": [*sections[stage], {"run.yaml": run}],
            "outs": outs[stage],
        }
    stages["evaluate"] |= {"metrics": ["reports/metrics.json"], "plots": ["reports/plots"]}
    return stages


def _params(name: str, reading: TableReading) -> dict[str, Any]:
    columns = {column.alias: _feature(column) for column in reading.columns if _is_feature(column, reading)}
    columns[reading.label.alias] = _label(reading)
    few = reading.days_per_period < 20
    test_rows = reading.rows_per_period
    weekly = test_rows * 7 // 30 if reading.period == "month" else test_rows
    return {
        "project": {"name": name, "timezone": "UTC"},
        "ingest": {
            "period": reading.period,
            "sources": {
                "table": {
                    "kind": "files",
                    "path": "raw/*.csv",
                    "delimiter": reading.delimiter,
                    "nulls": list(NULLS),
                    "columns": {column.name: column.type for column in reading.columns},
                    "required": list(dict.fromkeys([*reading.key, reading.time.name])),
                    "key": list(reading.key),
                    "event_time": reading.time.sql,
                    "events": {"cases": {"available_at": "event_time", "columns": columns}},
                }
            },
        },
        "validate": {"suites": _suites(reading)},
        "featurize": {
            "definitions": None,
            "label": {"source": "cases", "column": reading.label.alias, "delay_hours": 0},
            "windows": {"test": 1, "validation": 1, "training": None},
        },
        "train": {
            "task": reading.task,
            "metric": DEFAULTS[reading.task],
            "seed": 0,
            "learners": [
                {"name": "base_rate", "kind": "baseline"},
                LINEAR[reading.task],
                {
                    "name": "boosting",
                    "kind": f"sklearn.ensemble.HistGradientBoosting{SORTS[reading.task].capitalize()}",
                    "params": {"learning_rate": 0.05, "max_iter": 300, "min_samples_leaf": 20},
                },
            ],
        },
        "evaluate": {
            "gate": {
                "mode": "non_inferiority",
                "max_loss": _margin(reading, 0.01),
                "min_gain_over_baseline": _margin(reading, 0.02),
                "min_rows": max(50, min(2000, test_rows // 2)),
                "cluster": "row" if few else "day",
            }
        },
        "register": {"golden_rows": 50},
        "drift": {
            "window": "week" if reading.period == "month" else reading.period,
            "min_labelled_rows": max(30, min(500, weekly // 2)),
        },
        "registry": {"tracking_uri": None, "trusted_types": []},
        "cost": {"cpu_hour": 0.05, "currency": "USD"},
    }


def _label(reading: TableReading) -> str:
    """SQL of the label in `cases`: 0 and 1, or the column as it is."""
    if reading.task != "binary":
        return reading.label.sql
    positive = reading.positive.replace("'", "''")
    return f"({reading.label.sql}::varchar = '{_cast_text(reading, positive)}')::integer"


def _suites(reading: TableReading) -> dict[str, Any]:
    """What a label has to be, where there are just two values; others may meet new ones."""
    if reading.task != "binary":
        return {}
    known = {"column": reading.label.name, "value_set": _label_values(reading)}
    return {"table": [{"expect_column_values_to_be_in_set": known}]}


def _margin(reading: TableReading, share: float) -> float:
    """A share of what the best guess for everyone is off by, for errors in the label's units."""
    return float(f"{share * reading.spread:.2g}") if reading.task == "regression" else share


def _is_feature(column: Column, reading: TableReading) -> bool:
    """Not the roles; nor a text that is another for nearly every row, such as a name or an address."""
    names_rows = column.type == "text" and column.distinct > reading.rows / 2
    return column not in (reading.label, reading.time) and column.name not in reading.key and not names_rows


def _feature(column: Column) -> str:
    return f"epoch({column.sql}) / 86400" if column.type in ("date", "timestamp") else column.sql


def _cast_text(reading: TableReading, positive: str) -> str:
    """The positive label as DuckDB prints it once it is cast to the column's type."""
    if reading.label.type == "boolean":
        return "true"
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


def _project_name(folder: Path) -> str:
    letters = "".join(mark if mark.isalnum() and mark.isascii() else "_" for mark in folder.resolve().name.lower())
    return letters.strip("_") if letters.strip("_")[:1].isalpha() else f"p_{letters.strip('_')}".rstrip("_")


_DVC_HEAD = "# The six stages: `refit run` runs them inside DVC; `dvc repro` and `dvc exp run` run the same commands.\n"

_COMMENTS: Mapping[str, str] = {
    "ingest": "Where rows come from. Every file that matches `path` is read; drop the next beside it and run again.",
    "validate": "What a batch must fulfil, under Great Expectations' own names; rows that do not go to quarantine.",
    "featurize": "What is learned from: the columns of `cases` as they are. Features over time: docs/features.md.",
    "train": "What is tried: any scikit-learn-compatible estimator by import path. Scored on the validation window.",
    "evaluate": "What it takes for a new model to take charge.",
    "cost": "The price of a CPU hour, to tell trainings and predictions in money.",
    "drift": "What is watched between two trainings: `refit drift`.",
}


def _commented(params: dict[str, Any], reading: TableReading, *, generated: bool) -> str:
    parts = ["# What this project learns, and what it takes for one of its models to take charge.\n"]
    if generated:
        parts.append("# The table in raw/ is GENERATED, to have something that runs; no score on it means anything.\n")
    for section, content in params.items():
        if section in _COMMENTS:
            parts.append(f"\n# {_COMMENTS[section]}\n")
        parts.append(yaml.safe_dump({section: content}, sort_keys=False, width=110, allow_unicode=True))
    if reading.days_per_period < 20:
        parts.append(
            "# `cluster: row`: the test window has fewer than 20 days, so rows are taken as independent.\n"
            "# Name a column to cluster by if rows belong together (a customer, a machine).\n"
        )
    return "".join(parts)


def _readme(name: str, table: str, reading: TableReading, *, generated: bool) -> str:
    origin = "a generated table, only there to have something that runs" if generated else f"`raw/{table}`"
    return f"""# {name}

Predicts `{reading.label.name}` ({_kind(reading)}) from {origin}:
{reading.rows:,} rows, in batches of a {reading.period} of `{reading.time.name}`.

    refit run        # six stages, then a summary; again: unchanged
    refit show       # who is in charge, and why
    refit status     # what would run now
    refit up         # by itself from now on: prefect.yaml says what and when

- More data: put the next file beside it in `raw/` and `refit run`.
- Other learners, another gate: edit `params.yaml`; unknown keys are errors that name the nearest known one.
- `dvc repro`, `dvc exp run -S train.seed=1` and `dvc metrics show` work here too; they never change who is in charge.
"""


def _kind(reading: TableReading) -> str:
    """What is predicted of the label, for people."""
    amounts = "; train.task: regression if they are amounts" if reading.label.type in ("integer", "number") else ""
    classes = f"one of {reading.label.distinct} classes{amounts}"
    told = {"binary": f"1 = {reading.positive!r}", "multiclass": classes, "regression": "a number"}
    return told[reading.task]


def _write(path: Path, text: str) -> None:
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _tell(folder: Path, table: str, reading: TableReading) -> None:
    typer.echo(f"{folder}: a project that predicts `{reading.label.name}` ({_kind(reading)})")
    typer.echo(f"  rows    {reading.rows:,} of raw/{table}, by {reading.period} of `{reading.time.name}`")
    typer.echo(f"  key     {', '.join(reading.key)}")
    roles = {reading.label.name, reading.time.name, *reading.key}
    if unused := [c.name for c in reading.columns if c.name not in roles and not _is_feature(c, reading)]:
        typer.echo(
            f"  left    {', '.join(unused)}: a different text in nearly every row; to learn from its words, add it to"
        )
        typer.echo("          the columns of `cases` in params.yaml, and to featurize.text")
    for column in (c for c in reading.columns if c.percent):
        number = f"try_cast(replace({column.sql}, '%', '') as double)"
        typer.echo(f"  text    {column.name}: its % signs make it text; as a column of `cases`, {number} is the number")
    typer.echo("  known   each label with its row; if it comes later, set featurize.label.delay_hours in params.yaml")
    typer.echo(f"  next    cd {shlex.quote(str(folder))} && refit run")


def _subscriptions() -> Iterator[str]:
    """Ten months of made-up renewals in which price, support calls and idleness drive who leaves."""
    chance = random.Random(20130101)
    yield "subscription,renewal,plan,country,tenure_months,monthly_price,support_calls,logins,churned"
    day, number = date(2024, 1, 1), 0
    while day < date(2024, 11, 1):
        for _ in range(chance.randint(22, 34)):
            number += 1
            plan = chance.choice(("basic", "basic", "plus", "pro"))
            country = chance.choice(("DE", "FR", "PL", "US", "US"))
            tenure = int(chance.expovariate(1 / 14)) + 1
            price = round({"basic": 9.0, "plus": 19.0, "pro": 49.0}[plan] * chance.uniform(0.8, 1.2), 2)
            calls, logins = int(chance.expovariate(1 / 1.2)), int(chance.expovariate(1 / 12))
            odds = -1.3 + 0.45 * calls - 0.06 * logins - 0.03 * tenure + 0.02 * price + chance.gauss(0, 0.6)
            churned = "yes" if odds > 0 else "no"
            yield f"S{number:05d},{day},{plan},{country},{tenure},{price},{calls},{logins},{churned}"
        day += timedelta(days=1)
