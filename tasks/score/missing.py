"""Warns of features that differ between training and scoring: missing values, lost zeros, new horizons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from refit.config.forecasting import HORIZON
from refit.files.artifacts import FEATURE_SET, REFERENCE
from refit.schemas.feature_table import FeatureTable
from tasks.score.champion_model import Champion

if TYPE_CHECKING:
    import pyarrow as pa

MOSTLY = 0.5  # minimum share of training rows that have the feature
NAMED = 5


def newly_missing(champion: Champion, features: pa.Table) -> Iterator[str]:
    """Yield a note naming the features that are missing in all rows to score but present in most training rows."""
    import pyarrow.parquet as pq

    rows, names = features.num_rows, champion.definitions.feature_set.names()
    gone = [name for name in names if rows and features[name].null_count == rows]
    path = champion.folder / REFERENCE
    if not gone or not path.is_file():
        return
    learned = pq.read_table(path)
    missing = [
        name
        for name in gone
        if name in learned.column_names and learned[name].null_count < (1 - MOSTLY) * learned.num_rows
    ]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        yield (
            f"missing in every row, though most rows of training had them: {', '.join(missing[:NAMED])}{more}; their "
            "source tells nothing of these rows yet: give it what is known ahead (Refit's docs/forecasting.md), or "
            "exclude them"
        )


def lost_zeros(champion: Champion, features: pa.Table) -> Iterator[str]:
    """Yield a note on each feature whose codes have lost leading zeros, as in spreadsheets: 501 instead of 00501."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = champion.folder / REFERENCE
    if not path.is_file():
        return
    learned = pq.read_table(path)
    for name in champion.definitions.feature_set.names():
        if name not in learned.column_names or {learned[name].type, features[name].type} != {pa.string()}:
            continue
        training_codes = set(learned[name].unique().drop_null().to_pylist())
        longer = {code.lstrip("0"): code for code in training_codes if code.isdigit() and code.startswith("0")}
        new_codes = set(features[name].unique().drop_null().to_pylist()) - training_codes
        if short := sorted(new_codes & set(longer)):
            yield (
                f"{name} has lost leading zeros: {short[0]!r} was {longer[short[0]]!r} in training, and is taken for a "
                "category that was never seen; write codes as texts, as the training files have them"
            )


def new_horizons(champion: Champion, features: pa.Table) -> Iterator[str]:
    """Yield a note naming requested horizons that the model was not trained for: it predicts as for the nearest one."""
    import pyarrow.compute as pc

    trained = FeatureTable.read(champion.folder / FEATURE_SET.name).forecast
    if trained is None or HORIZON not in features.column_names:
        return
    requested = {int(each) for each in pc.unique(features[HORIZON]).to_pylist() if each is not None}
    if new := sorted(requested - set(trained.horizons)):
        steps = ", ".join(map(str, new[:NAMED])) + (f" and {len(new) - NAMED} more" if len(new) > NAMED else "")
        yield (
            f"version {champion.version.version} never learned to forecast {steps} steps ahead, only "
            f"{', '.join(map(str, trained.horizons))}: these rows are guesses; `refit run` trains one for the "
            "horizons that params.yaml asks for"
        )
