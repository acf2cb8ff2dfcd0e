"""Makes and loads learners: fit, predict, save and load behind one contract, with declared needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refit.errors import RefitError
from refit.files.artifacts import check_manifest, read_json
from refit.learners.contract import (
    DESCRIPTION,
    FORMAT,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
)
from refit.learners.families import AVERAGED, FAMILIES, family, load_class

__all__ = ["CurvePoint", "Declaration", "FitReport", "Floats", "Labels", "Learner", "Spec", "load", "make"]


def make(spec: Spec, *, where: str = "params.yaml: train.learners") -> Learner:
    """Make a learner that is ready to fit.

    Args:
        where: the address of the learner in the params, for errors.

    Raises:
        UserError: the kind or an argument is unknown or unusable; the error names the nearest valid one.
    """
    if spec.average > 1:
        return load_class(AVERAGED)(spec, where=where)  # type: ignore[call-arg]
    if spec.text:
        from refit.learners import texts

        texts.vectoriser(spec)  # so that a mistake in its params is an error before anything is fitted
    if spec.kind in FAMILIES:
        return family(spec.kind)(spec, where=where)  # type: ignore[call-arg]
    from refit.learners import imports

    return _adapter(imports.find(spec.kind, where, spec.source))(spec, where=where)  # type: ignore[call-arg]


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
    description = read_json(folder / DESCRIPTION)
    try:
        kind = str(description["kind"])
        if description["format"] != FORMAT:
            raise RefitError(f"{folder} has format {description['format']}, this code reads {FORMAT}; train again")
        learner = with_calibration(_load(kind, folder, description, trusted_types), description)
        return with_intervals(
            learner, description, lambda: tuple(load(folder / name, trusted_types=trusted_types) for name in ENDS)
        )
    except (KeyError, TypeError) as error:
        raise RefitError(f"{folder / DESCRIPTION} is no description of a learner ({error!r}); train again") from None


def _load(kind: str, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Learner:
    """Load a learner; a class that the folder names is imported only if the user trusts it."""
    if description.get("average", 1) > 1:
        return load_class(AVERAGED).load(folder, description, trusted_types)
    if kind in FAMILIES:
        return family(kind).load(folder, description, trusted_types)
    from refit.learners import imports, project_files
    from refit.learners.sklearn_estimator import SklearnEstimator

    source = project_files.stored_code(kind, folder, trusted_types)
    chosen = _adapter(imports.find(kind, str(folder), source)) if kind in trusted_types else SklearnEstimator
    return chosen.load(folder, {**description, "source": source}, trusted_types)


def _adapter(cls: type) -> type[Learner]:
    """The family that adapts a third-party class to the contract: a learner with four verbs, or an estimator."""
    from refit.learners.own import OwnLearner, is_learner
    from refit.learners.sklearn_estimator import SklearnEstimator

    return OwnLearner if is_learner(cls) else SklearnEstimator
