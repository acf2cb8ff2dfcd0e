"""MLflow's logged models: each candidate in the tab Models of its experiment, with metrics, data sets and versions.

They are entries of the database only. The files of a model are its run's artifacts, where versions are verified, and
are not stored twice; MLflow calls such a model external.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from registry.client import client
from registry.locking import registry_lock
from registry.store import Store, missing

__all__ = ["delete", "ensure", "link"]

_EXTERNAL = {"mlflow.model.isExternal": "true"}
_VERSIONS = "mlflow.modelVersions"  # tag, as MLflow's own `register_model` sets it: a JSON list of names and numbers
_REFUSED = re.compile(r"""[/:.%"']""")  # what MLflow refuses in the name of a logged model


def ensure(mlflow: Any, run: Any, params: Mapping[str, str]) -> str | None:
    """The id of the logged model of a run, made if there is none; None if the server knows no logged models.

    The caller holds the registry's lock. A call that was interrupted is completed by the next one.
    """
    from mlflow.entities import LoggedModelOutput

    try:
        models = _of_run(mlflow, run.info.experiment_id, run.info.run_id)
    except Exception as error:
        if missing(error):  # a server older than MLflow 3
            return None
        raise
    model = models[0] if models else None
    if model is None:
        model = mlflow.create_logged_model(
            run.info.experiment_id,
            _REFUSED.sub(" ", run.info.run_name or "model"),
            source_run_id=run.info.run_id,
            tags=_EXTERNAL,
            params=dict(params),
        )
    if model.status.value != "READY":
        mlflow.finalize_logged_model(model.model_id, "READY")
    if model.model_id not in {output.model_id for output in getattr(run.outputs, "model_outputs", ())}:
        mlflow.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    return str(model.model_id)


def link(store: Store, run_id: str | None, model: str, number: str) -> None:
    """Name a version of a registered model at the logged model of its run, if there is one."""
    mlflow = client(store)
    with registry_lock(store):
        for logged in _of(mlflow, run_id):
            named, versions = {"name": model, "version": number}, _named(logged)
            if named not in versions:
                mlflow.set_logged_model_tags(logged.model_id, {_VERSIONS: json.dumps([*versions, named])})


def delete(mlflow: Any, run_id: str) -> None:
    """Delete the logged model of a run, if there is one; like the run, MLflow keeps its row until `mlflow gc`."""
    for model in _of(mlflow, run_id):
        mlflow.delete_logged_model(model.model_id)


def _of(mlflow: Any, run_id: str | None) -> list[Any]:
    """The logged models of a run; none if the run is gone, or the server knows no logged models."""
    if run_id is None:
        return []
    try:
        return _of_run(mlflow, mlflow.get_run(run_id).info.experiment_id, run_id)
    except Exception as error:
        if missing(error):
            return []
        raise


def _of_run(mlflow: Any, experiment: str, run_id: str) -> list[Any]:
    return list(mlflow.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"))


def _named(model: Any) -> list[dict[str, str]]:
    """The versions that a logged model names; none if somebody wrote something else into the tag."""
    try:
        value = json.loads(model.tags.get(_VERSIONS, "[]"))
    except ValueError:
        return []
    return value if isinstance(value, list) else []
