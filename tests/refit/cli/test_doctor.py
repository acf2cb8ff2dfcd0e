"""`refit doctor` on the environment: what Python and which releases of libraries Refit runs with."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from refit.cli import doctor


def levels(findings: list[doctor.Finding], words: str) -> list[str]:
    return [finding.level for finding in findings if words in finding.what]


def test_the_versions_of_python_are_those_of_the_package(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (oldest, newest), allowed = (doctor.OLDEST, doctor.NEWEST), SpecifierSet(project["requires-python"])
    versions = [f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in allowed]
    assert versions == [f"3.{minor}" for minor in range(oldest[1], newest[1] + 1)]
    assert " ".join(minor for minor in versions) in (root / "Makefile").read_text(), "set-up looks for the same ones"


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10), "error"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "error")]
)
def test_a_python_that_refit_does_not_run_on_is_an_error(
    version: tuple[int, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    assert levels(list(doctor._python()), "Python 3") == [level]


def test_a_library_outside_of_the_range_that_refit_needs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "_required", lambda: {"duckdb": SpecifierSet(">=99"), "no-such-library": SpecifierSet()}
    )
    findings = list(doctor._libraries())
    assert levels(findings, "missing: no-such-library") == ["error"]
    assert levels(findings, "(Refit needs >=99)") == ["error"]
    assert levels(findings, "as pinned") == []


def test_a_library_that_is_not_as_pinned_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_pins", lambda: {"duckdb": "1.0"})
    assert levels(list(doctor._libraries()), "(pinned 1.0)") == ["warning"]
