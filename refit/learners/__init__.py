"""Makes and loads learners: fit, predict, save and load behind one contract, with declared needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refit.errors import RefitError, UserError, message_of
from refit.files.artifacts import check_manifest, read_json
from refit.learners.contract import (
    DESCRIPTION,
    FORMAT,
    Batch,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    judged_by,
    spec_from,
)
from refit.learners.families import ADAPTERS, AVERAGED, FAMILIES, KERAS, OWN_NETWORK, family, load_class
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription

__all__ = [
    "Batch",
    "CurvePoint",
    "Declaration",
    "FitReport",
    "Floats",
    "Labels",
    "Learner",
    "Spec",
    "judged_by",
    "load",
    "make",
    "update",
]


def make(spec: Spec, *, where: str = "params.yaml: train.learners") -> Learner:
    """Make a learner that is ready to fit.

    Args:
        where: the address of the learner in the params, for errors.

    Raises:
        UserError: the kind or an argument is unknown or unusable; the error names the nearest valid one.
    """
    if spec.average > 1:
        return load_class(AVERAGED)(spec, where=where)  # type: ignore[call-arg]
    family_of: Any = _class_of(spec, where)
    try:
        learner: Learner = family_of(spec, where=where)
    except KeyError as error:  # a family has tables by task: of losses, of estimators
        if error.args != (spec.task,):
            raise
        raise UserError(
            f"learner {spec.kind!r} is for other kinds of problems; train.task is {spec.task!r} ({where}.kind)"
        ) from None
    if spec.start and not spec.start.pretrained:
        from refit.learners.networks.start import start_from

        start_from(load(spec.start.folder, trusted_types=spec.trusted_types), learner, where)
    return learner


def _class_of(spec: Spec, where: str) -> type[Learner]:
    if spec.text:
        from refit.learners import texts

        texts.vectoriser(spec)  # so that a mistake in its params is an error before anything is fitted
    if spec.kind in FAMILIES:
        return family(spec.kind)
    from refit.learners import imports, project_files

    if spec.source and project_files.is_keras(spec.kind, spec.source):
        return load_class(KERAS, f"learner {spec.kind!r}")
    sort = imports.SORTS.get(spec.task, "classifier")
    return _adapter(imports.find(spec.kind, where, spec.source, sort), spec.task)


def update(learner: Learner, batches: Iterable[Batch], *, progress: Progress = silent) -> Learner:
    """A learner that has learned further batches, each once and in their order; the given one stays as it is.

    A batch is learned by one step: one pass of an estimator with `partial_fit`, one epoch of a network, one more tree.
    Only one batch is held in memory at a time.

    Raises:
        UserError: this kind of learner cannot continue training, or a batch cannot be learned from.

    >>> import numpy as np, pyarrow as pa
    >>> rows, label = pa.table({"x": [-1.0, 1.0] * 20}), np.array([0, 1] * 20)
    >>> learner = make(Spec("it", "sklearn.linear_model.SGDClassifier", ("x",), params={"loss": "log_loss"}))
    >>> _ = learner.fit(rows, label)
    >>> later = update(learner, [(rows.slice(0, 10), label[:10]), (rows.slice(10), label[10:])])
    >>> later.digest() != learner.digest()
    True
    """
    for rows, label in batches:
        after = make(learner.spec)
        after.resume(learner, rows, label, iterations=1, progress=progress)
        after.threshold = learner.threshold
        learner = after
    return learner


def load(folder: Path, *, trusted_types: tuple[str, ...] = ()) -> Learner:
    """Load the learner in a folder once every file matches the folder's manifest. No pickle is read.

    Args:
        trusted_types: `registry.trusted_types` of the params; the folder's own statements are never trusted.

    Raises:
        RefitError: a file differs from the manifest, or holds a type that is not trusted.
    """
    from refit.learners.calibrated import with_calibration
    from refit.learners.prediction_intervals import ENDS, with_intervals

    check_manifest(folder)
    path = folder / DESCRIPTION
    content = read_json(path)
    if isinstance(content, Mapping) and content.get("format", FORMAT) != FORMAT:
        raise RefitError(f"{folder} has format {content['format']}, this code reads {FORMAT}; train again")
    description = ModelDescription.from_json(content, str(path))
    try:
        learner = with_calibration(_load(folder, description, trusted_types), description.calibration)
        stored = description.intervals
        return with_intervals(
            learner, stored, lambda: tuple(load(folder / name, trusted_types=trusted_types) for name in ENDS)
        )
    except FileNotFoundError as error:
        raise RefitError(f"{folder} lacks a file ({message_of(error)}); restore the folder, or train again") from None
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = f"{type(error).__name__}: {message_of(error, 200)}"
        raise RefitError(
            f"{path} is no description of a learner ({said}); restore the folder, or train again"
        ) from error


def _load(folder: Path, description: ModelDescription, trusted_types: tuple[str, ...]) -> Learner:
    """Load a learner; code that the folder names is imported only if the user trusts it."""
    kind = description.kind
    if description.options:
        from refit.learners import project_files

        if (why := project_files.untrusted_code(spec_from(description, trusted_types))) is not None:
            raise RefitError(f"{folder}: {why}")
    if description.average > 1:
        return load_class(AVERAGED).load(folder, description, spec_from(description, trusted_types))
    if kind in FAMILIES:
        return family(kind).load(folder, description, spec_from(description, trusted_types))
    from refit.learners import imports, project_files

    source = project_files.stored_code(kind, folder, trusted_types)
    if source and project_files.is_keras(kind, source):
        return load_class(KERAS, f"learner {kind!r}").load(
            folder, description, spec_from(description, trusted_types, source)
        )
    trusted = kind in trusted_types
    chosen = _adapter(imports.find(kind, str(folder), source), description.task) if trusted else _reader(description)
    return chosen.load(folder, description, spec_from(description, trusted_types, source))


def _reader(description: ModelDescription) -> type[Learner]:
    """The family that reads what it stored of a third-party class, which is not imported."""
    from refit.learners.sklearn_estimator import SklearnEstimator

    adapter = ADAPTERS.get(description.task)
    return SklearnEstimator if adapter is None else load_class(adapter)


def _adapter(cls: type, task: str) -> type[Learner]:
    """The family that adapts a third-party class: a learner with four verbs, a torch module, or an estimator."""
    from refit.learners.imports import is_module
    from refit.learners.own import OwnLearner, is_learner
    from refit.learners.sklearn_estimator import SklearnEstimator

    if is_learner(cls):
        return OwnLearner
    if is_module(cls):
        return load_class(OWN_NETWORK, f"network {cls.__name__!r}")
    return load_class(ADAPTERS[task]) if task in ADAPTERS else SklearnEstimator
