"""The fresh process of the conformance checks: loads stored learners without pickle, and fits each again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from refit.files.artifacts import read_json
from refit.learners import load, make, safe
from refit.learners.conformance.subject import bits
from refit.learners.contract import Start


def _reports(folder: Path) -> Iterator[dict[str, object]]:
    """Report the predictions of each stored learner, loaded without pickle, and the digest of a new fit."""
    import pyarrow.parquet as pq

    for each in sorted(folder.iterdir()):
        trusted = tuple(read_json(each / "trusted.json"))
        with safe.no_pickle():
            learner = load(each / "stored", trusted_types=trusted)
            predicted = learner.predict(pq.read_table(each / "seen.parquet"))
        train = pq.read_table(each / "train.parquet")
        again = make(replace(learner.spec, start=_start(each / "start.json")))
        again.fit(train.drop_columns(["label"]), train["label"].to_numpy())
        yield {
            "predicted": bits(predicted),
            "digest": learner.digest(),
            "threshold": learner.threshold,
            "fitted_again": again.digest(),
        }


def _start(path: Path) -> Start | None:
    """What the fit starts from, if it starts from anything."""
    if not path.is_file():
        return None
    entries = read_json(path)
    return Start(Path(entries.pop("folder")), **entries)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(_reports(Path(sys.argv[1])))) + "\n")
