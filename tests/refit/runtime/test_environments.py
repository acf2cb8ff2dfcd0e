"""`params.staging.yaml` over `params.yaml`: typed as one, with models of its own, and seen by DVC."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import refit_in

from refit.errors import UserError
from refit.files.yaml_files import read_yaml
from refit.runtime import environments, run_file

BASE = """\
project: {name: toy}
ingest: {sources: {rows: {kind: files, path: rows.csv, columns: {id: text}, key: [id]}}}
featurize: {label: {source: rows, column: late}}
train: {seed: 1, learners: [{name: logistic, kind: sklearn.linear_model.LogisticRegression}]}
"""
APART = "registry: {tracking_uri: sqlite:///staging/mlflow.db}\n"


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(BASE)
    (tmp_path / "params.staging.yaml").write_text(
        "registry: {tracking_uri: sqlite:///staging/mlflow.db}\ntrain: {seed: 2}\n"
    )
    return tmp_path


def test_an_environment_changes_what_it_names_and_nothing_else(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_file.params_of(staged).train.seed == 1
    monkeypatch.setenv("REFIT_ENV", "staging")
    params = run_file.params_of(staged)
    assert (params.train.seed, params.registry.tracking_uri) == (2, "sqlite:///staging/mlflow.db")
    assert params.train.learners[0].name == "logistic"
    assert staged / "params.staging.yaml" in run_file.code_files(staged)


def test_a_setting_of_one_run_is_laid_over_the_environment(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    assert run_file.check(staged, run_file.RunFile(overrides={"train.seed": 3})).train.seed == 3


def test_the_params_of_an_environment_are_checked_as_those_without(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    with (staged / "params.staging.yaml").open("a") as file:
        file.write("evaluate: {gate: {max_los: 0.1}}\n")
    with pytest.raises(UserError, match=r"params\.yaml with params\.staging\.yaml: evaluate\.gate\.max_los: unknown"):
        run_file.params_of(staged)


def test_an_empty_file_of_an_environment_says_what_to_write_into_it(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    for name in ("production", "staging"):  # another one, with which it is compared, and its own
        (staged / f"params.{name}.yaml").write_text("# nothing yet\n")
        with pytest.raises(
            UserError, match=rf"^params\.{name}\.yaml is empty: write into it what is different in {name}"
        ):
            run_file.params_of(staged)


def test_two_environments_never_share_a_champion(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    for text, apart in (("train: {seed: 2}", False), ("project: {name: toy_staging}", True)):
        (staged / "params.staging.yaml").write_text(text)
        if apart:
            assert run_file.params_of(staged).project.name == "toy_staging"
        else:
            with pytest.raises(UserError, match="would have one champion"):
                run_file.params_of(staged)


IN_VARIABLES = "registry: {tracking_uri: '${STAGING_MLFLOW}', ledger_uri: '${STAGING_LEDGER}'}\n"
DATABASE = "registry: {tracking_uri: 'https://mlflow.staging', ledger_uri: 'postgresql://u:${PW}@db/staging'}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registry: {tracking_uri: sqlite:///.refit/staging.db}\n", "the ledger and"),  # next to the default's
        ("registry: {tracking_uri: sqlite:///.refit/mlflow.db}\n", "the registry and"),  # the default, written out
        ("registry: {tracking_uri: 'https://mlflow.staging'}\n", "the ledger and"),  # in the checkout, as the default's
        ("registry: {ledger_uri: 'postgresql://db/staging'}\n", "the registry and"),
        (DATABASE, None),
        (IN_VARIABLES, None),
        ("registry: {tracking_uri: 'https://mlflow.staging', ledger_uri: '${STAGING_DB}/refit'}\n", None),
        ("registry: {tracking_uri: '${STAGING_MLFLOW}'}\n", "the ledger and"),  # it may be a server
    ],
)
def test_two_environments_never_share_a_ledger(
    staged: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str | None
) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.elsewhere")  # of this process: it says nothing of the two
    (staged / "params.staging.yaml").write_text(text)
    if said is None:
        run_file.params_of(staged)
        return
    with pytest.raises(UserError, match=rf"params\.staging\.yaml: has {said} the project\.name of params\.yaml"):
        run_file.params_of(staged)
    with (staged / "params.staging.yaml").open("a") as file:
        file.write("project: {name: toy_staging}\n")
    run_file.params_of(staged)


def test_an_environment_shares_no_ledger_that_one_variable_names_with_any_other(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    (staged / "params.staging.yaml").write_text(IN_VARIABLES)
    other = staged / "params.production.yaml"
    other.write_text(IN_VARIABLES.replace("STAGING", "PRODUCTION"))
    run_file.params_of(staged)
    other.write_text(IN_VARIABLES.replace("STAGING_MLFLOW", "PRODUCTION_MLFLOW"))
    with pytest.raises(UserError, match=r"has the ledger and the project\.name of params\.production\.yaml"):
        run_file.params_of(staged)


def test_an_environment_shares_no_ledger_with_any_other(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    (staged / "params.production.yaml").write_text("registry: {tracking_uri: sqlite:///staging/production.db}\n")
    with pytest.raises(UserError, match=r"has the ledger and the project\.name of params\.production\.yaml"):
        run_file.params_of(staged)


@pytest.mark.parametrize(
    ("name", "said"), [("prod", "no params.prod.yaml: .* such a file: staging"), ("../x", "no name")]
)
def test_an_environment_that_is_not_there_is_refused(
    staged: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv("REFIT_ENV", name)
    with pytest.raises(UserError, match=said):
        run_file.params_of(staged)


def test_dvc_sees_the_params_of_an_environment_at_the_stages_that_have_them(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests() -> dict[str, dict[str, str]]:
        run_file.write(staged, run_file.RunFile())
        content = read_yaml(staged / "run.yaml")
        return {kind: content[kind] for kind in ("code", "defaults")}

    plain = digests()
    monkeypatch.setenv("REFIT_ENV", "staging")
    there = digests()
    monkeypatch.delenv("REFIT_ENV")
    assert digests() == plain
    for kind in ("code", "defaults"):
        changed = {stage for stage in plain[kind] if there[kind][stage] != plain[kind][stage]}
        assert changed == {"train", "evaluate", "register"}


def test_the_sources_of_one_environment_are_not_read_into_the_batches_of_another(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file.write(staged, run_file.RunFile())
    (staged / "data").mkdir()
    (staged / "data/snapshot.json").write_text("{}")
    monkeypatch.setenv("REFIT_ENV", "staging")
    run_file.write(staged, run_file.RunFile())
    before = (staged / "run.yaml").read_bytes()
    with (staged / "params.staging.yaml").open("a") as file:
        file.write("ingest: {sources: {rows: {path: sample.csv}}}\n")
    with pytest.raises(UserError, match="environment with other sources than staging; work in a clone of its own"):
        run_file.write(staged, run_file.RunFile())
    assert (staged / "run.yaml").read_bytes() == before
    (staged / "data/snapshot.json").unlink()
    run_file.write(staged, run_file.RunFile())
    (staged / "data/snapshot.json").write_text("{}")
    run_file.write(staged, run_file.RunFile())
    monkeypatch.delenv("REFIT_ENV")
    with pytest.raises(UserError, match=r"with other sources than params\.yaml"):
        run_file.write(staged, run_file.RunFile())


def test_a_command_takes_its_environment_as_an_option(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "")
    done = refit_in(project, "--env", "nowhere", "show")
    assert (done.returncode, "has no params.nowhere.yaml" in done.stderr) == (2, True)
    assert environments.current() == "nowhere"
    (project / "params.staging.yaml").write_text(APART)
    monkeypatch.setenv("REFIT_ENV", "staging")
    assert "no version of demo is champion yet; `refit --env staging run` trains" in refit_in(project, "show").stderr
    assert "`refit --env staging run` trains and judges a model" in " ".join(
        refit_in(project, "history").stdout.split()
    )
    monkeypatch.setenv("REFIT_ENV", "")
    assert refit_in(project, "show").returncode == 0


def test_what_is_refused_in_another_environment_names_that_one_in_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "staging")
    with pytest.raises(UserError) as refused, environments.working_in("production"):
        raise UserError("2 problems:", '`refit approve 1 --why "..."` first', "`refit init DIR`")
    shown = [environments.addressed(each) for each in refused.value.lines]  # as the command shows it, in its own
    assert shown == ["2 problems:", '`refit --env production approve 1 --why "..."` first', "`refit init DIR`"]


def test_without_an_environment_commands_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_ENV", "")
    assert environments.command("show") == "refit show"
    assert environments.addressed("`refit run` trains one") == "`refit run` trains one"
