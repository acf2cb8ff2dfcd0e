"""Converts paths to URLs and back, for any name of a file or folder.

A folder may be called `50% off?`, `a#b` or `Übung 1`. Without escapes, such names would end the path of a URL early or
mean another file.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


def sqlite_url(path: Path, driver: str = "pysqlite") -> str:
    """SQLAlchemy's URL of an SQLite file, also for MLflow, Optuna and Prefect (`driver="aiosqlite"`).

    The URL of a path that needs escapes names its driver: MLflow creates the folder of a `sqlite:///` URL, and would
    take the escapes as part of its name.

    >>> sqlite_url(Path("/p/.refit/mlflow.db"))
    'sqlite:////p/.refit/mlflow.db'
    >>> sqlite_url(Path("/50% off?/m.db"))
    'sqlite+pysqlite:////50%25%20off%3F/m.db'
    """
    escaped = quote(str(path.absolute()))
    scheme = "sqlite" if escaped == str(path.absolute()) and driver == "pysqlite" else f"sqlite+{driver}"
    return f"{scheme}:///{escaped}"


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, which may be relative; None if it is not an SQLite URL.

    >>> sqlite_path("sqlite+pysqlite:////50%25%20off%3F/m.db")
    PosixPath('/50% off?/m.db')
    >>> sqlite_path("http://mlflow:5000") is None
    True

    Raises:
        ValueError: the URL names no file, or has a query part.
    """
    scheme, _, rest = url.partition(":")
    if scheme.partition("+")[0] != "sqlite":
        return None
    slashes, _, escaped = rest.partition("///")
    if slashes or not escaped or escaped == ":memory:":
        raise ValueError(f"{url!r} names no file; sqlite:///PATH was expected")
    if "?" in escaped:
        raise ValueError(f"{url!r} has a part after `?`; sqlite:///PATH was expected, with %3F for a `?` in the path")
    return Path(unquote(escaped))


def read_only_url(path: Path) -> str:
    """The URL with which `sqlite3.connect(..., uri=True)` opens a file for reading only."""
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def folder_url(path: Path) -> str:
    """The `file:` URL of a folder or file, as MLflow stores it for artifacts.

    >>> folder_url(Path("/50% off?/mlartifacts"))
    'file:///50%25%20off%3F/mlartifacts'
    """
    return path.absolute().as_uri()


def local_path(url: str) -> Path | None:
    """The path of a `file:` URL or a plain path; None for any other URL.

    >>> local_path("file:///50%25%20off%3F/mlartifacts")
    PosixPath('/50% off?/mlartifacts')
    >>> local_path("s3://bucket/x") is None, local_path("mlflow-artifacts:/3") is None
    (True, True)
    """
    parts = urlsplit(url)
    if not parts.scheme:
        return Path(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def is_loopback(url: str) -> bool:
    """Whether the server of a URL is on this machine, by its address.

    >>> is_loopback("http://127.0.0.1:5000"), is_loopback("http://mlflow:5000")
    (True, False)
    """
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
