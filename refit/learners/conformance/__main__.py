"""The fresh process of the conformance checks: loads stored learners without pickle, and fits each again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from refit.files.artifacts import read_json
from refit.learners import load, make, safe
from refit.learners.conformance.subject import bits


def _reports(folder: Path) -> Iterator[dict[str, object]]:
    """Report the predictions of each stored learner, loaded without pickle, and the digest of a new fit."""
    import pyarrow.parquet as pq

    for each in sorted(folder.iterdir()):
        trusted = tuple(read_json(each / "trusted.json"))
        with safe.no_pickle():
            learner = load(each / "stored", trusted_types=trusted)
            predicted = learner.predict(pq.read_table(each / "seen.parquet"))
        train = pq.read_table(each / "train.parquet")
        again = make(learner.spec)
        again.fit(train.drop_columns(["label"]), train["label"].to_numpy())
        yield {
            "predicted": bits(predicted),
            "digest": learner.digest(),
            "threshold": learner.threshold,
            "fitted_again": again.digest(),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(_reports(Path(sys.argv[1])))) + "\n")
