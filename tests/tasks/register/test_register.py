"""The stage `register`: one version for one candidate, and who is promoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from quick import quick

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.files.artifacts import read_json, write_json
from refit.models import incumbent, verification
from registry import champion, locking, versions
from registry.client import client
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")


@pytest.mark.ci
def test_the_first_promoted_candidate_takes_charge_and_one_line_tells_of_it(project: Any) -> None:
    receipt = project.registered()
    assert (receipt["model"], receipt["version"], receipt["alias"]) == ("toy", "1", "champion")
    assert receipt["outcome"]["action"] == "promote"
    assert project.aliases == {"challenger": "1", "champion": "1"}
    (line,) = project.ledger
    assert (line.action, line.from_version, line.to_version, line.anchor) == ("promote", None, "1", "1")
    assert (line.trigger, line.reasons) == ("test", ("better than the baseline",))


@pytest.mark.slow
def test_a_run_waits_for_the_lock_longer_than_another_one_needs_to_check_its_model(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.judged(0)
    waits, acquire = [], locking.acquire

    def noting(descriptor: int, wait_seconds: float) -> bool:
        waits.append(wait_seconds)
        return acquire(descriptor, wait_seconds)

    monkeypatch.setattr(locking, "acquire", noting)
    register.run(project.context)
    assert min(waits) >= 2 * verification.TIMEOUT_SECONDS


def test_registering_again_changes_nothing_at_all(project: Any) -> None:
    project.registered()
    before = (project.folder / artifacts.RECEIPT).read_bytes()
    register.run(project.context)
    assert (project.folder / artifacts.RECEIPT).read_bytes() == before
    assert project.told == [("promote", None, "1")]
    assert len(client(project.store).search_model_versions("name = 'toy'")) == 1


def test_a_successor_takes_charge_and_the_one_before_it_becomes_previous(project: Any) -> None:
    project.registered(0)
    receipt = project.registered(1)
    assert (receipt["version"], receipt["alias"]) == ("2", "champion")
    assert project.aliases == {"challenger": "2", "champion": "2", "previous": "1"}
    assert project.told == [("promote", None, "1"), ("promote", "1", "2")]


@pytest.mark.ci
def test_a_refused_candidate_is_a_challenger_and_the_refusal_is_told_once(project: Any) -> None:
    project.registered(0)
    receipt = project.registered(1, promote=False)
    register.run(project.context)
    assert (receipt["version"], receipt["alias"]) == ("2", "challenger")
    assert project.aliases == {"challenger": "2", "champion": "1"}
    assert project.told == [("promote", None, "1"), ("refuse", "1", "2")]
    assert project.ledger[-1].reasons == ("only 12 rows",)


def test_an_experiment_registers_a_challenger_at_most_and_a_run_later_carries_its_decision_out(project: Any) -> None:
    project.judged()
    register.run(project.without_leave())
    assert (project.receipt["alias"], project.aliases, project.told) == ("challenger", {"challenger": "1"}, [])
    assert register.needs_rerun(project.without_leave()) is None
    assert "not carried out" in (register.needs_rerun(project.context) or "")
    register.run(project.context)
    assert (project.receipt["alias"], project.told) == ("champion", [("promote", None, "1")])


def test_the_same_candidate_trained_again_is_the_version_that_it_was(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    assert project.registered(0, promote=False)["version"] == "1"
    assert project.aliases == {"challenger": "1", "champion": "2", "previous": "1"}


@pytest.mark.slow
def test_where_a_whole_model_was_deleted_the_next_one_gets_no_number_that_the_ledger_knows(project: Any) -> None:
    project.registered(0, promote=False)
    client(project.store).delete_registered_model("toy")
    assert project.registered(1)["version"] == "2"
    assert project.told == [("refuse", None, "1"), ("promote", None, "2")]
    assert incumbent.check_champion(project.context) == "2"


def test_a_candidate_judged_against_someone_else_than_the_champion_is_refused(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    client(project.store).delete_registered_model_alias("toy", "champion")
    decision = read_json(project.folder / artifacts.DECISION)
    register.promote(project.context, "1", "it was champion")  # as if another checkout had promoted a version
    decision["comparand"]["version"] = "7"
    write_json(project.folder / artifacts.DECISION, decision)
    register.run(project.context)
    assert project.aliases["champion"] == "1"
    assert project.ledger[-1].reasons == ("it was judged against version 7, but version 1 is the champion now",)
    assert project.receipt["outcome"]["action"] == "refuse"


def test_a_decision_about_another_model_is_not_used(project: Any) -> None:
    project.judged(0)
    project.trained(1)
    with pytest.raises(RefitError, match=r"decision\.json judges model .* but .*training\.json names"):
        register.run(project.context)
    assert project.aliases == {}


@pytest.mark.ci
@pytest.mark.parametrize("file", quick(["data/candidate/model.skops", "golden.parquet", "provenance/dvc.lock"]))
def test_a_tampered_stored_model_is_refused_with_its_file_named_and_the_alias_stays(project: Any, file: str) -> None:
    (project.folder / "dvc.lock").write_text("schema: '2.0'\n")
    project.registered(0)
    project.judged(1)
    register.run(project.without_leave())
    (stored,) = (project.folder / ".refit/mlartifacts").rglob(f"{project.receipt['run_id']}/artifacts/model/{file}")
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    for _ in range(2):
        with pytest.raises(RefitError, match=rf"version 2 of toy is not promoted: .*model/{file} is missing or"):
            register.run(project.context)
    assert project.aliases["champion"] == "1"
    assert project.told == [("promote", None, "1"), ("refuse", "1", "2")]


@pytest.mark.ci
def test_a_manifest_rewritten_to_suit_the_tampering_is_found_out_too(project: Any) -> None:
    project.judged(0)
    register.run(project.without_leave())
    (weights,) = (project.folder / ".refit/mlartifacts").rglob("model.skops")
    weights.write_bytes(weights.read_bytes() + b"?")
    for folder in (weights.parent, weights.parents[2]):
        artifacts.write_manifest(folder)
    with pytest.raises(RefitError, match=r"manifest\.json differs from the registry's record"):
        register.run(project.context)
    assert project.aliases == {"challenger": "1"}


def test_a_stored_model_that_predicts_otherwise_than_the_gate_saw_does_not_take_charge(project: Any) -> None:
    project.judged()
    path = project.folder / artifacts.REPORTS / "predictions.parquet"
    judged = pq.read_table(path)
    shifted = judged.column("candidate").to_numpy() + np.eye(1, judged.num_rows, 5)[0] * 1e-3
    project.predicted(judged.set_column(3, "candidate", [shifted]))
    context = replace(
        project.context,
        params=project.context.params.model_copy(
            update={"register_": project.context.params.register_.model_copy(update={"golden_rows": 40})}
        ),
    )
    with pytest.raises(RefitError, match=r"golden row 5: .* they may differ by 1e-06"):
        register.run(context)
    assert project.aliases == {"challenger": "1"}
    assert project.told == [("refuse", None, "1")]


def test_predictions_of_other_rows_are_not_made_golden(project: Any) -> None:
    project.judged()
    path = project.folder / artifacts.REPORTS / "predictions.parquet"
    project.predicted(pq.read_table(path).slice(1))
    with pytest.raises(RefitError, match="differ in their keys"):
        register.run(project.context)


def test_a_model_without_a_safe_format_is_never_promoted_not_even_by_overruling(project: Any) -> None:
    project.judged()
    candidate = project.folder / artifacts.CANDIDATE
    (candidate / "model.skops").rename(candidate / "model.pkl")
    artifacts.write_manifest(candidate)
    register.run(project.without_leave())
    for why in (None, "I trust it"):
        with pytest.raises(RefitError, match=r"is not promoted: .*model\.pkl"):
            register.promote(project.context, "1", why)
    assert project.aliases == {"challenger": "1"}


@pytest.mark.ci
def test_a_superior_successor_becomes_the_anchor_and_a_merely_no_worse_one_does_not(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    assert [line.anchor for line in project.ledger] == ["1", "1"]
    project.registered(2, mode="superiority")
    assert project.ledger[-1].anchor == "3"
    assert versions.registered(project.store, "toy").tags["refit.anchor"] == "3"


def test_plain_mlflow_loads_the_version_and_predicts_the_golden_rows(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    project.registered()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.store.uri)
    model = mlflow.pyfunc.load_model("models:/toy@champion")
    golden = pq.read_table(incumbent.fetch_model(project.context, "1").parents[1] / verification.GOLDEN)
    predicted = model.predict(golden.drop_columns([verification.PREDICTION]).to_pandas())
    assert np.abs(predicted - golden.column(verification.PREDICTION).to_numpy()).max() < 1e-9
    assert model.metadata.signature.inputs.input_names() == ["distance", "carrier"]
    assert model.input_example is not None
    frame = golden.select(["distance"]).to_pandas().fillna(0).astype("int64").assign(carrier="A", surplus=True)
    assert list(model.predict(frame)) == list(model.predict(frame.astype({"distance": "float64"})))
    assert list(model.predict(frame.astype({"distance": "Int64"}))) == list(model.predict(frame))
    assert not list((project.folder / ".refit").rglob("*.pkl"))
    register.promote(project.context, project.registered(1)["version"])  # loading left nothing that fails the check


def test_the_version_keeps_what_is_needed_to_explain_and_to_make_it_again(project: Any) -> None:
    for name in ("dvc.lock", "dvc.yaml"):
        (project.folder / name).write_text("schema: '2.0'\n")
    project.registered()
    assert list(project.folder.rglob("dvc.yaml")) == [project.folder / "dvc.yaml"]  # a copy would be a second pipeline
    found = versions.version(project.store, "toy", "1")
    assert found is not None
    training = read_json(project.folder / artifacts.TRAINING)
    assert found.tags["refit.candidate"] == training["inputs"]
    assert found.tags["refit.seen_until"] == training["seen_until"]
    assert json.loads(found.tags["refit.decision"]) == read_json(project.folder / artifacts.DECISION)
    stored = incumbent.fetch_model(project.context, "1").parents[1]
    assert (stored / "provenance/dvc.lock").read_text() == "schema: '2.0'\n"
    assert "learners:" in (stored / "provenance/params.yaml").read_text()
    assert "scikit-learn==" in (stored / "requirements.txt").read_text()


def test_the_champion_is_shown_with_since_when_and_why(project: Any) -> None:
    with pytest.raises(UserError, match="no version of toy is champion yet; `refit run` trains and judges one"):
        register.champion_summary(project.context)
    project.registered(1, promote=False)
    refused = "champion yet; version 1 was refused, `refit explain 1` says why"
    with pytest.raises(UserError, match=refused):
        register.champion_summary(project.context)
    project.registered()
    found = register.champion_summary(project.context)
    assert (found.version, found.aliases) == ("2", ("challenger", "champion"))
    assert found.metrics == {"roc_auc": 0.7}
    assert (found.since, found.why) == ("2014-01-01T00:00:00Z", ("better than the baseline",))
    assert found.decision is not None
    assert found.decision.promote is True


@pytest.mark.ci
def test_promoting_by_hand_goes_through_the_checks_and_a_reason_overrules_them(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    with pytest.raises(UserError, match=r"version 2 of toy may not be promoted: only 12 rows; --why"):
        register.promote(project.context, "2")
    assert project.aliases["champion"] == "1"
    assert register.promote(project.context, "2", "rows are few, but I know them") == (
        "toy version 2 is champion in place of version 1"
    )
    assert project.aliases == {"challenger": "2", "champion": "2", "previous": "1"}
    line = project.ledger[-1]
    assert (line.action, line.from_version, line.to_version) == ("overrule", "1", "2")
    assert line.reasons == ("rows are few, but I know them", "only 12 rows")
    assert line.anchor == "1"
    assert register.promote(project.context, "2") == "toy version 2 is the champion already"


def test_a_good_version_is_promoted_by_hand_without_a_reason(project: Any) -> None:
    project.judged()
    register.run(project.without_leave())
    register.promote(project.context, "1")
    assert project.told == [("promote", None, "1")]


def test_a_refusal_against_a_champion_of_then_is_told_as_such_when_another_one_is_champion(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    project.registered(2, promote=False)
    register.rollback(project.context, "1")
    told = "it was refused against version 2, which was champion then: only 12 rows"
    with pytest.raises(UserError, match=f"version 3 of toy may not be promoted: {told}; --why"):
        register.promote(project.context, "3")
    line = project.ledger[-1]
    assert (line.action, line.from_version, line.reasons) == ("refuse", "1", (told,))


@pytest.mark.parametrize("version", ["9", "latest", ""])
def test_promoting_a_version_that_does_not_exist_says_so(project: Any, version: str) -> None:
    project.registered()
    with pytest.raises(UserError, match=f"toy has no version '{version}'; `refit history`"):
        register.promote(project.context, version)


@pytest.mark.ci
def test_what_a_person_put_aside_is_not_put_back_by_the_next_run(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    register.promote(project.context, "1", "version 2 fails on Mondays")
    project.judged(1)
    assert "not carried out" not in (register.needs_rerun(project.context) or "")
    register.run(project.context)
    assert (project.aliases["champion"], project.receipt["alias"]) == ("1", "challenger")
    decision = read_json(project.folder / artifacts.DECISION)
    write_json(project.folder / artifacts.DECISION, {**decision, "notes": ["a new decision on the same candidate"]})
    register.run(project.context)
    assert project.aliases["champion"] == "1"
    assert "replaced by hand" in project.ledger[-1].reasons[0]
    register.promote(project.context, "2")
    assert project.aliases["champion"] == "2"


def test_an_alias_that_someone_set_in_mlflow_is_not_moved_back_on_an_old_decision(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    client(project.store).set_registered_model_alias("toy", "champion", "1")
    assert incumbent.refresh(project.context).to_json() == read_json(project.folder / artifacts.DECISION)["comparand"]
    register.run(project.context)
    assert (project.aliases["champion"], project.receipt["alias"]) == ("1", "challenger")
    assert register.needs_rerun(project.context) is None
    assert project.told == [("promote", None, "1"), ("promote", "1", "2")]


def test_a_champion_keeps_the_decision_that_promoted_it(project: Any) -> None:
    project.registered()
    decision = read_json(project.folder / artifacts.DECISION)
    write_json(project.folder / artifacts.DECISION, {**decision, "promote": False, "reasons": ["stricter now"]})
    register.run(project.context)
    assert project.aliases["champion"] == "1"
    assert register.champion_summary(project.context).to_json()["decision"] == decision
    assert project.told == [("promote", None, "1")]


@pytest.mark.slow
def test_two_projects_with_one_registry_share_its_lock_and_ledger(
    new_project: Callable[[str], Any], tmp_path: Path
) -> None:
    ours, theirs = new_project("ours"), new_project("theirs")
    ours.registered(0)
    shared = theirs.context.params.model_copy(
        update={"registry": theirs.context.params.registry.model_copy(update={"tracking_uri": ours.store.uri})}
    )
    theirs.context = replace(theirs.context, params=shared)
    assert theirs.registered(1)["version"] == "2"
    assert ours.told == theirs.told == [("promote", None, "1"), ("promote", "1", "2")]
    assert champion.current_champion(ours.store, "toy") == versions.version(ours.store, "toy", "2")


@pytest.mark.parametrize("name", ["data/features/table.parquet", "reports/predictions.parquet"])
def test_a_file_that_changed_after_it_was_judged_is_not_packaged(project: Any, name: str) -> None:
    project.judged()
    path = project.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    with pytest.raises(RefitError, match=rf"{name} has changed: recorded "):
        register.run(project.context)
    assert versions.version(project.store, "toy", "1") is None
