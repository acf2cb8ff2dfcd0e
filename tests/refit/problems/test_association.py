"""Baskets go through all six stages; scored ones have the items that belong to them, and no explanation."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from driving import drive
from points_project import PARAMS

from flows.session import watching
from refit.errors import UserError
from refit.evaluation.details.association import AssociationDetails
from refit.files.artifacts import EVALUATION, MODEL_CARD, REPORTS, TABLE, read_json
from refit.new_project.project_folder import IGNORED, pipeline
from refit.runtime import dvc_runner
from refit.schemas.evaluation import Evaluation
from tasks import score
from tasks.score import reasons

SOURCE: dict[str, Any] = {
    "kind": "files",
    "path": "raw/*.txt",
    "header": False,
    "delimiter": "|",
    "columns": {"items": "text", "line": "integer"},
    "line_column": "line",
    "key": ["line"],
    "event_time": "timestamp '2024-01-01'",
}
TRAIN: dict[str, Any] = {
    "task": "association",
    "problem": {"separator": ";"},
    "seed": 0,
    "learners": [
        {"name": "popular", "kind": "baseline"},
        {"name": "rules", "kind": "fp_growth", "params": {"min_support": 0.05, "min_confidence": 0.5}},
    ],
}


@pytest.mark.slow
def test_baskets_go_through_all_stages_and_get_what_belongs_to_them(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="needs the extra [baskets]")
    project = tmp_path / "shop"
    (project / "raw").mkdir(parents=True)
    random, others = np.random.default_rng(0), [f"thing {n}" for n in range(9)]
    lines = []
    for _ in range(1200):
        pair = random.integers(12)  # a cup goes with its saucer
        lines.append(f"{random.choice(others)};cup {pair};saucer {pair}")
    (project / "raw/receipts.txt").write_text("\n".join(lines) + "\n")
    params = PARAMS | {
        "ingest": {"period": "day", "sources": {"receipts": SOURCE}},
        "featurize": {
            "label": {"source": "receipts", "delay_hours": 0},
            "split": {"test": 0.3, "validation": 0.2},
            "text": ["items"],
        },
        "train": TRAIN,
        "evaluate": {"gate": {"max_loss": 0.02, "min_gain_over_baseline": 0.0, "min_rows": 100, "cluster": "row"}},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    summary = drive(project)
    assert summary["model"]["alias"] == "champion", summary["decision"]["reasons"]
    evaluation = read_json(project / EVALUATION)
    assert evaluation["gains"]["baseline"]["hit_rate"]["lower"] > 0
    assert evaluation["metrics"]["candidate"]["rule_confidence"]["value"] > 0.9
    card = (project / MODEL_CARD).read_text()
    assert "hit rate of five items" in card
    _require_rules_of_the_test_baskets(project, card)
    file = tmp_path / "new.txt"
    file.write_text("saucer 7;thing 1\n")
    file = file.rename(tmp_path / "new.csv")
    with watching(project, trigger="test", wait_seconds=0) as context:
        score.run(context, str(file), out=tmp_path / "out.parquet")
        with pytest.raises(UserError, match="a basket is one feature"):
            reasons.run(context, str(file))
    (items,) = pq.read_table(tmp_path / "out.parquet")["prediction"].to_pylist()
    assert items.split(";")[0] == "cup 7"


def _require_rules_of_the_test_baskets(project: Path, card: str) -> None:
    """Their figures are those that counting the baskets of the test window by hand gives."""
    evaluation = Evaluation.read(project / EVALUATION)
    listed = evaluation.details.of_kind(AssociationDetails)
    window = pq.read_table(project / TABLE, filters=[("window", "=", "test")])
    baskets = [set(text.split(";")) for text in window["items"].to_pylist()]
    assert listed.baskets == len(baskets)
    rule = next(each for each in listed.rules if each.items == ("cup 7",) and each.adds == "saucer 7")
    applies = [basket for basket in baskets if "cup 7" in basket]
    share = sum("saucer 7" in basket for basket in baskets) / len(baskets)
    assert rule.baskets == len(applies) > 0
    assert rule.test.confidence == rule.training.confidence == 1.0
    assert rule.test.support == pytest.approx(len(applies) / len(baskets))
    assert rule.test.lift == pytest.approx(1 / share)
    assert "cup 7 &rarr; saucer 7" in card
    assert len(_orders(card)) == 8
    for places in _orders(card).values():
        assert sorted(places) == [*range(len(listed.rules))], "a rule has one place in each order"
    with (project / REPORTS / "plots/rules.csv").open() as file:
        assert len([*csv.DictReader(file)]) == len(listed.rules)


def _orders(card: str) -> dict[str, list[int]]:
    """The places of the rules of a card, row by row, in each of the orders that it offers."""
    rows = [dict(each.split(":") for each in row.split(";") if each) for row in re.findall('<tr style="(--.*?)"', card)]
    return {name: [int(row[name]) for row in rows] for name in rows[0]}
