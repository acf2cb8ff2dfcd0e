"""The params section `train`: learners, folds, search spaces, thresholds, intervals and text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from refit.config.section import Days, Hours, Name, Rows, Section, Share, Unit, nearest
from refit.problems import is_kind, kind_of, kinds
from refit.problems.project_module import file_of

__all__ = [
    "Arguments",
    "CrossValidationParams",
    "IntervalParams",
    "LearnerParams",
    "SearchParams",
    "TextParams",
    "ThresholdParams",
    "TrainParams",
    "TuningParams",
    "file_of",
    "flat",
    "placed",
]

REGISTERED = re.compile(r"models:/([a-z][a-z0-9_]*)(?:@([a-z]+)|/([1-9][0-9]*))")  # model, alias or version
PACKAGED = re.compile(
    r"package:([A-Za-z_]\w*)/([\w-][\w.-]*(?:/[\w-][\w.-]*)*)"
)  # an installed package, a folder in it
Arguments = dict[str, Any]  # of an estimator, as params.yaml gives them
TextOrNumber = str | int | float | bool | None
Argument = Annotated[int | float, Unit("units of the argument")]


class CrossValidationParams(Section):
    """Folds of the training rows; each fold is scored by a fit on the other rows."""

    kind: Literal["kfold", "stratified", "shuffle", "group", "time", "rolling"] = Field(
        "stratified",
        description="shuffle: stratified draws of `share`; time: fits all that is earlier; rolling: a span of it",
    )
    folds: Annotated[int, Unit("folds")] = Field(5, ge=2, description="number of folds, or of draws")
    repeats: Annotated[int, Unit("repetitions")] = Field(
        1, ge=1, description="kfold, stratified: number of repetitions"
    )
    share: Share = Field(0.2, gt=0, lt=1, description="shuffle: share of the rows that each draw scores")
    group: str | None = Field(None, description="group: column whose equal values stay in one fold")
    gap_hours: Hours | None = Field(
        None, ge=0, description="time, rolling: between the rows fitted and those scored; default: the label's delay"
    )
    training_days: Days | None = Field(None, gt=0, description="rolling: length of the span that is fitted")

    @model_validator(mode="after")
    def _consistent(self) -> CrossValidationParams:
        for name, allowed in (
            ("group", {"group"}),
            ("training_days", {"rolling"}),
            ("gap_hours", {"time", "rolling"}),
        ):
            if getattr(self, name) is not None and self.kind not in allowed:
                raise ValueError(f"{name} is for kind {' or '.join(sorted(allowed))}, not {self.kind!r}")
        if self.kind == "group" and self.group is None:
            raise ValueError("kind 'group' needs `group`, the column whose equal values stay together")
        if self.kind == "rolling" and self.training_days is None:
            raise ValueError("kind 'rolling' needs `training_days`, the length of the span that is fitted")
        if self.repeats > 1 and self.kind not in ("kfold", "stratified"):
            raise ValueError(f"repeats is for kind kfold or stratified, not {self.kind!r}")
        return self


class SearchParams(Section):
    """The search space of an argument of a learner: a range or choices."""

    low: Argument | None = Field(None, description="least value of a range; whole numbers search whole numbers")
    high: Argument | None = Field(None, description="greatest value of a range")
    log: bool = Field(False, description="spread over orders of magnitude")
    step: Argument | None = Field(None, gt=0, description="distance of neighbouring values")
    choices: tuple[TextOrNumber | tuple[TextOrNumber, ...], ...] = Field(
        (), description="values to choose from, instead of a range"
    )
    when: dict[str, tuple[TextOrNumber, ...] | TextOrNumber] = Field(
        {}, description="only where other arguments, named above this one, have these values"
    )

    @model_validator(mode="after")
    def _consistent(self) -> SearchParams:
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("give either `low` and `high`, or `choices`")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low {self.low} is not below high {self.high}")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("a `log` range begins above 0 and has no `step`")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range contains whole numbers only."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def is_active(self, so_far: Mapping[str, object]) -> bool:
        """Whether this argument is searched, given the values of the others."""
        return all(
            so_far.get(name) in (values if isinstance(values, tuple) else (values,))
            for name, values in self.when.items()
        )


class TuningParams(Section):
    """The search for arguments, one study for each learner that has a `search`."""

    trials: Annotated[int, Unit("trials")] = Field(
        30, ge=1, description="for each learner; a grid takes as many as it has points"
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="what is tried next: tpe learns from earlier trials, grid tries every combination"
    )
    pruner: Literal["median", "halving", "none"] = Field(
        "median", description="stops trials that are behind after some folds (needs cross_validation) or epochs"
    )
    prune_after: Literal["fold", "epoch"] = Field(
        "fold", description="when the pruner compares; epoch: learners that train in epochs, after each one"
    )
    parallel: Annotated[int, Unit("trials")] = Field(
        1, ge=1, description="trials at once, each in a process; decides what is tried, so set it for all machines"
    )


class ThresholdParams(Section):
    """The probability from which a row is classified as 1, chosen on rows not used for fitting."""

    by: Literal["f1", "cost", "share", "fixed"] = Field(
        "f1", description="what the threshold is chosen for: best F1, least cost, a share of the rows; or a fixed one"
    )
    false_positive: Annotated[float, Unit("cost")] = Field(1, ge=0, description="cost: of calling a row 1 that is 0")
    false_negative: Annotated[float, Unit("cost")] = Field(1, ge=0, description="cost: of calling a row 0 that is 1")
    share: Share = Field(0.05, gt=0, lt=1, description="share: of the rows that can be looked at")
    value: Annotated[float, Unit("probability")] = Field(0.5, ge=0, le=1, description="fixed: the threshold itself")


class IntervalParams(Section):
    """Prediction intervals of numbers, which contain a share of the labels."""

    level: Share = Field(0.9, gt=0.5, lt=1, description="share of the labels that should lie within")
    by: Literal["residuals", "quantiles"] = Field(
        "residuals", description="residuals: as far above as below; quantiles: two more fits, so that width varies"
    )
    within: str | None = Field(
        None, description="a feature or column of featurize.keep: each of its values gets its own margin"
    )
    adaptive: bool = Field(
        False, description="the margin adapts to labels as they become known; where it is not given, true for forecasts"
    )
    rate: Annotated[float, Unit("step of the level per label")] = Field(
        0.02, gt=0, lt=1, description="adaptive: how much one label moves the level"
    )


def _first_problem(error: ValidationError, valid_names: Iterable[str]) -> str:
    """The address and the words of the first problem of some options."""
    detail = error.errors(include_url=False)[0]
    address = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    if detail["type"] == "missing":
        return f"{address}: is missing"
    if detail["type"] == "extra_forbidden":
        return f"{address}: unknown key{nearest(str(detail['loc'][-1]), valid_names)}"
    said = detail["msg"].removeprefix("Value error, ")
    return f"{address}: {said[0].lower()}{said[1:]}; found {detail['input']!r}"


class TextParams(Section):
    """How text features are converted to columns."""

    kind: str = Field("sklearn.feature_extraction.text.TfidfVectorizer", description="import path of a vectoriser")
    params: Arguments = Field(
        {"ngram_range": [1, 2], "max_features": 50_000}, description="its arguments; default: words and pairs of words"
    )
    components: Annotated[int, Unit("columns")] = Field(
        100, ge=2, description="numbers that a text becomes for learners that take no sparse rows"
    )


def flat(params: Mapping[str, object]) -> Arguments:
    """Arguments, with nested arguments under dotted names.

    >>> flat({"estimator": {"params": {"C": 2}}})["estimator.params.C"]
    2
    """
    arguments = dict(params)
    for name, value in params.items():
        if isinstance(value, Mapping):
            arguments |= {f"{name}.{inner}": each for inner, each in flat(value).items()}
    return arguments


def placed(params: Mapping[str, object], changes: Mapping[str, object]) -> Arguments:
    """Arguments with some values replaced; a dotted name is a nested argument.

    >>> placed({"kind": "Ridge", "params": {"alpha": 1}}, {"params.alpha": 2})
    {'kind': 'Ridge', 'params': {'alpha': 2}}
    """
    result = dict(params)
    for name, value in changes.items():
        outer, _, inner = name.partition(".")
        nested: Any = result.get(outer) or {}
        result[outer] = placed(nested, {inner: value}) if inner else value
    return result


class LearnerParams(Section):
    """One way of learning, which is compared with the others."""

    name: Name = Field(description="what reports call it")
    kind: str = Field(description="one of ours, an estimator's import path, or `file.py:Class` of the project")
    params: Arguments = Field({}, description="the estimator's arguments")
    search: dict[str, SearchParams] = Field(
        {}, description="arguments to tune, by name, with dots within others; see train.tuning"
    )
    text: TextParams | None = Field(None, description="as `train.text`, for this learner")
    exclude: tuple[str, ...] = Field((), description="features that this learner does not see, as shell patterns")
    enabled: bool = Field(True, description="false: it is not fitted")

    @model_validator(mode="after")
    def _in_order(self) -> LearnerParams:
        valid_names = set(flat(self.params))
        for name, space in self.search.items():
            for other in space.when:
                if other not in valid_names:
                    hint = nearest(other, valid_names)
                    raise ValueError(f"search.{name}.when: no argument {other!r} is set or searched above it{hint}")
            valid_names.add(name)
        return self


class TrainParams(Section):
    task: str = Field(
        "binary", description="the kind of label: 0 or 1, one of several texts, a number, or a future number"
    )
    metric: str = Field("roc_auc", description="metric for choosing learners; default by task: roc_auc, log_loss, mae")
    early_stopping_metric: str | None = Field(
        None,
        description="metric of validation rows that chooses the number of trees, epochs or steps of a learner; "
        "default: train.metric if it is a proper score or an error, else log_loss for classes, mae or rmse for numbers",
    )
    seed: Annotated[int, Unit("none: any whole number")] = Field(
        0, ge=0, lt=2**32, description="of everything random; another seed gives another model of the same rows"
    )
    seeds: Annotated[int, Unit("seeds")] = Field(
        1, ge=1, le=100, description="seeds for each learner, to tell merit from luck"
    )
    average: bool = Field(False, description="the candidate is the mean of the models of all seeds")
    warm_start: Literal["champion"] | None = Field(
        None,
        description="champion: continue from the champion with the rows that are new to it; default: from scratch",
    )
    start_from: str | None = Field(
        None,
        description="what networks start from: a registered version, `models:/NAME@champion` or `models:/NAME/3`, a "
        "folder that `refit export` wrote, or a Hugging Face folder, `package:NAME/FOLDER` if it lies in an installed "
        "package; default: random weights",
    )
    max_rows: Rows | None = Field(
        None, ge=20, description="rows of the training window to learn from, drawn by a hash of their keys"
    )
    cross_validation: CrossValidationParams | None = Field(
        None, description="folds of training and validation rows together; default: the validation window alone"
    )
    tuning: TuningParams = Field(TuningParams(), description="how arguments with a `search` are searched")
    calibration: Literal["sigmoid", "isotonic"] | None = Field(
        None,
        description="makes probabilities come true, learned from rows that the fit had not seen; of several classes "
        "sigmoid is one temperature, isotonic a curve for each class",
    )
    threshold: ThresholdParams = Field(ThresholdParams(), description="from which probability on a row is called 1")
    intervals: IntervalParams | None = Field(None, description="of numbers, from rows not used for fitting")
    text: TextParams = Field(TextParams(), description="how text features become columns")
    problem: dict[str, JsonValue] | None = Field(None, description="options of the kind of problem, if it has some")
    learners: tuple[LearnerParams, ...] = Field(
        min_length=1, description="what is tried; the best one is the candidate"
    )

    @model_validator(mode="after")
    def _forecasts_adapt(self) -> TrainParams:
        """Forecasts are made of series that change: their intervals follow the labels unless params say otherwise."""
        intervals = self.intervals
        if intervals and self.task == "forecast" and "adaptive" not in intervals.model_fields_set:
            self.__dict__["intervals"] = intervals.model_copy(update={"adaptive": True})
        return self

    @model_validator(mode="after")
    def _several(self) -> TrainParams:
        if self.average and self.seeds == 1:
            raise ValueError("average needs several seeds; set seeds to 5, or leave average out")
        if self.average and kind_of(self.task).parts:
            raise ValueError(f"predictions of task {self.task!r} have no mean over seeds; leave average out")
        if self.average and self.warm_start:
            raise ValueError(
                "an average of several seeds cannot go on from a champion; leave warm_start or average out"
            )
        if self.start_from is not None and self.warm_start:
            raise ValueError("a training starts from one model; leave warm_start or start_from out")
        if self.intervals and not kind_of(self.task).intervals:
            raise ValueError(f"intervals are for numbers; the task is {self.task!r}: leave them out")
        if self.intervals and self.intervals.by == "quantiles" and self.warm_start:
            raise ValueError("intervals by quantiles are fitted from nothing; set by: residuals, or warm_start: null")
        return self

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> TrainParams:
        options = kind_of(self.task).options_class
        if options is None:
            if self.problem is not None:
                raise ValueError(f"problem: task {self.task!r} has no options: leave it out")
            return self
        try:
            options.model_validate_json(json.dumps(self.problem or {}))
        except ValidationError as error:
            raise ValueError(f"problem{_first_problem(error, options.model_fields)}") from None
        return self

    @field_validator("start_from")
    @classmethod
    def _names_a_version_or_folder(cls, value: str | None) -> str | None:
        is_version = value is not None and (REGISTERED.fullmatch(value) or PACKAGED.fullmatch(value))
        if value is not None and (not value or (":" in value and not is_version)):
            raise ValueError(
                f"{value!r} names no version; write models:/NAME@champion, models:/NAME/3, a folder that "
                "`refit export` wrote, a Hugging Face folder, or package:NAME/FOLDER"
            )
        return value

    @field_validator("task")
    @classmethod
    def _exists(cls, value: str) -> str:
        if not is_kind(value):
            raise ValueError(f"there is no task {value!r}; there are {', '.join(kinds())}{nearest(value, kinds())}")
        return value

    @field_validator("learners")
    @classmethod
    def _distinct(cls, value: tuple[LearnerParams, ...]) -> tuple[LearnerParams, ...]:
        names = [learner.name for learner in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"learner names must differ; twice: {', '.join(twice)}")
        if not any(learner.enabled for learner in value):
            raise ValueError("no learner is enabled")
        return value
