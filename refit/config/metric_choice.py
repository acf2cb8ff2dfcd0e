"""Which metrics a task may be judged by, where `train` and `evaluate` have to agree: defaults, and what is at odds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refit.config.learning import GateParams, TrainParams
from refit.config.section import nearest
from refit.metrics import DEFAULTS, METRICS, Task, limits, of_task

MARGINS = ("max_loss", "min_gain_over_baseline")


def with_metrics(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raw params with what they leave open: the task's own metric for training, and the same for the gate; and folds of
    forecasts in order of time.
    """
    train, evaluate = raw.get("train"), raw.get("evaluate", {})
    gate = evaluate.get("gate", {}) if isinstance(evaluate, Mapping) else None
    if not isinstance(train, Mapping) or not isinstance(gate, Mapping):
        return raw  # an error, which the sections themselves tell
    task = "regression" if (named := train.get("task", "binary")) == "forecast" else named
    if named == "forecast":
        train, evaluate = _in_time(train), _in_time({"cross_validation": {}, **evaluate})
    train = {"metric": next((name for known, name in DEFAULTS.items() if known == task), "roc_auc"), **train}
    return {**raw, "train": train, "evaluate": {**evaluate, "gate": {"metric": train["metric"], **gate}}}


def _in_time(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """A raw section whose folds, where it asks for some of no kind, are cut in order of time."""
    folds = section.get("cross_validation")
    return {**section, "cross_validation": {"kind": "time", **folds}} if isinstance(folds, Mapping) else section


def metric_problems(task: Task, train: TrainParams, gate: GateParams) -> Iterator[str]:
    """Metrics that do not judge the task, and margins that are needed in the label's own units."""
    comparable = of_task(task, comparable=True)
    places = {gate.metric: "evaluate.gate.metric", train.metric: "train.metric"}  # the gate's may follow training's
    for name, place in places.items():
        if name not in comparable:
            why = f"models of task {train.task!r} are not compared by {name!r}"
            yield f"{place}: {why}{_near(name, comparable)}"
    for kind, given in (("floors", gate.floors), ("ceilings", gate.ceilings)):
        known = limits(task, higher_is_better=kind == "floors")
        for name in given:
            if name not in known:
                better = "higher" if kind == "floors" else "lower"
                why = f"no metric of task {train.task!r} where {better} is better"
                yield f"evaluate.gate.{kind}.{name}: is {why}{_near(name, known)}"
    if gate.metric in comparable and METRICS[gate.metric].in_label_units:
        for margin in MARGINS:
            if margin not in gate.model_fields_set:
                yield f"evaluate.gate.{margin}: is missing; {gate.metric} has the label's units, so no default fits"


def _near(word: str, known: tuple[str, ...]) -> str:
    return nearest(word, known) or f"; they are {', '.join(known)}"
