"""A champion goes from one environment to another with its evidence, and is judged there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import refit_in

from refit.cli import running
from refit.files.artifacts import read_json, sha256
from refit.operations import reproduce
from refit.runtime import environments, registry_store, run_file
from refit.runtime.context import Context
from registry import versions
from registry.ledger import Entry, Ledger

PRODUCTION = "registry: {tracking_uri: sqlite:///production/mlflow.db}\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "")


def refit(project: Path, *arguments: str) -> tuple[int, str]:
    done = refit_in(project, *arguments)
    os.environ["REFIT_ENV"] = ""  # which `--env` has set in this process
    return done.returncode, done.stdout + done.stderr


def registered(project: Path, environment: str) -> tuple[dict[str, str], versions.Version | None, list[Entry]]:
    """The aliases, version 1 and the ledger of an environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_ENV", environment)
        store = registry_store.store_of(project, run_file.params_of(project))
    aliases = dict(versions.registered(store, "demo").aliases)
    return aliases, versions.version(store, "demo", "1"), Ledger.of(store).entries("demo")


@pytest.mark.slow
def test_a_champion_is_moved_with_its_evidence_and_rolled_back_and_reproduced_there(project: Path) -> None:
    (project / "params.production.yaml").write_text(PRODUCTION)
    before = {path: sha256(project / path) for path in ("models/training.json", "reports/decision.json", "dvc.lock")}
    status, said = refit(project, "promote", "1", "--to", "production")
    assert status == 0, said
    assert "version 1 of demo in params.yaml" in said
    assert "and champion" in said
    assert {path: sha256(project / path) for path in before} == before
    assert refit(project, "status")[1].count("up to date") == 6

    _, here, (first, *_) = registered(project, "")
    aliases, there, (line,) = registered(project, "production")
    assert here is not None
    assert there is not None
    assert aliases == {"challenger": "1", "champion": "1"}
    assert (line.action, line.from_version, line.to_version) == ("promote", None, "1")
    assert line.trigger.startswith("refit promote --to production; from version 1 of demo in params.yaml (sqlite:///")
    for key in ("model_digest", "manifest", "snapshot"):
        assert line.digests[key] == first.digests[key]
    for key in ("refit.git_commit", "refit.params", "refit.manifest", "refit.seen_until"):
        assert there.tags.get(key) == here.tags.get(key)
    assert there.tags["refit.origin"].startswith("version 1 of demo in params.yaml")

    status, said = refit(project, "promote", "1", "--to", "production")
    assert status == 0, said
    assert len(registered(project, "production")[2]) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_ENV", "production")
        context = Context(project, run_file.params_of(project))
        *_, model = reproduce.reproduce(context, "1")
    assert model.same


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str]]:
    """The environment and the event of what commands announce to the receivers that the params there name."""
    events: list[tuple[str | None, str]] = []

    def announce(context: Context, event: str, version: str, text: str) -> None:
        assert context.params.notify
        events.append((environments.current(), event))

    monkeypatch.setattr(running, "announce_by_hand", announce)
    return events


@pytest.mark.slow
def test_the_gate_of_the_other_environment_decides_and_a_person_may_have_to_approve(
    project: Path, announced: list[tuple[str | None, str]]
) -> None:
    (project / "params.strict.yaml").write_text(f"{PRODUCTION}evaluate: {{gate: {{min_rows: 1000000}}}}\n")
    status, said = refit(project, "promote", "1", "--to", "strict")
    assert status == 2, said
    assert "and not champion: " in said
    assert registered(project, "strict")[0] == {"challenger": "1"}
    status, said = refit(project, "promote", "1", "--to", "strict", "--why", "few rows are all that we have")
    assert status == 0, said
    assert [each.action for each in registered(project, "strict")[2]] == ["refuse", "overrule"]

    careful = "registry: {tracking_uri: sqlite:///careful/mlflow.db}\nregister: {approval: required}\n"
    careful += "notify: [{'on': [approval, promotion], block: webhook/pager}]\n"
    (project / "params.careful.yaml").write_text(careful)
    status, said = refit(project, "promote", "1", "--to", "careful")
    assert status == 0, said
    assert "waits for a person's approval" in said
    assert announced == [("careful", "model.awaits-approval")]
    status, said = refit(project, "--env", "careful", "approve", "1", "--why", "seen")
    assert status == 0, said
    assert [each.action for each in registered(project, "careful")[2]] == ["await", "promote"]
    assert refit(project, "--env", "careful", "promote", "1")[0] == 0  # which it is already
    assert announced[1:] == [("careful", "model.promoted")]
    assert read_json(project / "models/receipt.json")["version"] == "1"


def test_what_has_not_proved_itself_does_not_go_further(project: Path) -> None:
    (project / "params.production.yaml").write_text(PRODUCTION)
    for version, environment, expected in (
        ("7", "production", "has no version '7'"),
        ("1", "nowhere", "has no params.nowhere.yaml"),
    ):
        status, said = refit(project, "promote", version, "--to", environment)
        assert (status, expected in said) == (2, True), said
    status, said = refit(project, "--env", "production", "promote", "1", "--to", "production")
    assert (status, "is the environment that this command works in" in said) == (2, True), said
    (project / "params.production.yaml").write_text(PRODUCTION + "ingest: {complete_within_hours: 5}\n")
    status, said = refit(project, "promote", "1", "--to", "production")
    assert (status, "with other sources than production" in said) == (2, True), said
    assert not (project / "production").exists()


def test_a_version_is_not_moved_while_a_run_checks_its_own_download(project: Path) -> None:
    (project / "params.production.yaml").write_text(PRODUCTION)
    copy = project / ".refit/models/.copy-of-a-run"
    copy.mkdir(parents=True)
    hold = "import sys; from pathlib import Path; from refit.runtime.lock import project_lock\n"
    hold += "with project_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(project)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        status, said = refit(project, "promote", "1", "--to", "production")
        holder.communicate("")
    assert (status, f"is held by pid {holder.pid}" in said) == (1, True), said
    assert copy.is_dir()
