"""Two clones as two machines, with one MLflow server on PostgreSQL and S3: the promise holds as on one machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from servers import BUCKET, Database, aws_server, mlflow_server, postgresql_server  # noqa: F401
from teams import Team

from registry.ledger import Ledger

pytestmark = pytest.mark.slow
LENIENT = [f"--set=evaluate.gate.{key}" for key in ("max_loss=0.5", "min_gain_over_baseline=0")]


@pytest.fixture
def team(postgresql_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:  # noqa: F811
    for name in ("mlflow", "refit"):
        Database(postgresql_server, name).create()
    database = f"{postgresql_server.replace('postgresql', 'postgresql+psycopg')}/mlflow"
    with aws_server() as aws, mlflow_server(database, f"s3://{BUCKET}/mlflow", **aws) as url:
        yield Team({"MLFLOW_TRACKING_URI": url, "REFIT_LEDGER_URI": f"{postgresql_server}/refit"}, tmp_path)


def test_what_one_machine_decides_holds_on_every_other_and_outlives_it(team: Team, finished: Path) -> None:
    one, two = team.clone("one", finished), team.clone("two", finished)
    team.refit(one, "run")
    assert team.moves == [("promote", None, "1")]

    strengths = (0.5, 0.6)
    processes = [
        team.start(clone, "run", *LENIENT, f"--set=train.learners.logistic.params.C={strength}")
        for clone, strength in zip((one, two), strengths, strict=True)
    ]
    ended = [(process.communicate(timeout=900)[0], process.returncode) for process in processes]
    assert "Traceback" not in "".join(said for said, _ in ended)
    winner = team.champion
    assert winner in ("2", "3"), ended
    assert [each for each in team.moves if each[0] == "promote"] == [("promote", None, "1"), ("promote", "1", winner)]
    refused = [each.reasons for each in Ledger.of(team.store).entries("demo") if each.action == "refuse"]
    before_it_was_judged = [said for said, status in ended if status and "comparand.json names version 1" in said]
    # the one that ended first was champion already when the other began to compare, or it was not
    assert len(refused) + len(before_it_was_judged) == 1, ended
    lost = [
        "judged against version 1, but" in " ".join(said.split()) or "comparand.json names version 1" in said
        for said, _ in ended
    ]
    assert sorted(lost) == [False, True], ended
    if refused:
        assert f"it was judged against version 1, but version {winner} is the champion now" in " ".join(
            " ".join(said.split()) for said, _ in ended
        )

    team.refit(two, "rollback", "--why", "it misjudges renewals")
    said = team.refit(one, "run", *LENIENT, f"--set=train.learners.logistic.params.C={strengths[lost.index(False)]}")
    assert "it was replaced by hand" in " ".join(said.split()), "it is refused for the rollback, and not by the gate"
    assert team.champion == "1", "no run undoes what a person decided on another machine"

    shutil.rmtree(one)
    shutil.rmtree(two)
    three = team.clone("three", finished)
    assert "it misjudges renewals" in team.refit(three, "history")
    assert "version 1" in team.refit(three, "show")
    assert Ledger.of(team.store).examine().problem is None


def test_a_machine_with_a_ledger_of_its_own_moves_nothing(team: Team, finished: Path) -> None:
    alone = Team({name: value for name, value in team.environ.items() if name != "REFIT_LEDGER_URI"}, team.folder)
    one, two = team.clone("one", finished), alone.clone("two", finished)
    alone.refit(one, "run")
    assert "1 line about demo is in the ledger at postgresql://" in team.refit(one, "repair", "--move-ledger")
    assert team.moves == [("promote", None, "1")]
    said = alone.refit(two, "run", *LENIENT, "--set=train.learners.logistic.params.C=0.5", status=1)
    assert "the ledger of demo is another one, " in said
    assert "name one database for all machines (registry.ledger_uri: postgresql://" in said
    assert team.champion == "1"
    assert _lines(alone.refit(two, "promote", "2", "--why", "I want it", status=1))[-1].startswith("error: ")
    assert team.champion == "1"


def _lines(said: str) -> Sequence[str]:
    return said.strip().splitlines()
