"""Every section of `params.yaml`, typed, closed and bounded, because a typo in a threshold must never pass silently."""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.errors import UserError

STAGES = ("ingest", "validate", "featurize", "train", "evaluate", "register")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
SliceKey = Annotated[str, Field(pattern=r"^[^=]+(=.+)?$")]
P = TypeVar("P")
ColumnType = Literal["integer", "number", "text", "timestamp", "date", "boolean"]


class Section(BaseModel):
    """A part of the params file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ProjectParams(Section):
    name: Name = Field(description="the registered model's name")
    timezone: str = Field("UTC", description="IANA zone in which periods and dates are meant")

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"time zone {value!r} is unknown{nearest(value, available_timezones())}")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class EventParams(Section):
    """What one raw row tells, and when: an event source cut out of a raw source by SQL expressions."""

    available_at: str = Field(description="SQL over the raw columns and event_time: when we could first know it")
    where: str | None = Field(None, description="SQL condition on the raw row")
    columns: dict[Name, str] = Field(min_length=1, description="column name -> SQL expression over the raw columns")


class SourceParams(Section):
    kind: Literal["files", "package", "database"]
    path: str = Field(description="file or glob; in a package, the file inside it; or the database file")
    package: str | None = Field(None, description="kind package: the installed distribution's module name")
    query: str | None = Field(None, description="kind database: the SELECT to read")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="digest that the one file must have")
    format: Literal["csv", "parquet", "auto"] = "auto"
    delimiter: str = Field(",", min_length=1, max_length=1)
    nulls: tuple[str, ...] = Field(("", "NA"), description="texts that mean missing")
    columns: dict[str, ColumnType] = Field(min_length=1)
    required: tuple[str, ...] = Field((), description="columns that may not be missing")
    key: tuple[str, ...] = Field(min_length=1, description="columns that name a row")
    event_time: str | None = Field(None, description="SQL over the raw columns, in UTC; none: a static table")
    available_at: str | None = Field(None, description="SQL; none: event_time")
    events: dict[Name, EventParams] = Field({}, description="event sources cut from it; none: the source itself")

    @model_validator(mode="after")
    def _consistent(self) -> SourceParams:
        for role, names in (("key", self.key), ("required", self.required)):
            for column in names:
                if column not in self.columns:
                    raise ValueError(f"{role} column {column!r} is not declared{nearest(column, self.columns)}")
        if self.kind == "package" and not self.package:
            raise ValueError("kind 'package' needs `package`")
        if self.kind == "database" and not self.query:
            raise ValueError("kind 'database' needs `query`")
        if self.event_time is None and (self.events or self.available_at):
            raise ValueError("a static source (no event_time) has neither events nor available_at")
        return self


class IngestParams(Section):
    period: Literal["day", "week", "month"] = "month"
    complete_within_hours: float = Field(24, ge=0, description="a period is complete when rows reach this near its end")
    sources: dict[Name, SourceParams] = Field(min_length=1)


class RowsBand(Section):
    low: float = Field(0.5, gt=0, le=1, description="share of the recent mean below which a batch fails")
    high: float = Field(2.0, ge=1, description="multiple of the recent mean above which a batch fails")
    recent: int = Field(3, ge=1, description="batches that make the mean")


class ValidateParams(Section):
    rows_band: RowsBand = RowsBand()
    max_quarantined_share: float = Field(0.05, ge=0, le=1, description="more bad rows than this fail the batch")
    suites: dict[Name, tuple[dict[str, dict[str, Any]], ...]] = Field(
        {}, description="source -> expectations under Great Expectations' own names"
    )


class LabelParams(Section):
    source: Name
    column: str = Field(min_length=1)
    delay_hours: float = Field(48, ge=0, description="windows end at as_of less this")


class WindowParams(Section):
    """Lengths in periods (`ingest.period`), counted back from the end of the newest whole one."""

    test: int = Field(1, ge=1)
    validation: int = Field(1, ge=1)
    training: int | None = Field(None, ge=1, description="none: everything earlier")


class FeaturizeParams(Section):
    definitions: str | None = Field(
        None, description="module, or .py file in the project, that holds FEATURES; none: the columns as they are"
    )
    label: LabelParams
    windows: WindowParams = WindowParams()
    exclude: tuple[str, ...] = Field((), description="features to leave out, as shell patterns")


class LearnerParams(Section):
    name: Name
    kind: str = Field(description="import path of a scikit-learn-compatible estimator, or one of ours")
    params: dict[str, Any] = {}
    enabled: bool = True


class TrainParams(Section):
    task: Literal["binary"] = "binary"
    metric: Literal["roc_auc", "average_precision", "log_loss", "brier"] = "roc_auc"
    seed: int = Field(0, ge=0, lt=2**32)
    warm_start: Literal["champion"] | None = Field(
        None,
        description="champion: go on from the model in charge with the rows that are new to it; none: from nothing",
    )
    learners: tuple[LearnerParams, ...] = Field(min_length=1)

    @field_validator("learners")
    @classmethod
    def _distinct(cls, value: tuple[LearnerParams, ...]) -> tuple[LearnerParams, ...]:
        names = [learner.name for learner in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"learner names must differ; twice: {', '.join(twice)}")
        if not any(learner.enabled for learner in value):
            raise ValueError("no learner is enabled")
        return value


class GateParams(Section):
    mode: Literal["non_inferiority", "superiority"] = "non_inferiority"
    metric: Literal["roc_auc", "average_precision", "log_loss", "brier"] = "roc_auc"
    alpha: float = Field(0.05, gt=0, lt=0.5)
    max_loss: float = Field(0.005, ge=0, description="metric units that a successor may lose")
    min_gain: float = Field(0.0, ge=0, description="metric units that a superior model must gain")
    min_gain_over_baseline: float = Field(0.01, ge=0)
    min_rows: int = Field(2000, ge=1)
    cluster: str = Field("day", description="`day`, a feature's name, or `row` (rows taken as independent)")
    min_clusters: int = Field(20, ge=2)
    slices: dict[SliceKey, Annotated[float, Field(ge=0)]] = Field(
        {}, description="a column, or column=value -> metric units that a successor may lose there"
    )
    floors: dict[Literal["roc_auc", "average_precision", "accuracy", "f1", "error_reduction"], float] = {}
    ceilings: dict[
        Literal["log_loss", "brier", "calibration_error", "latency_ms", "model_mb", "cost_per_1000"], float
    ] = {}


class EvaluateParams(Section):
    slices: tuple[str, ...] = ()
    confidence: float = Field(0.95, gt=0.5, lt=1)
    permutation_rows: int = Field(5000, ge=0, description="test rows on which importance is measured; 0: not at all")
    gate: GateParams = GateParams()


class CostParams(Section):
    """What computing costs, to tell a model's predictions and its training in money."""

    cpu_hour: float = Field(0.05, gt=0, description="price of one CPU for an hour, in `currency`")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="ISO 4217 code; a name only, nothing is converted")


class RegisterParams(Section):
    golden_rows: int = Field(50, ge=1, le=10_000)
    golden_tolerance: float = Field(1e-6, ge=0, description="largest difference of a golden prediction")


class MinEffectParams(Section):
    """The least size of a change that matters; a smaller one is no drift, however sure it is."""

    psi: float = Field(0.1, ge=0, description="population stability index, in nats")
    wasserstein: float = Field(0.1, ge=0, description="Wasserstein distance, in standard deviations of the reference")
    jensen_shannon: float = Field(0.05, ge=0, le=1, description="Jensen-Shannon distance of categories, base 2")
    missing: float = Field(0.02, ge=0, le=1, description="change of the share of missing values")
    unseen: float = Field(0.02, ge=0, le=1, description="share of categories that the reference never had")


class DriftParams(Section):
    """What is watched between two trainings, and what asks for the next one."""

    window: Literal["day", "week", "month"] = Field("week", description="length of a window; weeks begin on Monday")
    windows: int = Field(3, ge=1, description="newest windows that are looked at together")
    breached: int = Field(2, ge=1, description="of these, how many must show a loss or drift, the newest among them")
    retrain_on: tuple[Literal["performance", "schedule", "input"], ...] = Field(
        ("performance", "schedule"), description="what may ask for a retraining; anything else warns at most"
    )
    retrain_every_days: float | None = Field(30, gt=0, description="`schedule`: age of the newest version; none: never")
    cooldown_days: float = Field(7, ge=0, description="time that lies between two decisions to retrain")
    min_new_labelled_rows: int = Field(500, ge=1, description="rows labelled since the newest training")
    monthly_budget: int = Field(4, ge=1, description="decisions to retrain within 30 days")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance that a window counts as worse though nothing changed")
    min_skill_loss: float = Field(0.02, ge=0, description="skill units; a smaller loss asks for nothing")
    min_labelled_rows: int = Field(500, ge=1, description="labelled rows that a window needs to be judged")
    min_reference_windows: int = Field(8, ge=2, description="windows needed to tell a change from chance")
    false_discovery: float = Field(0.05, gt=0, lt=0.5, description="share of false ones among drifted columns")
    min_effect: MinEffectParams = MinEffectParams()
    multivariate_rows: int = Field(
        2000, ge=0, description="rows of then and of now that a classifier tells apart; 0: not at all"
    )

    @model_validator(mode="after")
    def _reachable(self) -> DriftParams:
        if self.breached > self.windows:
            raise ValueError(
                f"breached is {self.breached} of {self.windows} windows; at most {self.windows} is possible"
            )
        if 0 < self.multivariate_rows < 30:
            raise ValueError(
                f"multivariate_rows is {self.multivariate_rows}; at least 30 tell anything, 0 asks nothing"
            )
        return self

    def policy(self, kind: type[P], **others: Any) -> P:
        """One of drift's policies, from the keys of this section that it has fields for, and `others`."""
        return kind(**self.model_dump(include=set(signature(kind).parameters)), **others)


class RegistryParams(Section):
    tracking_uri: str | None = Field(None, description="none: SQLite in the project's .refit folder")
    trusted_types: tuple[str, ...] = Field(
        (), description="types that a stored scikit-learn model may hold besides ours"
    )


class RetentionParams(Section):
    """What `refit gc` may delete. What is, was or may next be in charge stays all the same; none: for ever."""

    versions: int | None = Field(10, ge=1, description="newest versions kept besides those in charge or lately so")
    runs_days: float | None = Field(30, ge=1, description="age from which a run that no version came of may go")
    predictions_days: float | None = Field(None, ge=0, description="days of the prediction log, back from its newest")
    decisions_days: float | None = Field(
        None, ge=30, description="decisions on drift, back from the newest; 30 days of them limit retrainings"
    )
    quarantine_days: float | None = Field(
        None, ge=0, description="refused rows of batches that are in the snapshot no more, by age of the file"
    )
    cache: bool = Field(True, description="DVC's cache: what no commit, kept version or present stage refers to may go")


class Params(Section):
    project: ProjectParams
    ingest: IngestParams
    validate_: ValidateParams = Field(ValidateParams(), alias="validate")
    featurize: FeaturizeParams
    train: TrainParams
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    registry: RegistryParams = RegistryParams()
    drift: DriftParams = DriftParams()
    cost: CostParams = CostParams()
    retention: RetentionParams = RetentionParams()


def nearest(word: str, known: Any) -> str:
    """`; did you mean X?`, or nothing where no known word is near."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def parse(raw: Mapping[str, Any], *, name: str = "params.yaml") -> Params:
    """Check a whole params mapping.

    Raises:
        UserError: one line for each problem, all of them at once.

    >>> parse({"project": {"name": "demo", "timezone": "Europe/Pariss"}})
    Traceback (most recent call last):
    ...
    tasks.errors.UserError: params.yaml has 4 problems:
      project.timezone: time zone 'Europe/Pariss' is unknown; did you mean 'Europe/Paris'?
      ingest: is missing
      featurize: is missing
      train: is missing
    """
    problems = list(_not_finite(raw))
    if not problems:
        try:
            # JSON mode keeps strictness (no "3" for 3) and still takes a list where we hold a tuple.
            return Params.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            details = error.errors(include_url=False)
            within = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
            # A list whose items failed is also reported as too short; the items say it better.
            problems = [_in_words(dict(detail)) for detail in details if detail["loc"] not in within]
    if len(problems) == 1:
        raise UserError(f"{name}: {problems[0]}")
    raise UserError("\n  ".join([f"{name} has {len(problems)} problems:", *problems]))


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a finite number"


def _in_words(detail: dict[str, Any]) -> str:
    location = [part for part in detail["loc"] if part != "[key]"]
    path = re.sub(r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in location))
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if detail["type"] == "missing":
        return f"{path}: is missing"
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] == "value_error" or isinstance(detail["input"], dict | list):
        return f"{path}: {message}"
    return f"{path}: {message}; found {detail['input']!r}"


def _known_keys(location: list[str | int]) -> list[str]:
    """The keys that the section at `location` may have."""
    kind: Any = Params
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = fields.get(str(part))
        else:
            kind = next((a for a in reversed(get_args(kind)) if a is not ...), None)
        while not isinstance(kind, type) and get_args(kind) and get_origin(kind) not in (dict, tuple):
            kind = get_args(kind)[0]
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def override(raw: Mapping[str, Any], assignments: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with `section.key=value` assignments applied; list items go by position or name. No argument is changed.

    Raises:
        UserError: the path leads through something that is no section, or to a list item that is not there.

    >>> override({"train": {"seed": 0}}, {"train.seed": 3})
    {'train': {'seed': 3}}
    """
    result: dict[str, Any] = copy.deepcopy(dict(raw))
    for path, value in assignments.items():
        *parents, last = path.split(".")
        target: Any = result
        for parent in parents:
            if isinstance(target, list):
                target = target[_position(target, parent, path)]
            elif isinstance(target, dict):
                target = target.setdefault(parent, {})
        if isinstance(target, list):
            target[_position(target, last, path)] = value
        elif isinstance(target, dict):
            target[last] = value
        else:
            raise UserError(f"--set {path}: {'.'.join(parents)} holds {target!r}, which has no keys")
    return result


def _position(items: list[Any], wanted: str, path: str) -> int:
    names = [str(item.get("name", "")) if isinstance(item, dict) else "" for item in items]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdigit() and int(wanted) < len(items):
        return int(wanted)
    raise UserError(f"--set {path}: no item {wanted!r}; there are {', '.join(filter(None, names)) or len(items)}")
