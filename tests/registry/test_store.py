"""Where the registry lies: the environment's, the params', or in the project."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from refit.errors import first_line
from registry import postgresql, tracking
from registry.client import client
from registry.store import RegistryError, Store, faults, locate


def test_the_environment_wins_over_the_params_and_the_params_over_the_default(tmp_path: Path) -> None:
    given = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert locate(tmp_path, "sqlite:////other/m.db", given) == Store("http://mlflow:5000", tmp_path / ".refit")
    assert locate(tmp_path, "sqlite:////other/m.db", {}) == Store("sqlite:////other/m.db", Path("/other"))
    assert locate(tmp_path, None, {}).database == tmp_path / ".refit/mlflow.db"


def test_a_relative_path_is_meant_from_the_project_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert locate(tmp_path, "sqlite:///m.db", {}).database == tmp_path / "m.db"


def test_a_uri_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="names no file"):
        locate(tmp_path, "sqlite://", {})


def test_a_fault_of_the_registry_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"this is no database" * 100)
    store = Store(f"sqlite:///{tmp_path / 'm.db'}", tmp_path)
    expected = r"the registry at sqlite:.*m\.db failed: .*not a database"
    with pytest.raises(RegistryError, match=expected) as caught, faults(store):
        client(store)
    assert "\n" not in str(caught.value)


def test_making_a_client_leaves_the_environment_of_children_alone(empty_registry: Path) -> None:
    client(Store(f"sqlite:///{empty_registry}", empty_registry.parent))
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_disk_that_fills_up_while_the_tables_are_made_leaves_no_half_made_database(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # less than the tables take
    try:
        with pytest.raises(RegistryError, match=r"failed: (reading or writing failed|the disk is full)"), faults(store):
            client(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("mlflow.db")] == []
    assert "Traceback" not in capfd.readouterr().err, "one line is enough"
    (tmp_path / "mlflow.db.1234abcd.partial").write_bytes(b"what a kill left")
    assert len(client(store).search_experiments()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("mlflow.db")] == ["mlflow.db"]


class WithoutServer(Store):
    """A database that the client opens itself, as PostgreSQL: here an SQLite file that is taken for one."""

    @property
    def has_no_server(self) -> bool:
        return True

    @property
    def database(self) -> Path | None:
        return None


class Served(WithoutServer):
    """An MLflow server, as far as its experiments tell: here an SQLite file that is taken for one."""

    @property
    def has_no_server(self) -> bool:
        return False

    @property
    def server(self) -> str:
        return "http://mlflow:5000"


def test_a_server_whose_models_only_its_own_machine_can_read_is_refused(tmp_path: Path, empty_registry: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    store = Served(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    places = {"own": (tmp_path / "srv/mlruns/1").as_uri(), "passed": "mlflow-artifacts:/2", "far": "s3://models/far"}
    for name, location in places.items():
        client(store).create_experiment(name, location)
    with pytest.raises(
        RegistryError, match=r"lets its clients write the models of own into /.*/srv/mlruns/1 themselves"
    ):
        tracking.ensure_experiment(store, "own")
    for name in ("passed", "far"):
        tracking.ensure_experiment(store, name)
        assert tracking.artifact_folder(store, name) is None
    (tmp_path / "srv/mlruns").mkdir(parents=True)
    with pytest.raises(RegistryError, match="which this machine does not have"):
        tracking.ensure_experiment(store, "own")
    (tmp_path / "srv/mlruns/1").mkdir()  # the server's machine, or its folder mounted here
    tracking.ensure_experiment(store, "own")
    assert tracking.artifact_folder(store, "own") == tmp_path / "srv/mlruns/1"


def test_a_database_without_a_server_is_refused_until_all_machines_know_where_its_models_are(
    tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow would put `mlruns`
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    store = WithoutServer(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    with pytest.raises(RegistryError, match="the models of toy would be stored here alone: name an MLflow server"):
        tracking.ensure_experiment(store, "toy")
    assert client(store).get_experiment_by_name("toy") is None
    for name, location in (("toy", (tmp_path / "shared").as_uri()), ("far", "s3://models/far")):
        client(store).create_experiment(name, location)
    with pytest.raises(RegistryError, match=r"are stored in /.*/shared, which this machine does not have"):
        tracking.ensure_experiment(store, "toy")
    (tmp_path / "shared").mkdir()
    tracking.ensure_experiment(store, "toy")
    tracking.ensure_experiment(store, "far")
    assert tracking.artifact_folder(store, "toy") == tmp_path / "shared"
    assert tracking.artifact_folder(store, "far") is None


def test_a_librarys_long_message_ends_after_a_word_whatever_failed() -> None:
    said = OSError("word " * 100 + "password=hunter22")
    with pytest.raises(RegistryError) as of_registry, faults(Store("http://mlflow", Path())):
        raise type("Lost", (Exception,), {"__module__": "mlflow.exceptions"})(str(said))
    of_database = postgresql.failed("postgresql://refit:hunter22@db/refit", said)
    for message in (str(of_registry.value), str(of_database)):
        assert "word word ...;" in message, message
        assert "hunter22" not in message
    assert first_line(said) == first_line(ValueError(str(said))), "refit.errors cuts as the registry does"
    assert len(first_line(said)) < 310
