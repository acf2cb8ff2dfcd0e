"""Plain names for the columns of a table, distinct from the names that the feature table reserves."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from feature_store.sql_text import quote
from refit.config.section import free

# Columns that sources and feature tables have already.
RESERVED = {"event_time", "prediction_time", "window", "label", "available_at", "label_known_at", "row_key"}
RESERVED |= {"forecast_time", "horizon", "target_time", "season_time", "seasonal_naive"}


def unaccented(name: str) -> str:
    """Return a name in lower case, its letters without accents.

    >>> unaccented("Prêts à Köln")
    'prets a koln'
    """
    return re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name.casefold()))


def alias(name: str, taken: set[str]) -> str:
    """Return a plain name for a column: lower case with underscores, neither taken nor reserved.

    >>> alias("Größe (cm)", set()), alias("Âge du Client", set()), alias("UnitPrice", {"unit_price"})
    ('grosse_cm', 'age_du_client', 'unit_price_2')
    """
    bare = unaccented(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))
    plain = re.sub("[^a-z0-9]+", "_", bare).strip("_")
    plain = plain if plain[:1].isalpha() else f"c_{plain}".rstrip("_")
    candidates = (plain, *(f"{plain}_{number}" for number in range(2, len(taken) + 4)))
    return next(each for each in candidates if each not in taken | RESERVED)


def sql_name(name: str, sql: str, others: Iterable[str]) -> str:
    """Return the name of a column other than the time in the SQL of params, where `event_time` is a row's own time."""
    return quote(free(f"{name}_", others)) if name.lower() == "event_time" else sql
