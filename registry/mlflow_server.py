"""MLflow's server as an ASGI application, for the process that starts and protects it."""

from __future__ import annotations

import os
from typing import Any

from registry.store import Store
from registry.urls import folder_url


def web_app(store: Store) -> Any:
    """MLflow's ASGI application over a store, set up as `mlflow server` does for one process.

    Its settings are environment variables that MLflow reads on import, so call this in a separate process.
    """
    artifacts = store.artifacts or store.home / "mlartifacts"
    os.environ |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_WORKSPACES": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
    }
    from mlflow.server import constants, handlers

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: store.uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: store.uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: folder_url(artifacts),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    handlers.initialize_backend_stores(store.uri, store.uri, "mlflow-artifacts:/")
    from mlflow.server.fastapi_app import app

    return app
