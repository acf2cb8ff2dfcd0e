"""The library that steps and flows stand on, and what other programs import of Refit: `refit.load`.

Importing it sets what libraries read as they load: analytics off, threads that wait calmly.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refit.learners.pyfunc import TableModel

__all__ = ["load"]

for _switch, _off in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ[_switch] = _off

# By default OpenMP's threads wait for each other by spinning: beside other work on the same cores a fit of
# boosted trees then takes four times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load(
    path: str | Path,
    *,
    version: str | None = None,
    manifest: str | None = None,
    public_key: str | Path | None = None,
    trusted_types: tuple[str, ...] = (),
) -> TableModel:
    """A model that predicts the rows of a pandas frame, its files checked before anything in them is loaded.

        model = refit.load("projects/churn")                             # the champion, by its ledger and registry
        model = refit.load("churn-7", manifest="8f3a...")                # what `refit export 7 --to churn-7` wrote
        model = refit.load("churn-7", public_key="keys/models.pub")      # the same, by its signature
        model.predict(frame)

    Args:
        path: a project's folder, or a folder that `refit export` wrote.
        version: of a project: another version than the champion.
        manifest: of an exported folder: the digest that `refit export` printed, kept apart from the folder.
        public_key: of an exported folder: whose signature, which lies beside it as FOLDER.sig, it has to bear.
        trusted_types: of an exported folder: `registry.trusted_types` of the params.

    Raises:
        refit.errors.RefitError: a file is missing, was added or differs, or the signature is missing or another's.
    """
    from refit.models.export import loaded

    return loaded(
        Path(path),
        version=version,
        manifest=manifest,
        public_key=None if public_key is None else Path(public_key),
        trusted_types=trusted_types,
    )
