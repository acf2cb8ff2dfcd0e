"""Makes the ledger's tables as their owner, and lets others work with them: `python -P -m registry.provision USER...`.

`REFIT_LEDGER_URI` names the database and the owner. Those users can add lines to the ledger, and neither change nor
delete one; they cannot drop its triggers, which the owner could. Searches for arguments are theirs to write and delete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from registry import studies
from registry.ledger_database import LedgerDatabase
from registry.postgresql import SCHEMA
from registry.store import LEDGER_VARIABLE, POSTGRESQL, RegistryError

GRANTS = (
    "grant usage on schema {schema} to {user}",
    "grant select, insert on {schema}.ledger, {schema}.identity to {user}",
    "grant select, insert, update, delete on {schema}.pending, {schema}.records to {user}",
)
STUDY_GRANTS = (
    "grant usage on schema {studies} to {user}",
    "grant select, insert, update, delete on all tables in schema {studies} to {user}",
    "grant usage on all sequences in schema {studies} to {user}",
)


def provision(url: str, users: Sequence[str]) -> None:
    """Make the tables that are missing, and grant `users` what a worker needs. Repeating it changes nothing.

    Those of the ledger come first: no search depends on its trials.

    Raises:
        RegistryError: the database cannot be used, or a user does not exist; or another version of Optuna made the
            tables of the searches, and the ledger's part is done.
    """
    _grant(url, users, GRANTS)
    studies.storage(url)
    _grant(url, users, STUDY_GRANTS)


def _grant(url: str, users: Sequence[str], grants: Sequence[str]) -> None:
    with LedgerDatabase(url).writing() as connection:
        quoted = connection.dialect.identifier_preparer.quote
        schemas = {"schema": quoted(SCHEMA), "studies": quoted(studies.SCHEMA)}
        for user in users:
            for grant in grants:
                connection.exec_driver_sql(grant.format(user=quoted(user), **schemas))


def main() -> None:
    """Provision the database of the environment for the users of the command line."""
    url = os.environ.get(LEDGER_VARIABLE, "")
    if not url.startswith(POSTGRESQL):
        sys.exit(f"error: {LEDGER_VARIABLE} is not set to postgresql://OWNER@HOST/DATABASE")
    try:
        provision(url, sys.argv[1:])
    except RegistryError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
