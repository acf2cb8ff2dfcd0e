"""Measures how often the drift watch errs: generated streams through the real code; prints the table of docs/drift.md.

    python benchmarks/drift_error_rates.py [--streams 60] [--seed 0]

Each stream is a project of its own: 5,000 rows a day in 16 numeric and 4 categorical columns, each with day effects of
.05 standard deviations that last (AR(1), .5) and with a weekly season; labels come from a logistic model on some of
the columns, whose intercept and strength have such day effects too. The champion knows the true coefficients.
Its reference is 182 days, its backtest the last 28 of these and the 35 after them; then come 13 weeks in which nothing
happens, and, from the same point on, three weeks of each kind of change. Every week is sketched, judged and decided on
by the code and the default params that production uses, without a schedule of retrainings.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa

from feature_store.sketches import Layout, Sketch, count, make_layout
from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift import inputs, performance
from refit.drift.measures import ScoredRows
from refit.drift.retrain_decision import DriftEvidence, decide
from refit.schemas.drift_decision import DecisionPolicy, InputVerdict, PerformanceVerdict

ROWS, NUMBERS, CATEGORIES, NAMES = 5_000, 16, 4, 8
DAY_EFFECT, LASTING, SEASON = 0.05, 0.5, 0.1
COEFFICIENTS = np.array([0.8, 0.5, -0.4, 0.4, -0.3, 0.3])  # of the first columns
INTERCEPT = -1.75  # one label in five is 1
REFERENCE, BACKTEST, QUIET, CHANGED = 182, 63, 91, 21
TEST = 35  # days of the backtest that lie after the reference
START = date(2024, 1, 1)  # a Monday; weeks of the backtest and of what follows begin on one too
COLUMNS = tuple(f"number_{i}" for i in range(NUMBERS)) + tuple(f"category_{i}" for i in range(CATEGORIES))
DRIFT = DriftParams(retrain_every_days=None)
POLICY = DecisionPolicy.of(DRIFT, EvaluateParams())


@dataclass(frozen=True)
class Change:
    """What happens from one day on."""

    name: str
    column: int | None = None  # whose values are shifted
    by: float = 0.0
    odds: float = 0.0  # added to the log-odds of every label
    flipped: int | None = None  # coefficient whose sign changes
    retrain: str = "seldom"  # what is asked of it


NOTHING = Change("nothing")
CHANGES = (
    Change("one number shifted by .2 sd", column=NUMBERS - 1, by=0.2),
    Change("one category shifted by .2 sd", column=NUMBERS, by=0.2),
    Change("label rate .20 to .28", odds=0.6),
    Change("sign of a coefficient, inputs unchanged", flipped=1, retrain="90%"),
)


@dataclass(frozen=True)
class Rows:
    """A stretch of a stream, as Refit would see it."""

    table: pa.Table
    scored: ScoredRows


class Stream:
    """Draws rows of one project; the luck of its days is drawn once."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        days, effects = REFERENCE + TEST + QUIET, len(COLUMNS) + 2
        noise = self.random.normal(0, DAY_EFFECT, (days, effects))
        self.effects = np.empty_like(noise)
        self.effects[0] = noise[0]
        for day in range(1, days):
            self.effects[day] = LASTING * self.effects[day - 1] + np.sqrt(1 - LASTING**2) * noise[day]
        self.season = self.random.normal(0, SEASON, (7, len(COLUMNS)))
        self.cuts = np.sort(self.random.normal(0, 1, (CATEGORIES, NAMES - 1)), axis=1)

    def draw(self, first: int, days: int, change: Change = NOTHING) -> Rows:
        """`days` days from day `first` on."""
        day = np.repeat(np.arange(first, first + days), ROWS)
        x = self.random.standard_normal((len(day), len(COLUMNS)))
        x += (self.effects[:, : len(COLUMNS)] + self.season[np.arange(len(self.effects)) % 7])[day]
        if change.column is not None:
            x[:, change.column] += change.by
        truth = COEFFICIENTS.copy()
        if change.flipped is not None:
            truth[change.flipped] *= -1
        used = x[:, : len(truth)]
        strength, intercept = 1 + self.effects[day, -1], INTERCEPT + self.effects[day, -2] + change.odds
        label = (self.random.random(len(day)) < _sigmoid(intercept + strength * (used @ truth))).astype(float)
        dates = np.datetime64(START) + day
        cells: dict[str, object] = {"day": dates, "label": np.where(label == 1, "1", "0")}
        for place, name in enumerate(COLUMNS):
            cells[name] = x[:, place] if place < NUMBERS else self._names(x[:, place], place - NUMBERS)
        return Rows(pa.table(cells), ScoredRows(dates, _sigmoid(INTERCEPT + used @ COEFFICIENTS), label))

    def _names(self, latent: np.ndarray, category: int) -> pa.Array:
        codes = np.searchsorted(self.cuts[category], latent).astype(np.int8)
        return pa.DictionaryArray.from_arrays(codes, [f"name_{i}" for i in range(NAMES)])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


@dataclass(frozen=True)
class Model:
    """What is kept with a model version."""

    layout: Layout
    reference: Sketch
    backtest: performance.Backtest


def train(stream: Stream, connection: duckdb.DuckDBPyConnection) -> Model:
    reference = stream.draw(0, REFERENCE)
    after = stream.draw(REFERENCE, TEST)
    connection.register("reference", reference.table)
    layout = make_layout(connection, "reference", COLUMNS[:NUMBERS], (*COLUMNS[NUMBERS:], "label"))
    days = np.concatenate([reference.scored.days, after.scored.days])
    recent = days >= np.datetime64(START) + REFERENCE + TEST - BACKTEST
    rows = ScoredRows(
        days[recent],
        np.concatenate([reference.scored.predictions, after.scored.predictions])[recent],
        np.concatenate([reference.scored.labels, after.scored.labels])[recent],
    )
    backtest = performance.backtest(rows, POLICY)
    return Model(layout, count(connection, "reference", layout, "day"), backtest)


@dataclass(frozen=True)
class Watched:
    """One week: what was decided, and what was breached in this week alone."""

    verdict: str
    inputs: bool
    performance: bool


def watch(model: Model, rows: Rows, connection: duckdb.DuckDBPyConnection) -> Iterator[Watched]:
    """The decision after each week of `rows`, as a weekly drift watch would take it."""
    connection.register("current", rows.table)
    current = count(connection, "current", model.layout, "day")
    trained = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=REFERENCE + TEST)
    looked: list[InputVerdict] = []
    judged: list[PerformanceVerdict] = []
    retrained: list[datetime] = []
    weeks = performance.whole_windows(rows.scored.days, "week")
    for number, week in enumerate(weeks, start=1):
        looked.append(inputs.judge_window(model.reference, current, week, DRIFT))
        judged.append(performance.judge_window(model.backtest, rows.scored, week, POLICY))
        as_of = trained + timedelta(days=7 * number + 2)  # labels take two days
        evidence = DriftEvidence(
            as_of=as_of,
            trained_as_of=trained,
            new_labelled=7 * ROWS * number,
            windows=tuple(weeks[:number]),
            inputs=tuple(looked),
            performance=tuple(judged),
            lasting=performance.lasting_loss(model.backtest, judged, POLICY, weeks[:number]),
            retrained=tuple(retrained),
        )
        verdict = decide(evidence, DRIFT).verdict
        if verdict == "retrain":
            retrained.append(as_of)
        yield Watched(verdict, looked[-1].breached, judged[-1].breached)


def rate(counts: list[int]) -> str:
    """Events in 90 days, with the 95 % error of the simulation; streams, not weeks, are independent."""
    in_90_days = np.array(counts) * 90 / QUIET
    if not in_90_days.any():
        return f"0, below {3 / len(counts):.2f}"  # the rule of three
    return f"{in_90_days.mean():.2f} ± {1.96 * in_90_days.std(ddof=1) / math.sqrt(len(counts)):.2f}"


def share(hits: list[bool]) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    count, p, z = len(hits), sum(hits) / len(hits), 1.96
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    return f"{p:.0%} ({max(0.0, middle - reach):.0%} to {middle + reach:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began, connection = time.perf_counter(), duckdb.connect()
    quiet: list[list[Watched]] = []
    changed: dict[Change, list[list[Watched]]] = {change: [] for change in CHANGES}
    for seed in range(arguments.seed, arguments.seed + arguments.streams):
        stream = Stream(seed)
        model = train(stream, connection)
        quiet.append(list(watch(model, stream.draw(REFERENCE + TEST, QUIET), connection)))
        for change, seen in changed.items():
            seen.append(list(watch(model, stream.draw(REFERENCE + TEST, CHANGED, change), connection)))
    _print(quiet, changed)
    print(f"\n{arguments.streams} streams, {time.perf_counter() - began:.0f} s")


def _print(quiet: list[list[Watched]], changed: dict[Change, list[list[Watched]]]) -> None:
    print("| what happens | what is counted | asked | measured |")
    print("| --- | --- | --- | --- |")
    for verdict, asked in (("retrain", "at most 1"), ("warn", "at most 3")):
        print(f"| nothing | `{verdict}` in 90 days | {asked} | {rate(_count(quiet, 'verdict', verdict))} |")
    print(f"| nothing | weeks in 90 days with any column breached | | {rate(_count(quiet, 'inputs', True))} |")
    print(f"| nothing | weeks in 90 days with skill breached | | {rate(_count(quiet, 'performance', True))} |")
    for change, seen in changed.items():
        warned = [any(week.verdict != "ok" for week in weeks) for weeks in seen]
        retrained = [any(week.verdict == "retrain" for week in weeks) for weeks in seen]
        print(f"| {change.name} | `warn` or `retrain` within 3 weeks | 90% | {share(warned)} |")
        print(f"| {change.name} | `retrain` within 3 weeks | {change.retrain} | {share(retrained)} |")


def _count(streams: list[list[Watched]], field: str, value: object) -> list[int]:
    return [sum(getattr(week, field) == value for week in weeks) for weeks in streams]


if __name__ == "__main__":
    main()
