"""Models and data on S3: six stages, a rollback and scores, and a new clone that has nothing but the bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests
from driving import drive, states
from servers import BUCKET, Database, aws_client, aws_server, mlflow_server, postgresql_server  # noqa: F401
from teams import Team

from flows.checkouts import bring_data
from refit.cli import running
from refit.errors import RefitError
from refit.runtime import dvc_remote, dvc_runner, run_file
from refit.runtime.registry_store import store_of

pytestmark = pytest.mark.slow
OTHER = {"evaluate.gate.max_loss": 0.5, "train.learners.logistic.params.C": 0.5}


@dataclass(frozen=True)
class OnS3(Team):
    """A team whose clones reach the bucket themselves, for DVC and for MLflow."""

    def clone(self, name: str, project: Path) -> Path:
        folder = super().clone(name, project)
        shutil.rmtree(folder / ".dvc/cache", ignore_errors=True)
        (folder / ".dvc/config").write_text(
            f"[core]\n    no_scm = true\n    remote = s3\n['remote \"s3\"']\n    url = s3://{BUCKET}/dvc\n"
        )
        return folder


@pytest.fixture
def team(postgresql_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnS3]:  # noqa: F811
    for name in ("mlflow", "refit"):
        Database(postgresql_server, name).create()
    database = f"{postgresql_server.replace('postgresql', 'postgresql+psycopg')}/mlflow"
    with aws_server() as aws, mlflow_server(database, f"s3://{BUCKET}/mlflow", serves=False) as url:
        environ = {"MLFLOW_TRACKING_URI": url, "REFIT_LEDGER_URI": f"{postgresql_server}/refit", **aws}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield OnS3(environ, tmp_path)


def bring(clone: Path) -> None:
    """What a worker or a job of CI does first."""
    params = run_file.params_of(clone)
    dvc_runner.repair(clone)
    bring_data(clone, store_of(clone, params), params)


def scores(clone: Path, rows: Path) -> Path:
    file = clone.parent / f"{clone.name}.parquet"
    running.score(clone, str(rows), as_of="now", out=file, wait_seconds=0, quiet=True)
    return file


def test_a_new_clone_goes_on_with_what_is_on_s3(team: OnS3, finished: Path) -> None:
    one, rows = team.clone("one", finished), finished / "raw/subscriptions.csv"
    drive(one)
    drive(one, overrides=OTHER)
    assert team.moves == [("promote", None, "1"), ("promote", "1", "2")]
    running.rollback(one, None, why="it misjudges renewals", wait_seconds=0)
    scored = pq.read_table(scores(one, rows))
    assert dvc_remote.push(one)
    stored = aws_client("s3", team.environ).list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {each["Key"].split("/")[0] for each in stored} == {"dvc", "mlflow"}
    shutil.rmtree(one)

    two = team.clone("two", finished)
    bring(two)
    summary = drive(two, overrides=OTHER)
    assert "executed" not in states(summary)[1:4], "what the first clone has made comes back"
    assert team.champion == "1", "what a person rolled back stays rolled back"
    assert pq.read_table(scores(two, rows)).equals(scored)

    requests.post(f"{team.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth", data="0")  # now S3 knows nobody
    three = team.clone("three", finished)
    for action in (lambda: bring(three), lambda: scores(three, rows), lambda: drive(three)):
        with pytest.raises(RefitError) as refused:
            action()
        assert "\n" not in str(refused.value)
        assert "newest 2 versions is in DVC's remote" in str(refused.value) or "S3 refuses it" in str(refused.value)
    assert team.champion == "1"
