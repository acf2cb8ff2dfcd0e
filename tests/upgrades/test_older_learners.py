"""Learners stored by earlier versions: before their files had schemas, and when skops named our own classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import load
from refit.schemas.association_rules import AssociationRules
from refit.schemas.online_state import LinearState, PartialFitState

STORED = Path(__file__).parent / "learners"
STREAM = pa.table({"x": [0.12573022, -0.13210486, 0.64042265], "z": [0.10490012, -0.53566937, 0.36159505]})
POINTS = pa.table({"x": [0.126, -0.132, 0.64], "y": [10.49, -5.357, 3.616], "z": [-0.7, 1.2, 0.31]})
BASKETS = pa.table({"items": ["bread,butter,lemon,tea", "milk", "figs,salt"]})


@pytest.mark.parametrize(
    ("name", "rows", "package", "digest"),
    [
        ("online_linear", STREAM, "river", "9848faff3877f40a769b09ebbd72d5951d9e59205ddc09a2956bbc405c03f4e7"),
        ("online_river", STREAM, "river", "35c470caafb982103891f2268d1ad083fa92e2be8ed8bc9ef7d6fe5fb192ddcf"),
        ("online_partial_fit", STREAM, "sklearn", "277e4074d1f9a4a380f9683bed3615d82a933517b62a465010db23ee09e950c0"),
        ("fp_growth", BASKETS, "refit", "dbcd6c1d5a53bc714533c36f2aa31a916ca305ea72cc3f57e1cda6d37fe37ea9"),
        ("ecod", POINTS, "refit", "3129d4626ab2d52c18328dda32c66db5455ce5630684bcbf2dba895b71e170ca"),
        ("autoencoder", POINTS, "refit", "9104e410bbdca96f68df8102f47a138a97bf239590539108f542b4c594ccc2b3"),
        ("baseline", STREAM, "refit", "cbfe8c5502cdb7f6d362ce0da3f764a5396d0a838553aa61ac73cdf648ba1394"),
    ],
)
def test_an_older_learner_has_its_digest_and_predicts(
    name: str, rows: pa.Table, package: str, digest: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    learner = load(STORED / name)
    assert learner.digest() == digest
    predicted = learner.predict(rows)
    assert np.isfinite(predicted).all()
    (tmp_path / "after").mkdir()
    learner.save(tmp_path / "after")
    again = load(tmp_path / "after")
    assert again.digest() == digest
    assert (again.predict(rows) == predicted).all()


def test_older_files_have_the_values_that_todays_have() -> None:
    rules = STORED / "fp_growth/rules.json"
    assert AssociationRules.read(rules).to_json() == json.loads(rules.read_text())
    for name, schema in (
        ("online_linear/model/linear", LinearState),
        ("online_partial_fit/model/vectors", PartialFitState),
    ):
        file = STORED / f"{name}.json"
        assert schema.read(file).to_json() == json.loads(file.read_text())
