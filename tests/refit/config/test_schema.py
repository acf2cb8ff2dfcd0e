"""The schema that editors use says what `params.yaml` may say: no more, no less, and with words and units."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import refit_in
from jsonschema import Draft202012Validator

from refit.config import override, parse
from refit.config.schema import FILE, params_schema, unit_of, written
from refit.errors import UserError

SCHEMA = params_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
PROJECTS = [
    "params.yaml",
    *sorted(
        f"examples/{each.parent.name}/params.yaml" for each in Path(__file__).parents[3].glob("examples/*/params.yaml")
    ),
]


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in {"Params": schema, **schema["$defs"]}.items():
        yield from ((f"{name}.{key}", field) for key, field in part.get("properties", {}).items())


def complaints(raw: object) -> list[str]:
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in VALIDATOR.iter_errors(raw)]


def test_the_schema_in_the_repository_is_what_the_code_generates(root: Path) -> None:
    assert (root / FILE).read_text(encoding="utf-8") == written(), f"refit params-schema > {FILE}"
    Draft202012Validator.check_schema(SCHEMA)


def test_every_key_of_the_params_says_what_it_means() -> None:
    assert [name for name, field in fields(SCHEMA) if not field.get("description")] == []


@pytest.mark.slow
def test_a_command_prints_it_and_a_new_project_has_it_and_is_valid(root: Path, tmp_path: Path) -> None:
    assert refit_in(tmp_path, "params-schema").stdout == written()
    done = refit_in(tmp_path, "init", "demo", "--no-git")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "demo/params.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={FILE}\n")
    assert (tmp_path / "demo" / FILE).read_text(encoding="utf-8") == written()
    assert complaints(yaml.safe_load(text)) == []


def is_number(field: Any) -> bool:
    """Whether a value, or one in it, is a number and never a text, which has no unit."""
    inner = [*field.get("anyOf", ()), field.get("items", {}), field.get("additionalProperties") or {}]
    kinds = {each.get("type") for each in (field, *inner) if isinstance(each, dict)}
    return bool(kinds & {"number", "integer"}) and "string" not in kinds


def test_every_number_of_the_params_has_a_unit() -> None:
    numbers = [(name, field) for name, field in fields(SCHEMA) if is_number(field)]
    assert len(numbers) > 50
    assert [name for name, field in numbers if not unit_of(field)] == []
    assert [name for name, field in numbers if not field["description"].endswith(f"(unit: {unit_of(field)})")] == []


@pytest.mark.parametrize("path", PROJECTS)
def test_every_project_of_the_repository_is_valid_and_names_the_schema(root: Path, path: str) -> None:
    text = (root / path).read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert ((root / path).parent / first.partition("=")[2]).resolve() == root / FILE
    assert complaints(yaml.safe_load(text)) == []


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "a misspelt key": ({"drift.cooldwn_days": 3}, "drift"),
    "a misspelt section": ({"evaluat.slices": []}, "evaluat"),
    "a text for a number": ({"drift.cooldown_days": "7"}, "drift.cooldown_days"),
    "a number out of bounds": ({"evaluate.gate.alpha": 0.9}, "evaluate.gate.alpha"),
    "a word that is none of those": ({"ingest.period": "year"}, "ingest.period"),
    "a fraction of a row": ({"evaluate.gate.min_rows": 1.5}, "evaluate.gate.min_rows"),
    "a type that no column has": (
        {"ingest.sources.flights.columns.year": "whole"},
        "ingest.sources.flights.columns.year",
    ),
    "a name with a capital": ({"project.name": "Flights"}, "project.name"),
    "no learner": ({"train.learners": []}, "train.learners"),
    "an argument of a learner in the wrong place": ({"train.learners.boosting.max_iter": 3}, "train.learners.2"),
    "an option of another kind of problem": (
        {"train.task": "association", "train.problem": {"separatr": ";"}},
        "train.problem",
    ),
    "a step of nothing": (
        {"train.learners.boosting.search": {"max_iter": {"low": 1, "high": 3, "step": 0}}},
        "train.learners.2.search.max_iter.step",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_run_refuses_the_schema_refuses_at_its_place(root: Path, wrong: str) -> None:
    changes, place = WRONG[wrong]
    raw = override(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")), changes)
    with pytest.raises(UserError):
        parse(raw)
    said = complaints(raw)
    assert said, wrong
    assert any(each.startswith((place, ": ")) for each in said), said
    assert place.rpartition(".")[2] in " ".join(said), said


def test_an_editor_is_given_words_to_choose_from_and_no_settings_to_paste() -> None:
    train = SCHEMA["$defs"]["TrainParams"]["properties"]
    assert "forecast" in train["task"]["anyOf"][0]["enum"]
    sections = [field for _, field in fields(SCHEMA) if "$ref" in field]
    assert len(sections) > 10
    assert not any("default" in field for field in sections)
    assert SCHEMA["$defs"]["TextParams"]["properties"]["params"]["default"]["ngram_range"] == [1, 2]
    assert json.dumps(SCHEMA).count('"title"') == 1


def test_a_task_of_an_installed_package_is_no_error_in_an_editor(root: Path) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    assert complaints(override(raw, {"train.task": "ranking", "train.problem": {"top": 3}})) == []
