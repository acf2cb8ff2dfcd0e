"""What `refit deploy` writes for a server that other projects use too, and what it refuses to deploy."""

from __future__ import annotations

import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from flows import checkouts, deploying, deployments
from flows.deployed_run import CLONE, IMAGE, refusal, refusal_without_project
from flows.services.processes import Started
from flows.services.service_state import PREFECT, write_record
from refit.config import Params
from refit.errors import UserError
from registry import tracking
from registry.store import Store

DECLARED = yaml.safe_load(deployments.prefect_yaml("demo", "UTC"))
STEP = {CLONE: {"repository": "https://example.org/r.git", "commit": "0" * 40, "project": "."}}


class Unauthorized(BaseHTTPRequestHandler):
    """Knows no user."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _refuse

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def as_stored(entry: dict[str, Any], content: dict[str, Any]) -> Any:
    """A deployment as the server has it after `refit deploy`."""
    return SimpleNamespace(
        name=entry["name"],
        entrypoint=entry["entrypoint"],
        path=None,
        pull_steps=content["pull"],
        parameters=entry["parameters"],
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, and a remote `origin` that has none."""
    folder = tmp_path / "clone"
    (folder / "churn").mkdir(parents=True)
    (folder / "churn/params.yaml").write_text("project: {name: demo}\n")
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "A project")
    return folder


def test_a_worker_clones_the_commit_that_was_pushed_and_works_in_the_project(repository: Path) -> None:
    with pytest.raises(UserError, match=r"is not in .* as far as this clone knows; `git push` it first"):
        deploying.origin_of(repository / "churn")
    git(repository, "push", "-q", "origin", "main")
    origin = deploying.origin_of(repository / "churn")
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert (origin.commit, origin.folder) == (head.stdout.strip(), "churn")
    assert "access_token" not in origin.step(None)[CLONE]
    assert origin.step("reader")[CLONE]["access_token"] == "{{ prefect.blocks.secret.reader }}"
    (repository / "churn/features.py").write_text("")
    with pytest.raises(UserError, match=r"not committed: churn/features\.py; commit and push it first"):
        deploying.origin_of(repository / "churn")


def test_a_commit_that_only_another_remote_has_is_not_at_origin(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "fork.git")
    git(repository, "remote", "add", "fork", str(tmp_path / "fork.git"))
    git(repository, "push", "-q", "fork", "main")
    with pytest.raises(UserError, match="`git push` it first"):
        deploying.origin_of(repository)


def test_a_commit_that_the_default_branch_lacks_is_warned_of(repository: Path) -> None:
    git(repository, "push", "-q", "origin", "main")
    git(repository, "switch", "-q", "-c", "try")
    (repository / "churn/features.py").write_text("")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Try it")
    git(repository, "push", "-q", "origin", "try")
    assert deploying.origin_of(repository).warning == "", "which branch is the default is not known here"
    git(repository, "remote", "set-head", "origin", "main")
    origin = deploying.origin_of(repository)
    assert origin.branch == "try"
    assert "of the branch try is not on origin/main, the default branch" in origin.warning
    git(repository, "switch", "-q", "main")
    assert deploying.origin_of(repository).warning == ""


def test_no_token_goes_into_a_deployment(repository: Path) -> None:
    for url in (
        "https://x-access-token:hunter2@example.org/r.git",
        "https://hunter2@example.org/r.git",
        "http://hunter2@example.org/r.git",
        "https://example.org/r.git?private_token=hunter2",
        "https://example.org/r.git#hunter2",
        "ssh://git:hunter2@example.org/r.git",
    ):
        with pytest.raises(UserError, match="store the token in a Prefect Secret block") as refused:
            deploying.origin_of(repository, url)
        assert "hunter2" not in str(refused.value)
    assert deploying.origin_of(repository, "git@example.org:r.git").repository == "git@example.org:r.git"


def test_projects_on_one_server_do_not_replace_or_follow_each_others_deployments() -> None:
    content = deploying.remote(DECLARED, pool="team", steps=[STEP])
    assert [entry["name"] for entry in content["deployments"]] == [
        f"demo.{entry['name']}" for entry in DECLARED["deployments"]
    ]
    assert {entry["work_pool"]["name"] for entry in content["deployments"]} == {"team"}
    assert content["pull"] == [STEP]
    (after_crash,) = (entry for entry in content["deployments"] if entry["name"] == "demo.after-crash")
    _, followed = after_crash["triggers"][0]["match_related"]
    assert followed["prefect.resource.name"] == ["demo.scheduled", "demo.on-drift"]
    assert yaml.safe_load(deployments.prefect_yaml("demo", "UTC")) == DECLARED, (
        "what the project declares stays as it is"
    )


def test_environments_with_names_of_their_own_have_deployments_that_do_not_hear_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prefect.yaml").write_text(deployments.prefect_yaml("demo", "UTC"))
    (tmp_path / "params.yaml").write_text("project: {name: demo}\n")
    (tmp_path / "params.staging.yaml").write_text("project: {name: demo_staging}\n")
    content, names = {}, {}
    for environment in ("", "staging"):
        monkeypatch.setenv("REFIT_ENV", environment)
        declared = deployments.declared_in(tmp_path)
        content[environment] = deploying.remote(declared, pool="team", steps=[STEP], within=environment or None)
        names[environment] = {entry["name"]: entry for entry in content[environment]["deployments"]}
        known: Any = [as_stored(entry, content[environment]) for entry in names[environment].values()]
        assert all(refusal(each, tmp_path, declared, brought=True) is None for each in known)
    assert not names[""].keys() & names["staging"].keys()
    on_drift = names["staging"]["demo_staging@staging.on-drift"]["triggers"][0]
    assert (on_drift["name"], on_drift["match"]) == (
        "demo_staging drifted",
        {"prefect.resource.id": "refit.model.demo_staging"},
    )
    (_, followed) = names["staging"]["demo_staging@staging.after-crash"]["triggers"][0]["match_related"]
    assert followed["prefect.resource.name"] == ["demo_staging@staging.scheduled", "demo_staging@staging.on-drift"]
    of_base = as_stored(names[""]["demo.on-drift"], content[""])
    assert "start the worker with no REFIT_ENV" in str(refusal(of_base, tmp_path, declared, brought=True))
    monkeypatch.setenv("REFIT_ENV", "")
    of_staging = as_stored(names["staging"]["demo_staging@staging.on-drift"], content["staging"])
    reason = refusal(of_staging, tmp_path, deployments.declared_in(tmp_path), brought=True)
    assert "start the worker with REFIT_ENV=staging" in str(reason)


@pytest.mark.usefixtures("prefect_server")
def test_a_server_has_a_model_in_one_environment() -> None:
    from prefect import flow, get_client
    from prefect.settings import PREFECT_API_URL

    @flow(name="drift-watch")
    def watch() -> None:
        """A flow that a deployment names."""

    content = deploying.remote(DECLARED, pool="team", steps=[STEP], within="staging")
    names = [entry["name"] for entry in content["deployments"]]
    assert names == [f"demo@staging.{entry['name']}" for entry in DECLARED["deployments"]]
    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow(watch), name=names[0])
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    deploying.require_alone(deploying.of_model(server, "demo"), "demo", "staging")
    deploying.require_alone(deploying.of_model(server, "other"), "other", None)
    for within in (None, "production"):
        with pytest.raises(UserError, match=r"has demo@staging\.scheduled, which is demo in staging: one server"):
            deploying.require_alone(deploying.of_model(server, "demo"), "demo", within)
    with get_client(sync_client=True) as client:
        client.delete_deployment(made)


def test_the_server_of_the_projects_own_up_is_refused_since_each_drift_would_start_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    (tmp_path / "prefect.yaml").write_text(deployments.prefect_yaml("demo", "UTC"))
    (log := tmp_path / ".refit/prefect.log").parent.mkdir()
    log.touch()
    this = psutil.Process()
    write_record(tmp_path, {PREFECT: Started(PREFECT, this.pid, this.create_time(), "mark", str(log), 4321)})
    for host in ("127.0.0.1", "localhost"):
        url = f"http://{host}:4321/api"
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(UserError, match=rf"{url} is the server of the `refit up` .* would start two runs"),
        ):
            deploying.deploy(tmp_path, pool="refit", pull="folder")
    deploying.require_not_up(tmp_path, "http://prefect:4321/api")
    write_record(tmp_path, {})
    deploying.require_not_up(tmp_path, url)


@pytest.mark.usefixtures("prefect_server")
def test_a_deployment_stays_in_its_pool_unless_it_is_moved_and_what_it_was_is_told() -> None:
    from prefect import flow, get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL

    @flow(name="drift-watch")
    def watch() -> None:
        """A flow that a deployment names."""

    entries = [
        {"name": "moved.scheduled", "entrypoint": "flows.continuous_training:continuous_training"},
        {"name": "moved.daily", "entrypoint": "flows.drift_watch:drift_watch"},
    ]
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="first", type="process"))
        made = client.create_deployment(
            client.create_flow(watch),
            name="moved.daily",
            entrypoint="flows.drift_watch:drift_watch",
            work_pool_name="first",
            pull_steps=[STEP],
        )
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}

    def was(pool: str, commit: str) -> dict[str, deploying.Before]:
        origin = deploying.Origin("https://example.org/r.git", commit, ".")
        return deploying.before(deploying.of_model(server, "moved"), entries, pool=pool, origin=origin)

    assert was("first", "0" * 40) == {}
    newer = was("first", "1" * 40)
    assert str(newer["drift-watch/moved.daily"]) == f"pool first, commit {'0' * 12} of https://example.org/r.git"
    deploying.require_same_pool(newer, "first")
    with pytest.raises(UserError, match=r"daily is deployed already: pool first, commit 0{12} .*`--move` takes it to"):
        deploying.require_same_pool(was("second", "0" * 40), "second")
    with get_client(sync_client=True) as client:
        client.delete_deployment(made)


def test_what_is_deployed_may_run_where_prefect_yaml_declares_it(tmp_path: Path) -> None:
    content = deploying.remote(DECLARED, pool="team", steps=[STEP])
    for entry in content["deployments"]:
        known = as_stored(entry, content)
        assert refusal(known, tmp_path, DECLARED, brought=True) is None
        assert refusal(known, tmp_path, DECLARED), "a folder that has a project is not left for a clone"
        assert refusal_without_project(known.entrypoint, known.pull_steps) is None
        known.name = f"other.{entry['name']}"
        assert refusal(known, tmp_path, DECLARED, brought=True)


@pytest.mark.parametrize(
    ("entrypoint", "steps"),
    [
        ("os:system", [STEP]),
        ("flows.checkouts:clone", [STEP]),
        (None, [STEP]),
        ("flows.drift_watch:drift_watch", []),
        ("flows.drift_watch:drift_watch", [{}]),
        ("flows.drift_watch:drift_watch", [{CLONE: {**STEP[CLONE], "requires": "evil"}}]),
        ("flows.drift_watch:drift_watch", [{CLONE: {**STEP[CLONE], "commit": "--upload-pack=evil"}}]),
        ("flows.drift_watch:drift_watch", [{CLONE: {**STEP[CLONE], "repository": "--upload-pack=evil"}}]),
        ("flows.drift_watch:drift_watch", [{IMAGE: {"requires": "evil"}}]),
        ("flows.drift_watch:drift_watch", [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}]),
        ("flows.drift_watch:drift_watch", [STEP, {"prefect.deployments.steps.run_shell_script": {"script": "true"}}]),
        ("flows.drift_watch:drift_watch", [{**STEP, "prefect.deployments.steps.run_shell_script": {"script": "true"}}]),
    ],
    ids=str,
)
def test_a_worker_without_a_project_runs_no_other_code_and_no_other_step(entrypoint: str | None, steps: Any) -> None:
    assert refusal_without_project(entrypoint, steps)


def test_a_worker_may_be_for_one_repository_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_REPOSITORY", "https://example.org/r.git")
    assert refusal_without_project("flows.drift_watch:drift_watch", [STEP]) is None
    other = {CLONE: {**STEP[CLONE], "repository": "https://example.com/evil.git"}}
    assert "is for https://example.org/r.git only" in str(
        refusal_without_project("flows.drift_watch:drift_watch", [other])
    )


def test_a_registry_or_ledger_that_would_be_deleted_with_the_folder_is_refused(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"set registry\.tracking_uri in params\.yaml, or MLFLOW_TRACKING_URI, to an"):
        checkouts.state_outside(tmp_path, params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    with pytest.raises(UserError, match=r"set registry\.ledger_uri in params\.yaml, or REFIT_LEDGER_URI, to a"):
        checkouts.state_outside(tmp_path, params)
    monkeypatch.setenv("REFIT_LEDGER_URI", "postgresql://refit@db/refit")
    assert checkouts.state_outside(tmp_path, params).one_ledger
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://refit@db/mlflow")
    monkeypatch.setattr(tracking, "artifact_folder", lambda store, name: tmp_path / "mlruns/1")
    with pytest.raises(UserError, match=r"models are stored in .*mlruns/1, which is deleted with the folder of a run"):
        checkouts.state_outside(tmp_path, params)


def test_a_server_that_refuses_the_password_at_hand_is_warned_of_when_deploying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_REFIT_MLFLOW_ANSWERED", "")
    with ThreadingHTTPServer(("127.0.0.1", 0), Unauthorized) as server, socket.socket() as unused:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        unused.bind(("127.0.0.1", 0))
        database = f"127.0.0.1:{unused.getsockname()[1]}/refit"
        ledger = f"postgresql://refit:hunter22@{database}"
        store = Store(f"http://127.0.0.1:{server.server_port}", tmp_path, ledger_uri=ledger)
        deploying.warn_of_silent_stores(store, "demo")
        server.shutdown()
    of_registry, of_ledger = (line for line in capsys.readouterr().err.splitlines() if "warning: " in line)
    assert "knows no such user (401)" in of_registry
    assert f"the ledger at postgresql://refit:***@{database} failed: " in of_ledger


@pytest.fixture
def params(root: Path) -> Params:
    from refit.config import parse
    from refit.files.yaml_files import read_yaml

    return parse(read_yaml(root / "params.yaml"))


@pytest.mark.usefixtures("prefect_server")
def test_a_pool_for_other_machines_names_no_folder_and_takes_nothing_from_a_request(tmp_path: Path) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL
    from prefect.workers.process import ProcessWorker

    environment = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    with get_client(sync_client=True) as client:
        for name, template in (
            ("theirs", {**deployments.job_template(None), "variables": {"type": "object"}}),
            ("started", None),
        ):
            template = template or ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        for name in ("new", "theirs", "started"):
            deployments.provide(tmp_path, environment, pool=name, in_project=False, theirs=True)
        stored = {name: client.read_work_pool(name).base_job_template for name in ("new", "theirs", "started")}
    assert stored["new"]["job_configuration"] == {"command": "python -P -m flows.deployed_run", "stream_output": True}
    assert stored["new"]["variables"]["additionalProperties"] is False
    assert stored["started"] == stored["new"], "a worker that started first has created the pool"
    assert stored["theirs"]["variables"] == {"type": "object"}, "a pool that somebody has made stays as it is"


@pytest.mark.usefixtures("prefect_server")
def test_a_pool_whose_runs_work_elsewhere_does_not_get_this_folder(tmp_path: Path) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL

    environment = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    mine, other = tmp_path / "mine", tmp_path / "other"
    older = deployments.job_template(mine) | {"variables": {"type": "object"}}
    pools = {
        "of a cluster": ("kubernetes", {"job_configuration": {"image": "theirs"}, "variables": {"type": "object"}}),
        "of another project": ("process", deployments.job_template(other)),
        "of an older Refit": ("process", older),
    }
    with get_client(sync_client=True) as client:
        for name, (kind, template) in pools.items():
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        for name in ("of a cluster", "of another project"):
            with pytest.raises(UserError, match=r"runs do not work in .*mine; name another pool by --pool"):
                deployments.provide(mine, environment, pool=name, theirs=True)
            assert client.read_work_pool(name).base_job_template == pools[name][1]
        deployments.provide(mine, environment, pool="of an older Refit", theirs=True)
        updated = client.read_work_pool("of an older Refit").base_job_template
    assert updated == deployments.job_template(mine)
