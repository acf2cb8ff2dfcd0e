"""Profiles the rows that a model learns from, by day, small enough to be stored with it as drift reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from feature_store.offline import configure
from feature_store.sketches import Sketch, count, local_day, make_layout
from refit.config.windows import LEARNED
from refit.errors import RefitError
from refit.files import artifacts
from refit.schemas.feature_table import FeatureColumns
from refit.schemas.profile import Profile
from refit.storage.arrays import summarised, summary_names
from tasks.featurize.table import StoredTable

if TYPE_CHECKING:
    import pyarrow as pa


def profile(table: pa.Table | StoredTable, columns: FeatureColumns, zone: ZoneInfo) -> Sketch:
    """Sketch each feature and `label` (a category unless it is a number) of the rows to learn from, by day.

    The layout is made from the same rows, so none of their values is unseen. Texts are counted by length,
    arrays by numbers that describe them.
    """
    import duckdb
    import pyarrow as pa

    numbers, categories = [*columns.numeric], [*columns.categorical]
    numbers += [each for name, array in columns.arrays.items() for each in summary_names(name, array)]
    (numbers if pa.types.is_floating(table.schema.field("label").type) else categories).append("label")
    learned = f'(select * from features where "window" in {LEARNED})'
    with duckdb.connect() as connection:
        configure(connection)
        if isinstance(table, StoredTable) and not columns.arrays:
            connection.execute(f"create view features as select * from {table.relation}")
        else:
            rows = table.read() if isinstance(table, StoredTable) else table
            connection.register("features", summarised(rows, columns.arrays))
        layout = make_layout(connection, learned, numbers, categories, columns.text)
        return count(connection, learned, layout, local_day("event_time", zone))


def write_profile(sketch: Sketch, folder: Path) -> None:
    """Write the layout as `profile.json` and the counts as `profile.parquet`."""
    import pyarrow.parquet as pq

    Profile.of(sketch.layout).write(folder / artifacts.PROFILE.name)
    with artifacts.atomic(folder / artifacts.PROFILE_COUNTS.name) as scratch:
        pq.write_table(sketch.to_arrow(), scratch, compression="zstd")


def read_profile(folder: Path) -> Sketch:
    """Read the profile from the folder of a model, or of the features.

    Raises:
        RefitError: a file is missing, or the files do not belong together.
    """
    import pyarrow.parquet as pq

    path, counts = folder / artifacts.PROFILE.name, folder / artifacts.PROFILE_COUNTS.name
    content = artifacts.read_json(path)
    if "columns" not in content or not counts.is_file():
        raise RefitError(
            f"{folder} has no profile by day: the model was made by an older Refit; retrain it to watch it for drift"
        )
    try:
        return Sketch.from_arrow(pq.read_table(counts), Profile.from_json(content, str(path)).layout())
    except ValueError as error:
        raise RefitError(f"{counts}: {error}; restore the folder") from None
