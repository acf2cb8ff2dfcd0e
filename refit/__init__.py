"""The library below steps and flows, and Refit's functions for other programs: `refit.load`, `refit.run` and others.

Importing it sets variables that libraries read when they load: no analytics, and OpenMP threads that wait passively.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refit.learners.pyfunc import TableModel

_API = ("check_drift", "compare", "explain", "history", "replay", "run", "score", "show", "status")  # of `refit.api`
__all__ = ["load", *_API]


def __getattr__(name: str) -> Callable[..., Any]:
    """A function of `refit.api`, which is imported only when one is used."""
    if name not in _API:
        raise AttributeError(f"module 'refit' has no attribute {name!r}")
    function: Callable[..., Any] = getattr(importlib.import_module("refit.api"), name)
    return function


def __dir__() -> list[str]:
    """What a notebook offers to complete."""
    return sorted(__all__)


for _switch, _off in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ[_switch] = _off

# By default OpenMP's threads wait for each other by spinning: with other work on the same cores, a fit of boosted trees
# then takes four times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _OwnPackages:
    """Finds Refit's packages where Refit is, also for a program in a folder with a package of the same name."""

    NAMES = ("flows", "tasks", "feature_store", "registry")
    root = str(Path(__file__).resolve().parents[1])

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [cls.root], target) if name in cls.NAMES else None

    @classmethod
    def prefer(cls) -> None:
        """Find them first from now on.

        Raises:
            ImportError: the program has imported a package of the same name already.
        """
        for name in cls.NAMES:
            origin = getattr(sys.modules.get(name), "__file__", None)
            if origin and not Path(origin).resolve().is_relative_to(cls.root):
                raise ImportError(
                    f"Refit has a package {name!r}, and this program has imported another one, {origin}: "
                    "rename that one, or import refit in a program that does not import it"
                )
        sys.meta_path.insert(0, cls)


_OwnPackages.prefer()


def load(
    path: str | Path,
    *,
    version: str | None = None,
    manifest: str | None = None,
    public_key: str | Path | None = None,
    trusted_types: tuple[str, ...] = (),
) -> TableModel:
    """Load a model that predicts the rows of a pandas frame; its files are checked before anything is loaded.

        model = refit.load("projects/churn")                             # the champion
        model = refit.load("churn-7", manifest="8f3a...")                # what `refit export 7 --to churn-7` wrote
        model = refit.load("churn-7", public_key="keys/models.pub")      # the same, by its signature
        model.predict(frame)

    Args:
        path: a project's folder, or a folder that `refit export` wrote.
        version: for a project, another version than the champion.
        manifest: for an exported folder, the digest that `refit export` printed, stored apart from the folder.
        public_key: for an exported folder, the key of its signature, which is the file FOLDER.sig next to it.
        trusted_types: for an exported folder, `registry.trusted_types` of the params.

    Raises:
        refit.errors.RefitError: a file is missing, added or changed, or the signature is missing or wrong.
    """
    from refit.models.export import loaded

    return loaded(
        Path(path),
        version=version,
        manifest=manifest,
        public_key=None if public_key is None else Path(public_key),
        trusted_types=trusted_types,
    )
