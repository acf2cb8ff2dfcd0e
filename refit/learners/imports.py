"""Imports and builds estimators by import path; errors suggest the nearest valid name or argument."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from refit.config import file_of, nearest
from refit.errors import UserError, message_of
from refit.extras import EXTRA_OF, install_extra, not_installed
from refit.learners import project_files
from refit.learners.families import FAMILIES

SORTS = {  # of estimators, by task
    "binary": "classifier",
    "multiclass": "classifier",
    "regression": "regressor",
    "clustering": "cluster",
    "anomaly": "outlier",
    "reduction": "transformer",
}

# Arguments that are set elsewhere, with the reason for the error.
DECIDED = {
    "random_state": "it is train.seed",
    "warm_start": "every fit starts afresh, so that the same inputs give the same model",
    "categorical_features": "they are the text features of the table",
    "early_stopping": "the validation window chooses the number of iterations; the library's own split is random",
}
OWN_SPLIT = ("n_iter_no_change", "validation_fraction")  # of estimators that stop early by these alone


def build(
    kind: str, params: Mapping[str, object], *, seed: int, where: str, task: str = "binary", source: str = ""
) -> Any:
    """Build a scikit-learn-compatible classifier or regressor for the task, with every `random_state` set to the seed.

    An argument that is itself an estimator is a mapping with its own `kind` and `params`.

    Raises:
        UserError: the kind is unknown or does not fit the task; an argument is unknown, invalid or set elsewhere.
    """
    estimator = build_object(kind, params, seed=seed, where=where, sort=SORTS[task], source=source)
    from sklearn.base import is_classifier, is_regressor

    if not {"classifier": is_classifier, "regressor": is_regressor}[SORTS[task]](estimator):
        near = nearest(kind, _sklearn_paths(SORTS[task]))
        raise UserError(f"learner {kind!r} is no {SORTS[task]}; train.task is {task!r}{near} ({where}.kind)")
    if SORTS[task] == "classifier" and not hasattr(estimator, "predict_proba"):
        raise UserError(
            f"learner {kind!r} predicts no probabilities (it has no predict_proba); wrap it: kind "
            f"sklearn.calibration.CalibratedClassifierCV with params {{estimator: {{kind: {kind}}}}} ({where}.kind)"
        )
    return estimator


def build_object(
    kind: str, params: Mapping[str, object], *, seed: int, where: str, sort: str = "classifier", source: str = ""
) -> Any:
    """Build an object of any class that can be fitted, with every `random_state` set to the seed.

    Raises:
        UserError: the kind is unknown; an argument is unknown, invalid or set elsewhere.
    """
    make = find(kind, where, source, sort)
    valid_names = _arguments(make)
    arguments = {}
    for name, value in params.items():
        if valid_names is not None and name not in valid_names:
            near = nearest(name, valid_names)
            raise UserError(f"learner {kind!r} has no argument {name!r}{near} ({where}.params.{name})")
        stops = valid_names is not None and name in OWN_SPLIT and "early_stopping" not in valid_names
        reason = DECIDED["early_stopping"] if stops else DECIDED.get(name)
        if reason and value not in (None, False):
            raise UserError(f"learner {kind!r}: {name} is not set here, {reason} ({where}.params.{name})")
        if isinstance(value, Mapping) and "kind" in value and set(value) <= {"kind", "params"}:
            within = f"{where}.params.{name}"
            value = build_object(value["kind"], value.get("params", {}), seed=seed, where=within, sort=sort)
        arguments[name] = value
    if valid_names is not None and "early_stopping" in valid_names:
        arguments["early_stopping"] = False
    if valid_names is not None and "random_state" in valid_names:
        arguments["random_state"] = seed
    try:
        estimator = make(**arguments)
        if hasattr(estimator, "_parameter_constraints"):
            estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise UserError(f"learner {kind!r}: {message_of(error)} ({where}.params)") from None
    return estimator


def find(kind: str, where: str, source: str = "", sort: str = "classifier") -> Any:
    """Import the class that a kind names: `package.module.Class`, `package.module:Class`, or `file.py:Class`.

    Args:
        source: the text of the file, for `file.py:Class`.
        sort: classifier, regressor, cluster, outlier or transformer; an error suggests names of this sort.

    Raises:
        UserError: there is no such class, or its module cannot be imported; the error names the nearest.
    """
    module_name, _, class_name = kind.replace(":", ".").rpartition(".")
    if file_of(kind):
        if not source:
            raise UserError(f"learner {kind!r}: a class from a file is the learner itself, no argument ({where}.kind)")
        module = project_files.module_of(kind, source, where)
    else:
        module = _imported(module_name, kind, where)
    if module is None and (extra := EXTRA_OF.get(module_name.partition(".")[0])):
        raise UserError(
            f"learner {kind!r} needs a package that is not installed: {install_extra(extra)} ({where}.kind)"
        )
    if module is None:
        raise UserError(
            f"learner {kind!r} is unknown{nearest(kind, [*FAMILIES, *_sklearn_paths(sort)])} ({where}.kind)"
        )
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type) or not (hasattr(cls, "fit") or hasattr(cls, "get_params") or is_module(cls)):
        stem = kind[: -len(class_name)]
        near = nearest(class_name, _estimators(module, sort)).replace("mean '", f"mean '{stem}")
        raise UserError(f"learner {kind!r} is unknown{near} ({where}.kind)")
    return cls


def is_module(cls: type) -> bool:
    """Whether a class is a `torch.nn.Module`, seen without importing torch."""
    return any((each.__module__, each.__name__) == ("torch.nn.modules.module", "Module") for each in cls.__mro__)


def _imported(name: str, kind: str, where: str) -> Any:
    """Import a module by name; None if it does not exist.

    Raises:
        UserError: it exists, but importing it fails.
    """
    if not name or name.startswith("."):
        return None
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        if missing := not_installed(error, f"learner {kind!r}", f"{where}.kind"):
            raise missing from None
        why = f"{type(error).__name__}: {message_of(error)}"
        raise UserError(
            f"learner {kind!r}: module {name!r} was found and cannot be imported: {why}; correct it, or install what "
            f"it needs ({where}.kind)"
        ) from error


def _estimators(module: Any, sort: str) -> list[str]:
    """Names of a module's learners and estimators of a sort; if it has none, of all classes that can be trained."""
    wanted = _mixins(sort)
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    fit = {name: value for name, value in classes.items() if hasattr(value, "fit") or is_module(value)}
    chosen = [name for name, value in fit.items() if issubclass(value, wanted) or hasattr(value, "load")]
    return chosen or list(fit)


def _mixins(sort: str) -> tuple[type, ...]:
    """The classes that scikit-learn's estimators of a sort inherit from."""
    from sklearn import base

    names = {"cluster": ("ClusterMixin", "DensityMixin"), "outlier": ("OutlierMixin",)}
    return tuple(getattr(base, name) for name in names.get(sort, (f"{sort.capitalize()}Mixin",)))


def _sklearn_paths(sort: str) -> list[str]:
    from sklearn.utils import all_estimators

    wanted = [(name, cls) for name, cls in all_estimators() if issubclass(cls, _mixins(sort))]
    return [f"{'.'.join(cls.__module__.split('.')[:2])}.{name}" for name, cls in wanted]


def _arguments(make: Any) -> list[str] | None:
    """Parameter names of a constructor; None if it accepts any."""
    parameters = inspect.signature(make.__init__).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return [name for name in parameters if name != "self"]
