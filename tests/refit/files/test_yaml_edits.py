"""A value that a command changes in params.yaml leaves every other line, comment and value as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit.errors import UserError
from refit.files.yaml_edits import edited, set_values
from refit.files.yaml_files import read_yaml

PARAMS = """# the project
project: {name: demo}

drift:  # the watch
  # most days
  retrain_on: [performance, schedule]  # and nothing else
  min_effect:
    psi: 0.2

# how models are trained
train:
  alpha: 1
"""


def test_values_are_set_and_added_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    set_values(path, "drift", {"retrain_on": ("performance",), "alpha": 0.2, "retrain_every_days": None})
    assert path.read_text() == PARAMS.replace("[performance, schedule]", '["performance"]').replace(
        "    psi: 0.2\n", "    psi: 0.2\n  alpha: 0.2\n  retrain_every_days: null\n"
    )
    assert read_yaml(path)["drift"]["min_effect"] == {"psi": 0.2}
    assert read_yaml(path)["train"] == {"alpha": 1}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "  min_effect:\n    # in nats\n    psi: 0.1  # a lot\n    missing: 0.5\n",
            "    psi: 0.2  # a lot\n    missing: 0.5\n",
        ),
        ("  min_effect: {psi: 0.1, missing: 0.5}  # both\n", '  min_effect: {"psi": 0.2, "missing": 0.5}  # both\n'),
        ("  alpha: 0.1\n", '  breached: 1\n  min_effect: {"psi": 0.2}\n'),
        ("  min_effect:\n", "  min_effect:\n    psi: 0.2\n"),
        ("  min_effect: 3\n", '  min_effect: {"psi": 0.2}\n'),
    ],
)
def test_keys_of_a_mapping_are_set_and_its_others_stay(tmp_path: Path, written: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"drift:\n{written}  breached: 2\ntrain: {{}}\n")
    others = (read_yaml(path)["drift"].get("min_effect") or {}) if "missing" in written else {}
    set_values(path, "drift", {"min_effect": {"psi": 0.2}, "breached": 1})
    assert expected.removesuffix("\n") in path.read_text()
    assert read_yaml(path)["drift"]["min_effect"] == others | {"psi": 0.2}
    assert read_yaml(path)["drift"]["breached"] == 1
    assert read_yaml(path)["train"] == {}


@pytest.mark.parametrize("dash", ["  - ", "    - "])
def test_a_list_on_lines_of_its_own_is_replaced(dash: str) -> None:
    before = f"drift:\n  retrain_on:  # why\n{dash}input\n{dash}schedule\n  alpha: 0.1\n"
    after = 'drift:\n  retrain_on: ["performance"] # why\n  alpha: 0.1\n'
    assert edited(before, "drift", {"retrain_on": ("performance",)}) == after


def test_a_missing_section_is_added_at_the_end() -> None:
    assert edited("a: 1\n", "drift", {"breached": 1}) == "a: 1\ndrift:\n  breached: 1\n"


@pytest.mark.parametrize("written", ["drift: {alpha: 0.1}\n", "drift:\n  alpha: |\n    text\n"])
def test_a_section_in_another_form_is_left_alone_and_the_lines_are_named(tmp_path: Path, written: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(written)
    with pytest.raises(UserError, match=r"enter it yourself: alpha: 0\.2"):
        set_values(path, "drift", {"alpha": 0.2})
    assert path.read_text() == written


@pytest.mark.parametrize("value", [0.00002, -3e-7, 1e20, 0.1, 2.0])
def test_a_number_of_any_size_is_a_number_when_read_again(tmp_path: Path, value: float) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("drift:\n  alpha: 0.1\n  min_effect: {psi: 0.1}\n")
    set_values(path, "drift", {"alpha": value, "min_effect": {"psi": value}})
    assert read_yaml(path)["drift"] == {"alpha": value, "min_effect": {"psi": value}}


def test_what_is_to_be_entered_by_hand_keeps_the_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("drift: {min_effect: {psi: 0.1, missing: 0.5}}\n")
    with pytest.raises(UserError, match=r'enter it yourself: min_effect: \{"psi": 0\.2, "missing": 0\.5\}'):
        set_values(path, "drift", {"min_effect": {"psi": 0.2}})
