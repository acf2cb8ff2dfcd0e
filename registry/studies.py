"""The searches for a learner's arguments in the ledger's database: Optuna's tables, in a schema of their own.

MLflow's server has a table `alembic_version` too: in one schema, each of them would take the other's for its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from registry import postgresql
from registry.secrets import first_line, redacted
from registry.store import RegistryError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.study._frozen import FrozenStudy

SCHEMA = "refit_tuning"
_USED = "refit_used"  # attribute of a study: when it was written to last, in UTC


def storage(url: str) -> BaseStorage:
    """Optuna's storage in a PostgreSQL database; its tables are made if they are missing.

    Raises:
        RegistryError: the database cannot be used, or another version of Optuna made the tables.
    """
    return _storage(url, os.getpid())


@lru_cache(maxsize=8)
def _storage(url: str, process: int) -> BaseStorage:
    """The storage of a process, whose connections it keeps."""
    from optuna.storages import RDBStorage, get_storage
    from sqlalchemy import text

    made = exists(url)
    try:
        with postgresql.advisory_lock(url, "/studies", wait_seconds=60) as lock:  # no project has this name
            if not made and not exists(url):
                lock.check("no trial is stored")
                with postgresql.engine(url, SCHEMA).begin() as connection:
                    connection.execute(text(f"create schema {SCHEMA}"))
            _require_schema(url)
            lock.check("no trial is stored")
            # Optuna formats the URL, and would take braces in a password as a field
            address = postgresql.driver_url(url).replace("{", "%7B").replace("}", "%7D")
            return get_storage(RDBStorage(address, engine_kwargs=postgresql.engine_arguments(SCHEMA)))
    except RegistryError:
        raise
    except Exception as error:  # of the driver, of SQLAlchemy or of Optuna, which has no class for all of its own
        raise failed(url, error) from error


def _require_schema(url: str) -> None:
    """Check that tables whose names say no schema are found in that of the searches, and made there."""
    from sqlalchemy import text

    with postgresql.engine(url, SCHEMA).connect() as connection:
        found = connection.execute(text("select current_schema()")).scalar()
    if found != SCHEMA:
        raise RegistryError(
            f"the database {redacted(url)} looks for tables in the schema {found}, and those of searches are in "
            f"{SCHEMA}: grant this user what docs/team.md lists, or name the database itself where a pooler in "
            "transaction mode (PgBouncer) is in between"
        )


def exists(url: str) -> bool:
    """Whether a search has been stored in the database, or `registry.provision` has made its tables.

    Raises:
        RegistryError: the database cannot be used.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with postgresql.engine(url, SCHEMA).connect() as connection:
            return connection.execute(text("select to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is not None
    except SQLAlchemyError as error:
        raise failed(url, error) from error


def name_of(model: str, search: str) -> str:
    """The name of a study, by which those of other models in the same database are told apart."""
    return f"{model}: {search}"


def mark_used(study: Study) -> None:
    """Note that a study is written to now; Optuna stores times without the zone of the machine that they are of."""
    study.set_user_attr(_USED, datetime.now(UTC).isoformat())


def last_used(url: str, model: str) -> dict[str, datetime]:
    """When each study of a model was written to last, by the study's name; empty if nothing was stored.

    A study that says no such time was last used when its newest trial began, or up to a day later: that has no zone.

    Raises:
        RegistryError: the database cannot be used.
    """
    if not exists(url):
        return {}
    try:
        stored = storage(url)
        found = {
            study.study_name: _last_used(stored, study)
            for study in stored.get_all_studies()
            if study.study_name.startswith(name_of(model, ""))
        }
    except RegistryError:
        raise
    except Exception as error:
        raise failed(url, error) from error
    return {name: moment for name, moment in found.items() if moment}


def _last_used(stored: BaseStorage, study: FrozenStudy) -> datetime | None:
    with suppress(ValueError, TypeError):
        if (moment := datetime.fromisoformat(study.user_attrs.get(_USED, ""))).tzinfo:
            return moment.astimezone(UTC)
    trials = stored.get_all_trials(study._study_id, deepcopy=False)
    began = [trial.datetime_start for trial in trials if trial.datetime_start]
    return max(began).replace(tzinfo=UTC) + timedelta(days=1) if began else None


def delete(url: str, name: str) -> None:
    """Delete a study with its trials; nothing happens if it is gone already.

    Raises:
        RegistryError: the database cannot be used.
    """
    try:
        stored = storage(url)
        with writing(url, name):
            stored.delete_study(stored.get_study_id_from_name(name))
    except KeyError:
        return
    except RegistryError:
        raise
    except Exception as error:
        raise failed(url, error) from error


@contextmanager
def writing(url: str, name: str) -> Iterator[None]:
    """Keep other processes from writing to a study: what is read in the block decides what is written.

    Raises:
        RegistryError: the database cannot be used.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with postgresql.engine(url, SCHEMA).begin() as connection:
            lock = postgresql.key(f"/studies/{name}")
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": lock})
            yield
    except SQLAlchemyError as error:
        raise failed(url, error) from error


def failed(url: str, error: Exception) -> RegistryError:
    """The one-line error for trials that cannot be read or written there."""
    inner = error.__cause__ if isinstance(error.__cause__, Exception) else error  # Optuna's own text names no reason
    return RegistryError(f"the database {redacted(url)} failed: {first_line(inner)}")
