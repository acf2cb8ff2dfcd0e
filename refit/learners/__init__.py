"""What can be fitted: every learner has four verbs, says what it needs, and is made and loaded here alone."""

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
from refit.learners.families import AVERAGED, FAMILIES, family, imported

__all__ = ["CurvePoint", "Declaration", "FitReport", "Floats", "Labels", "Learner", "Spec", "load", "make"]


def make(spec: Spec, *, where: str = "params.yaml: train.learners") -> Learner:
    """A learner ready to fit.

    Args:
        where: the address of the learner in the params, for errors.

    Raises:
        UserError: the kind or an argument is unknown or unusable; names the nearest that would do.
    """
    if spec.average > 1:
        return imported(AVERAGED)(spec, where=where)  # type: ignore[call-arg]
    if spec.text:
        from refit.learners import texts

        texts.vectoriser(spec)  # a mistake in it is found before anything is fitted
    if spec.kind in FAMILIES:
        return family(spec.kind)(spec, where=where)  # type: ignore[call-arg]
    from refit.learners import imports

    return _around(imports.find(spec.kind, where, spec.source))(spec, where=where)  # type: ignore[call-arg]


def load(folder: Path, *, trusted_types: tuple[str, ...] = ()) -> Learner:
    """The learner stored in a folder, after every file was shown to be the one in its manifest. No pickle is read.

    Args:
        trusted_types: `registry.trusted_types` of the params; what the folder itself says is never trusted.

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
    """What a folder names is imported only where the user has named it as trusted."""
    if description.get("average", 1) > 1:
        return imported(AVERAGED).load(folder, description, trusted_types)
    if kind in FAMILIES:
        return family(kind).load(folder, description, trusted_types)
    from refit.learners import imports, project_files
    from refit.learners.sklearn_estimator import SklearnEstimator

    source = project_files.kept_code(kind, folder, trusted_types)
    chosen = _around(imports.find(kind, str(folder), source)) if kind in trusted_types else SklearnEstimator
    return chosen.load(folder, {**description, "source": source}, trusted_types)


def _around(found: type) -> type[Learner]:
    """The family that puts a class of somebody else behind the contract: a learner of four verbs, or an estimator."""
    from refit.learners.own import OwnLearner, is_learner
    from refit.learners.sklearn_estimator import SklearnEstimator

    return OwnLearner if is_learner(found) else SklearnEstimator
