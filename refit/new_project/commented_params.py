"""The text of a new project's params.yaml, with its comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from refit.config import schema
from refit.files.yaml_files import YamlTree
from refit.new_project.table_reading import TableReading
from refit.schemas.feature_table import Giveaway

_COMMENTS: Mapping[str, str] = {
    "ingest": "Where rows come from: every file that matches `path`, or the rows of `query`. New ones: run again.",
    "validate": "What a batch must fulfil, under Great Expectations' own names; rows that do not go to quarantine.",
    "featurize": "What is learned from: the columns of `cases` as they are. Over time: Refit's docs/features.md.",
    "train": "What is tried: any scikit-learn-compatible estimator by import path. Scored on the validation window.",
    "evaluate": "What it takes for a new model to be promoted.",
    "cost": "The price of a CPU hour, to tell trainings and predictions in money.",
    "drift": "What is watched between two trainings: `refit drift`.",
}


_OF_SERIES: Mapping[str, str] = {
    **_COMMENTS,
    "featurize": "What is learned from: each series' own past and the calendar. More: Refit's docs/forecasting.md.",
    "train": "What is tried: learners of the change from a level. They must beat the season before.",
}


def commented(
    params: YamlTree, reading: TableReading, excluded: Sequence[Giveaway] = (), *, generated: bool = False
) -> str:
    """Return the text of params.yaml, which says why each section and each unusual setting is there.

    Args:
        excluded: the features that `featurize.exclude` leaves out because they give the label away.
        generated: whether the table is Refit's own.
    """
    parts = [
        schema.first_line(),
        "# What this project learns, and what it takes for one of its models to be promoted.\n",
    ]
    if generated:
        parts.append("# The table in raw/ is GENERATED, to have something that runs; no score on it means anything.\n")
    for section, content in params.items():
        if comment := (_OF_SERIES if reading.series else _COMMENTS).get(section):
            parts.append(f"\n# {comment}\n")
        if section == "featurize" and excluded:
            parts += [f"# `exclude`: {leak}: likely known only with the label, or after it.\n" for leak in excluded]
            parts.append("# If it is known when predictions are made, delete it from that list.\n")
        parts.append(yaml.safe_dump({section: content}, sort_keys=False, width=110, allow_unicode=True))
    if reading.time and params["evaluate"]["gate"]["cluster"] == "row":
        parts.append(
            "# `cluster: row`: the test window has fewer than 20 days, so rows are taken as independent.\n"
            "# Name a column to cluster by if rows belong together (a customer, a machine).\n"
        )
    if "min_clusters" in params["evaluate"]["gate"]:
        parts.append(
            "# `min_clusters`: the test window has fewer than 20 moments. By so few the gate errs more often than\n"
            "# `alpha` says where a model's errors last (Refit's docs/gate.md); a longer history has more.\n"
        )
    return "".join(parts)
