"""What to do where a server answers and refuses: a 401 or 403 is no lost network."""

from __future__ import annotations

from collections.abc import Iterator

_CODES = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}  # of MLflow's errors
_MLFLOW = "MLflow's server"
_PREFECT = "Prefect's server"
_ADVICE = {
    (_MLFLOW, 401): "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    (_MLFLOW, 403): "see that this user may do that, and that --allowed-hosts of the server lists the host of the URL",
    (_PREFECT, 401): "set PREFECT_API_AUTH_STRING to its NAME:PASSWORD, or PREFECT_API_KEY for Prefect Cloud",
    (_PREFECT, 403): "see that this user may do that, and that PREFECT_API_URL names the host as the server knows it",
}


def refusal(error: BaseException) -> str | None:
    """Which server refused, and what to set, in one sentence; None if no server answered with 401 or 403.

    >>> error = type("MlflowException", (Exception,), {"error_code": "UNAUTHENTICATED", "__module__": "mlflow.x"})()
    >>> refusal(error)
    "MLflow's server answers, and knows no such user (401): set MLFLOW_TRACKING_USERNAME and \
MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    >>> refusal(ValueError("401")) is None
    True
    """
    for each in causes(error):
        if (status := _status(each)) in (401, 403):
            server = _server(type(each).__module__)
            what = "knows no such user" if status == 401 else "does not allow this"
            return f"{server} answers, and {what} ({status}): {_ADVICE[server, status]}"
    return None


def lost(error: BaseException) -> str | None:
    """Why a server was not reached, from the system's own error below a library's chain; None if that is no reason.

    >>> try:
    ...     raise ConnectionRefusedError(111, "Connection refused")
    ... except OSError as below:
    ...     above = ValueError("Max retries exceeded with url: /api")
    ...     above.__cause__ = below
    >>> lost(above), lost(ValueError("5 is no date"))
    ('connection refused', None)
    """
    system = [each for each in causes(error) if type(each).__module__ in ("builtins", "socket", "ssl")]
    last = next((each for each in reversed(system) if isinstance(each, OSError)), None)
    return None if last is None else reason(last)


def reason(error: OSError) -> str:
    """What the system says of a failed connection, such as `connection refused`."""
    said = error.strerror or str(error) or type(error).__name__
    return f"{said[0].lower()}{said[1:]}"


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error of MLflow, requests, httpx or Prefect; S3's are `object_stores.s3_fault`'s."""
    if code := _CODES.get(str(getattr(error, "error_code", ""))):
        return code
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _server(module: str) -> str:
    return _PREFECT if module.startswith(("prefect", "httpx")) else _MLFLOW


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes, and those of a group of errors."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
