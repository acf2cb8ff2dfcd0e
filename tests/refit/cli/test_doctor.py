"""`refit doctor` on the environment: what Python and which releases of libraries Refit runs with."""

from __future__ import annotations

import json
import socket
import sys
import tomllib
from pathlib import Path

import pytest
from commands import refit_in
from packaging.specifiers import SpecifierSet

from refit.cli import doctor
from refit.runtime import dvc_remote


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


@pytest.mark.ci
def test_a_store_that_does_not_answer_is_one_finding_and_nothing_is_said_against_the_champion(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = refit_in(project, "doctor", "--json").stdout
    assert "mlflow.db answers" in in_order
    assert "ledger.db answers" in in_order
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    for variable, uri in (("REFIT_LEDGER_URI", "postgresql"), ("MLFLOW_TRACKING_URI", "http")):
        with monkeypatch.context() as patched:
            patched.setenv(variable, f"{uri}://ann:hunter2@{nobody}/team")
            done = refit_in(project, "doctor", "--json")
        findings = json.loads(done.stdout.splitlines()[-1])["findings"]
        assert done.returncode == 1
        assert [each["what"] for each in findings if each["level"] == "error" and nobody in each["what"]]
        assert [each["level"] for each in findings].count("error") == 1
        assert [each["level"] for each in findings if "not checked: the champion" in each["what"]] == ["warning"]
        assert "cannot be trusted" not in done.stdout
        assert "hunter2" not in done.stdout


def test_stores_that_the_first_run_makes_are_not_said_to_answer(tmp_path: Path, root: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    said = [each.what for each in doctor._project(tmp_path)]
    assert f"ledger {tmp_path / '.refit/ledger.db'} is not there yet" in said
    assert f"registry {tmp_path / '.refit/mlflow.db'} is not there yet" in said
    assert not (tmp_path / ".refit").exists()


def test_the_doctor_names_the_remote_of_dvc_and_whether_it_answers(tmp_path: Path) -> None:
    assert dvc_remote.asked(tmp_path) is None, "no DVC repository"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        "[core]\nremote = team\nno_scm = true\n['remote \"team\"']\nurl = ../shared\n"
    )
    assert doctor._remote(tmp_path).what == f"DVC's remote {tmp_path / 'shared'} answers"
