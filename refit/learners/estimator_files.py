"""Stores the fitted estimator inside a learner: Refit's own as a name and arrays, all others by skops.

A skops file names classes by their path, so that a module of ours could never move again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from refit.errors import RefitError
from refit.learners import project_files, safe
from refit.learners.contract import Spec
from refit.learners.families import load_class
from refit.schemas.model_description import OwnEstimator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.base import BaseEstimator

__all__ = ["load", "save", "unsafe_reason"]

# Names in stored models, which never change; modules and classes may.
OWN: Mapping[str, str] = {
    "autoencoder": "refit.learners.networks.autoencoder:Autoencoder",
    "consensus": "refit.learners.consensus:Consensus",
    "copod": "refit.learners.tails:COPOD",
    "ecod": "refit.learners.tails:ECOD",
}
SKOPS, ARRAYS = ".skops", ".safetensors"


class _Own(Protocol):
    """An estimator of ours: its arguments are as in scikit-learn; it has learned arrays and estimators of that."""

    def get_params(self) -> dict[str, Any]: ...

    def arrays(self) -> dict[str, NDArray[Any]]: ...

    def parts(self) -> dict[str, BaseEstimator]: ...

    def take(self, arrays: Mapping[str, np.ndarray[Any, Any]], parts: Mapping[str, BaseEstimator]) -> None:
        """Take over what `arrays` and `parts` gave."""


def save(model: Any, folder: Path, name: str) -> tuple[str, OwnEstimator | None]:
    """Write an estimator; returns the name of its file, and what `model.json` says of one of ours."""
    own = _name_of(model)
    if own is None:
        safe.save_skops(model, folder / f"{name}{SKOPS}")
        return f"{name}{SKOPS}", None
    estimator: _Own = model
    safe.save_arrays(estimator.arrays(), folder / f"{name}{ARRAYS}")
    if parts := estimator.parts():
        safe.save_skops(parts, folder / f"{name}{SKOPS}")
    return f"{name}{ARRAYS}", OwnEstimator(name=own, params=estimator.get_params())


def load(path: Path, own: OwnEstimator | None, spec: Spec) -> Any:
    """The estimator in a file whose digest has been checked; older files of ours are skops files too.

    Raises:
        RefitError: it is not such a file, or holds what is not trusted.
    """
    if own is None:
        return safe.load_skops(path, project_files.trusted(spec))
    if own.name not in OWN:
        raise RefitError(
            f"{path} holds a {own.name!r}, which this Refit does not know; upgrade Refit, see CHANGELOG.md"
        )
    estimator = cast("_Own", load_class(OWN[own.name])(**own.params))
    parts = path.with_suffix(SKOPS)
    estimator.take(safe.load_arrays(path), safe.load_skops(parts, ()) if parts.is_file() else {})
    return estimator


def unsafe_reason(model: Any, spec: Spec) -> str | None:
    """The reason why a fitted estimator cannot be stored, or would not be loaded; None if it can and would."""
    return None if _name_of(model) else safe.unsafe_reason(model, project_files.trusted(spec))


def _name_of(model: Any) -> str | None:
    path = f"{type(model).__module__}:{type(model).__qualname__}"
    return next((name for name, each in OWN.items() if each == path), None)
