"""A default is stated once: what repeats one, in code or in the docs, says the same as the params do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from refit.config import DriftParams, GateParams, Params, default_of
from refit.config.drift import MinEffectParams
from refit.config.evaluate import EvaluateParams
from refit.schemas.drift_decision import DecisionPolicy


def test_the_policy_of_a_decision_is_the_params_of_drift_with_metric_and_confidence() -> None:
    drift = DriftParams(windows=4, min_effect=MinEffectParams(psi=0.3))
    policy = DecisionPolicy.of(drift, EvaluateParams(confidence=0.8, gate=GateParams(metric="brier")))
    assert policy.model_dump() == {**drift.model_dump(), "metric": "brier", "confidence": 0.8}


def tables(text: str) -> list[tuple[str, dict[str, str]]]:
    """The section and the stated defaults of each table of params: its head names the section and a default."""
    found = []
    for head, body in re.findall(
        r"^\| `(\w+):` in `params.yaml` \| default \|.*\n\|[ \-|]+\n((?:\|.*\n)+)", text, re.M
    ):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in body.splitlines()]
        found.append((head, {row[0].strip("`"): row[1] for row in rows}))
    return found


def test_tables_and_lines_of_defaults_in_the_docs_say_what_the_params_say(root: Path) -> None:
    seen = 0
    for path in sorted((root / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for section, stated in tables(text):
            for key, value in stated.items():
                assert json.loads(value) == json.loads(default_of(section, key) or "{}"), (
                    f"{path.name}: {section}.{key}"
                )
                seen += 1
        for section, keys in re.findall(r"^(\w+): (\{.*\})\s+# the defaults$", text, re.M):
            for key, value in yaml.safe_load(keys).items():
                assert value == json.loads(default_of(section, key) or "{}"), f"{path.name}: {section}.{key}"
                seen += 1
    assert seen >= 8


def test_values_that_the_reference_project_marks_as_drifts_defaults_are_those(root: Path) -> None:
    """Its params are what newcomers copy: a section written out there is the one that a project without it has."""
    written = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    kinds = {field.alias or name: field.annotation for name, field in Params.model_fields.items()}
    for section in ("drift", "retention", "cost", "registry", "register"):
        kind: Any = kinds[section]
        assert kind.model_validate_json(json.dumps(written[section])) == kind(), section
