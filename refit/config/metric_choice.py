"""Defaults and checks for the metrics of `train` and `evaluate`, which must agree with each other and the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refit.config.evaluate import GateParams
from refit.config.section import nearest
from refit.config.train import TrainParams
from refit.files.yaml_files import YamlTree
from refit.problems import is_kind, kind_of

MARGINS = ("max_loss", "min_gain_over_baseline")


def with_metrics(raw: YamlTree) -> YamlTree:
    """Fill in defaults of raw params that depend on the task.

    These are the metric for training, the same metric for the gate, and folds in order of time for forecasts.
    """
    train, evaluate = raw.get("train"), raw.get("evaluate", {})
    gate = evaluate.get("gate", {}) if isinstance(evaluate, dict) else None
    if not isinstance(train, dict) or not isinstance(gate, dict):
        return raw  # invalid, which the sections report
    named = train.get("task", "binary")
    if not is_kind(named):
        return raw
    if not kind_of(named).labelled or kind_of(named).optional_label:
        raw = _without_label(raw)
    if kind_of(named).folds == "time":
        train, evaluate = _in_time(train), _in_time({"cross_validation": {}, **evaluate})
    train = {"metric": kind_of(named).default_metric, **train}
    chosen = {"metric": _gate_metric(raw, named, train["metric"]), **gate}
    return {**raw, "train": train, "evaluate": {**evaluate, "gate": chosen}}


def _gate_metric(raw: YamlTree, task: str, of_training: Any) -> Any:
    """The default metric of the gate: that of training, or one that judges by labels where a problem may have some."""
    featurize = raw.get("featurize")
    label = featurize.get("label") if isinstance(featurize, Mapping) else None
    by_label = [each.name for each in kind_of(task).metrics if each.comparable and each.by_label]
    labelled = isinstance(label, Mapping) and label.get("column") is not None
    return by_label[0] if labelled and by_label and of_training not in by_label else of_training


def _without_label(raw: YamlTree) -> YamlTree:
    """Set the column of a raw label to None, unless one is given: a problem without labels needs none."""
    featurize = raw.get("featurize")
    label = featurize.get("label") if isinstance(featurize, Mapping) else None
    if not isinstance(featurize, Mapping) or not isinstance(label, Mapping):
        return raw
    return {**raw, "featurize": {**featurize, "label": {"column": None, **label}}}


def _in_time(section: YamlTree) -> YamlTree:
    """Set the kind of a raw section's folds to `time`, unless another kind is given."""
    folds = section.get("cross_validation")
    return {**section, "cross_validation": {"kind": "time", **folds}} if isinstance(folds, Mapping) else section


def metric_problems(train: TrainParams, gate: GateParams) -> Iterator[str]:
    """Find metrics that do not fit the task, and missing margins in the label's own units."""
    problem = kind_of(train.task)
    comparable = problem.metric_names(comparable=True)
    # If both name the same metric, it is reported as that of training, from which the gate takes its default.
    params_by_metric = {gate.metric: "evaluate.gate.metric", train.metric: "train.metric"}
    if train.early_stopping_metric is not None:
        params_by_metric = {train.early_stopping_metric: "train.early_stopping_metric", **params_by_metric}
    for name, param in params_by_metric.items():
        if name not in comparable:
            why = f"models of task {train.task!r} are not compared by {name!r}"
            yield f"{param}: {why}{_near(name, comparable)}"
    for kind, given in (("floors", gate.floors), ("ceilings", gate.ceilings)):
        valid_names = problem.limits(higher_is_better=kind == "floors")
        for name in given:
            if name not in valid_names:
                better = "higher" if kind == "floors" else "lower"
                why = f"no metric of task {train.task!r} where {better} is better"
                yield f"evaluate.gate.{kind}.{name}: is {why}{_near(name, valid_names)}"
    if gate.metric in comparable and problem.metric(gate.metric).in_label_units:
        for margin in MARGINS:
            if margin not in gate.model_fields_set:
                yield f"evaluate.gate.{margin}: is missing; {gate.metric} has the label's units, so no default fits"


def _near(word: str, valid_names: tuple[str, ...]) -> str:
    return nearest(word, valid_names) or f"; they are {', '.join(valid_names)}"
