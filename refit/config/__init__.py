"""Typed, closed and bounded sections of `params.yaml`, so that a typo in a threshold never passes silently."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from refit.config.behaviour import behaviour_problems
from refit.config.column_types import ColumnType
from refit.config.cost import CostParams
from refit.config.drift import DriftParams
from refit.config.evaluate import EvaluateParams, GateParams
from refit.config.featurize import FeaturizeParams, LabelParams, SplitParams
from refit.config.forecasting import ForecastParams, with_queries
from refit.config.ingest import IngestParams, SourceParams
from refit.config.metric_choice import metric_problems, with_metrics
from refit.config.notify import NotifyParams
from refit.config.project import ProjectParams
from refit.config.register import RegisterParams
from refit.config.registry import RegistryParams
from refit.config.resources import ResourcesParams
from refit.config.retention import RetentionParams
from refit.config.section import Section, expected, nearest
from refit.config.sinks import SinkParams
from refit.config.train import TrainParams, file_of
from refit.config.validate import ValidateParams
from refit.errors import UserError
from refit.files.yaml_files import YamlTree
from refit.problems import kind_of

__all__ = [
    "STAGES",
    "ColumnType",
    "CostParams",
    "DriftParams",
    "ForecastParams",
    "GateParams",
    "IngestParams",
    "LabelParams",
    "Params",
    "RetentionParams",
    "SourceParams",
    "SplitParams",
    "ValidateParams",
    "default_of",
    "defaults",
    "file_of",
    "nearest",
    "override",
    "parse",
]

STAGES = ("ingest", "validate", "featurize", "train", "evaluate", "register")


class Params(Section):
    """All that a project says of itself: its data, its learners, and what it takes to become champion."""

    project: ProjectParams = Field(description="the project's name and time zone")
    ingest: IngestParams = Field(description="where rows come from, and how they are cut into batches")
    validate_: ValidateParams = Field(
        ValidateParams(), alias="validate", description="what a batch must fulfil; bad rows go to quarantine"
    )
    featurize: FeaturizeParams = Field(description="features, the label, and the windows of rows")
    train: TrainParams = Field(description="the kind of problem, the learners, and how they are fitted and compared")
    evaluate: EvaluateParams = Field(EvaluateParams(), description="what is measured on the test rows, and the gate")
    register_: RegisterParams = Field(
        RegisterParams(), alias="register", description="how a stored version is checked against the fitted model"
    )
    registry: RegistryParams = Field(RegistryParams(), description="where versions are stored, and who signs them")
    drift: DriftParams = Field(DriftParams(), description="what is monitored, and what triggers a retraining")
    cost: CostParams = Field(CostParams(), description="prices, to express trainings and predictions in money")
    retention: RetentionParams = Field(RetentionParams(), description="what `refit gc` may delete")
    resources: ResourcesParams = Field(ResourcesParams(), description="what a stage may use of the machine")
    sinks: tuple[SinkParams, ...] = Field(
        (), description="where predictions go, in addition to the files of this project"
    )
    notify: tuple[NotifyParams, ...] = Field((), description="who hears of promotions, refusals, drift and failures")

    @model_validator(mode="after")
    def _comparable(self) -> Params:
        if (split := self.featurize.split) and not split.validation and self.train.cross_validation is None:
            raise ValueError(
                "featurize.split.validation is 0, and nothing else is left to compare learners on: "
                "give it a share, or set train.cross_validation"
            )
        kind, column = kind_of(self.train.task), self.featurize.label.column
        if kind.labelled != (column is not None) and not kind.optional_label:
            what = "has labels: name the column" if self.featurize.label.column is None else "has none: leave it out"
            raise ValueError(f"featurize.label.column: task {self.train.task!r} {what}")
        made = [name for name, source in self.ingest.sources.items() if source.forecast]
        if (self.train.task == "forecast") != (len(made) == 1):
            raise ValueError(
                "train.task 'forecast' and one source of kind 'forecasts' belong together; "
                f"the task is {self.train.task!r}, such sources are {', '.join(made) or 'none'}"
            )
        if self.featurize.split and self.featurize.label.keep_late:
            raise ValueError(
                "featurize.label.keep_late: no row is late where featurize.split draws windows: leave it out"
            )
        if made and self.featurize.split:
            raise ValueError("featurize.split: forecasts are judged on what comes later; leave it out")
        by_section = {"train": self.train.cross_validation, "evaluate": self.evaluate.cross_validation}
        for section, folds in by_section.items():
            if made and folds and folds.kind not in ("time", "rolling"):
                raise ValueError(
                    f"{section}.cross_validation.kind {folds.kind!r} lets forecasts learn from what came later; "
                    "use time or rolling"
                )
        if self.train.calibration and not kind_of(self.train.task).probabilities:
            raise ValueError(
                "train.calibration is for tasks 'binary' and 'multiclass'; "
                f"the task is {self.train.task!r}: leave it out"
            )
        if self.featurize.split and self.train.intervals and self.train.intervals.adaptive:
            raise ValueError(
                "train.intervals.adaptive needs windows of time, featurize.split draws rows by chance: leave one out"
            )
        return self

    @property
    def task(self) -> str:
        """The kind of labels and predictions; a forecast is a regression."""
        return kind_of(self.train.task).task

    @property
    def forecast(self) -> ForecastParams | None:
        """The forecasts to make; None for any other task."""
        return self.ingest.sources[name].forecast if (name := self.forecast_source) else None

    @property
    def forecast_source(self) -> str:
        """The source whose rows are the forecasts to make; empty for any other task."""
        return next((name for name, source in self.ingest.sources.items() if source.forecast), "")


def default_of(section: str, key: str = "") -> str | None:
    """The default of a section, or of a key in it, as written in YAML; None if there is none.

    >>> default_of("validate"), default_of("train", "seed"), default_of("train")
    ('{}', '0', None)
    """
    fields = {field.alias or name: field for name, field in Params.model_fields.items()}
    field = fields.get(section)
    if field is None:
        return None
    if not key:
        return None if field.is_required() else "{}"
    kind = field.annotation
    inner = kind.model_fields.get(key) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return None if inner is None or inner.is_required() else json.dumps(inner.get_default(call_default_factory=True))


def defaults(section: str) -> dict[str, object]:
    """Every default of a section, or of a key in it, and of nested sections, by the name of their class.

    >>> defaults("validate")["RowsBand"]
    {'low': 0.5, 'high': 2.0, 'recent': 3}
    >>> defaults("train.seed"), defaults("evaluate.explain")
    ({'TrainParams': {'seed': 0}}, {'ExplainParams': {'rows': 300, 'features': 6}})
    """
    *parents, last = section.split(".")
    kind: Any = Params
    for name in [*parents, last]:
        outer = kind
        field = next(field for field_name, field in outer.model_fields.items() if (field.alias or field_name) == name)
        kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, Section):
        schema = kind.model_json_schema()
    else:
        stated = {} if field.is_required() else {"default": field.get_default(call_default_factory=True)}
        kind, schema = outer, {"properties": {last: stated}}
    parts = {kind.__name__: schema, **schema.get("$defs", {})}
    return {
        name: {key: each["default"] for key, each in part.get("properties", {}).items() if "default" in each}
        for name, part in parts.items()
    }


def parse(raw: YamlTree, *, name: str = "params.yaml", also: Sequence[str] = ()) -> Params:
    """Check a whole params mapping and convert it to `Params`.

    Args:
        also: problems found elsewhere, to report together with those found here.

    Raises:
        UserError: the params are invalid; one line for each problem.

    >>> parse({"project": {"name": "demo", "timezone": "Europe/Pariss"}})
    Traceback (most recent call last):
    ...
    refit.errors.UserError: params.yaml has 4 problems:
      project.timezone: time zone 'Europe/Pariss' is unknown; did you mean 'Europe/Paris'?
      ingest: is missing
      featurize: is missing
      train: is missing
    """
    problems = list(_not_finite(raw))
    if not problems:
        try:
            # JSON mode is strict (no "3" for 3) but still accepts a list for a tuple.
            params = Params.model_validate_json(json.dumps(with_metrics(with_queries(raw))))
            problems = list(metric_problems(params.train, params.evaluate.gate))
            problems += behaviour_problems(params.evaluate.behaviour, params.train.task)
            if not problems and not also:
                return params
        except ValidationError as error:
            details = error.errors(include_url=False)
            within = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
            # A list with invalid items is also reported as too short; the problems of the items are enough.
            problems = [_format_problem(detail) for detail in details if detail["loc"] not in within]
    problems += also
    if len(problems) == 1:
        raise UserError(f"{name}: {problems[0]}")
    raise UserError(f"{name} has {len(problems)} problems:", *problems)


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a finite number"


def _format_problem(detail: ErrorDetails) -> str:
    location = [part for part in detail["loc"] if part != "[key]"]
    path = re.sub(r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in location))
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if detail["type"] == "missing":
        return f"{path}: is missing"
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] == "string_pattern_mismatch":
        message = expected(detail["ctx"]["pattern"])
    if not path:
        return message
    if detail["type"] == "value_error" or isinstance(detail["input"], dict | list):
        return f"{path}: {message}"
    near = nearest(str(detail["input"]), re.findall("'([^']*)'", message)) if detail["type"] == "literal_error" else ""
    return f"{path}: {message}; found {detail['input']!r}{near}"


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


def override(raw: YamlTree, assignments: Mapping[str, object]) -> YamlTree:
    """Return `raw` with `section.key=value` assignments applied; list items are addressed by position or name.

    Raises:
        UserError: the path leads through a value that is not a section, or to a list item that does not exist.

    >>> override({"train": {"seed": 0}}, {"train.seed": 3})
    {'train': {'seed': 3}}
    >>> override({"changes": "snapshot"}, {"changes.max_deleted_share": 1})
    {'changes': {'kind': 'snapshot', 'max_deleted_share': 1}}
    """
    result = copy.deepcopy(raw)
    for path, value in assignments.items():
        *parents, last = path.split(".")
        target: Any = result
        for parent in parents:
            if isinstance(target, list):
                target = target[_position(target, parent, path)]
            elif isinstance(target, dict):
                if parent == "changes" and isinstance(short := target.get(parent), str):  # its kind alone
                    target[parent] = {"kind": short}
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
