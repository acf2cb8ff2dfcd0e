"""What MLflow shows of a run: built from the files, the same however often it is built."""

from __future__ import annotations

import getpass
import shutil
from dataclasses import replace
from typing import Any

import pytest

from refit.errors import RefitError
from refit.files import artifacts
from refit.files.artifacts import read_json, write_json
from refit.models import run_content, run_logging
from refit.models.run_content import validation_score
from refit.schemas.training import Training
from registry import tracking
from registry.client import client


def runs(project: Any) -> list[Any]:
    """The candidate's runs, then those of learners."""
    mlflow = client(project.store)
    (experiment,) = [each for each in mlflow.search_experiments() if each.name == "toy"]
    return sorted(mlflow.search_runs([experiment.experiment_id]), key=lambda run: run.data.tags["refit.role"])


def test_a_candidate_has_one_run_with_a_nested_one_for_each_learner_however_often_it_is_logged(project: Any) -> None:
    project.judged()
    first = run_logging.log_training(project.context)
    for _ in range(2):
        assert run_logging.log_evaluation(project.context) == first
    parent, child = runs(project)
    assert parent.info.run_id == first
    assert child.data.tags["mlflow.parentRunId"] == first
    assert child.data.tags["verdict"] == "fits"
    assert [run.info.status for run in (parent, child)] == ["FINISHED", "FINISHED"]
    history = client(project.store).get_metric_history(child.info.run_id, "curve/training")
    assert [(point.step, point.value) for point in history] == [(1, 0.6), (2, 0.7)]


def test_a_part_that_was_cut_off_is_written_again_without_a_point_of_a_curve_twice(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.judged()

    def cut_off(*_: Any) -> None:
        raise OSError("the power went off")

    with monkeypatch.context() as patched:
        patched.setattr(type(client(project.store)), "log_text", cut_off)
        patched.setattr(type(client(project.store)), "set_tag", cut_off)
        with pytest.raises(OSError, match="power"):
            run_logging.log_training(project.context, required=True)
    parent = run_logging.log_training(project.context)
    for _ in range(2):
        (child,) = [run for run in runs(project) if run.info.run_id != parent]
        history = client(project.store).get_metric_history(child.info.run_id, "curve/training")
        assert [point.step for point in history] == [1, 2]
        client(project.store).delete_tag(child.info.run_id, "refit.logged.training")
        run_logging.log_training(project.context)


def test_the_run_holds_params_metrics_dataset_report_and_links(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", "http://prefect:4200/")
    project.judged()
    docs = project.folder / artifacts.DATA_DOCS
    docs.mkdir()
    (docs / "index.html").write_text("<p>docs</p>")
    run_id = run_logging.log_evaluation(replace(project.context, flow_run="abc"))
    run = client(project.store).get_run(run_id)
    assert run.data.params["train.learners.logistic.kind"] == "sklearn.linear_model.LogisticRegression"
    assert run.data.params["evaluate.gate.max_loss"] == "0.005"
    assert run.data.metrics["test/roc_auc"] == 0.7
    assert run.data.metrics["validation/roc_auc"] == 0.6
    assert run.data.tags["refit.prefect_flow_run"] == "abc"
    assert run.data.tags["prefect"] == "http://prefect:4200/runs/flow-run/abc"
    assert run.data.tags["data_docs"] == (docs / "index.html").as_uri()
    assert "better than the baseline" in (note := run.data.tags["mlflow.note.content"])
    assert "[Data Docs](/refit/data-docs/index.html)" in note, "on the server that shows this registry"
    assert run.info.run_name == Training.read(project.folder / artifacts.TRAINING).run_name
    snapshot = read_json(project.folder / artifacts.SNAPSHOT)["digest"]
    used = {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs}
    tested = read_json(project.folder / artifacts.DECISION)["test"]["digest"]
    assert used == {"toy": snapshot[:36], "toy test rows": tested[:36]}
    listed = {file.path for file in client(project.store).list_artifacts(run_id)}
    assert {"model_card.html", "plots", "evaluation", "training"} <= listed


@pytest.mark.parametrize(
    ("home", "link"),
    [
        (None, "Data Docs: `file:///"),
        ("http://127.0.0.1:5000/refit/", "[Data Docs](http://127.0.0.1:5000/refit/data-docs/index.html)"),
    ],
)
def test_from_another_machines_mlflow_a_run_leads_to_the_projects_own_server(
    project: Any, monkeypatch: pytest.MonkeyPatch, home: str | None, link: str
) -> None:
    project.judged()
    (docs := project.folder / artifacts.DATA_DOCS).mkdir()
    (docs / "index.html").write_text("<p>docs</p>")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://models.example.org/mlflow")
    training = Training.read(project.folder / artifacts.TRAINING)
    content = run_content.of_evaluation(replace(project.context, home_page=home), training)
    assert link in content.tags["mlflow.note.content"]


def test_a_new_evaluation_of_the_same_candidate_shows_its_own_numbers(project: Any) -> None:
    project.judged()
    run_id = run_logging.log_evaluation(project.context)
    write_json(project.folder / artifacts.METRICS, {"roc_auc": 0.65})
    assert run_logging.log_evaluation(project.context) == run_id
    assert client(project.store).get_run(run_id).data.metrics["test/roc_auc"] == 0.65


def test_a_run_that_was_lost_is_built_again_from_the_files(project: Any) -> None:
    project.judged()
    lost = run_logging.log_evaluation(project.context)
    client(project.store).delete_run(lost)
    built = run_logging.log_evaluation(project.context)
    assert built != lost
    assert client(project.store).get_run(built).data.metrics["test/roc_auc"] == 0.7


def test_a_registry_that_fails_is_a_warning_for_a_stage_and_an_error_for_register(project: Any) -> None:
    project.judged()
    shutil.rmtree(project.folder / ".refit")
    (project.folder / ".refit").write_text("in the way")
    said: list[str] = []
    context = replace(project.context, progress=lambda what, *_: said.append(what))
    assert run_logging.log_training(context) is None
    assert said[0].startswith("warning: MLflow was not updated: ")
    with pytest.raises(RefitError, match=r"cannot write .*registry\.lock"):
        run_logging.log_training(context, required=True)


def test_mlflow_shows_an_experiment_as_model_training_unless_a_person_chose_otherwise(project: Any) -> None:
    mlflow = client(project.store)
    made = tracking.ensure_experiment(project.store, "toy")
    assert mlflow.get_experiment(made).tags["mlflow.experimentKind"] == "custom_model_development"
    mlflow.set_experiment_tag(made, "mlflow.experimentKind", "regression")
    assert tracking.ensure_experiment(project.store, "toy") == made
    assert mlflow.get_experiment(made).tags["mlflow.experimentKind"] == "regression"


def test_an_experiment_of_an_earlier_refit_is_shown_as_model_training_too(project: Any) -> None:
    earlier = client(project.store).create_experiment("toy")
    assert tracking.ensure_experiment(project.store, "toy") == earlier
    assert client(project.store).get_experiment(earlier).tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_run_is_as_long_as_its_training_and_says_who_started_it_and_how(project: Any) -> None:
    project.judged()
    training = read_json(project.folder / artifacts.TRAINING)
    write_json(project.folder / artifacts.TRAINING, {**training, "seconds": 90.0})
    parent = client(project.store).get_run(run_logging.log_training(replace(project.context, trigger="drift x")))
    assert 90_000 <= parent.info.end_time - parent.info.start_time < 120_000
    assert parent.data.tags["mlflow.source.name"] == "refit run"
    assert parent.data.tags["mlflow.source.type"] == "JOB"
    assert parent.data.tags["mlflow.user"] == getpass.getuser()


def test_the_description_of_a_run_says_what_was_decided_and_on_which_rows(project: Any) -> None:
    project.judged()
    run = client(project.store).get_run(run_logging.log_evaluation(project.context))
    verdict, training, *_ = run.data.tags["mlflow.note.content"].split("\n\n")
    assert verdict.startswith("**promote** (non_inferiority): ")
    assert training.startswith("logistic, the best of 1 learners by roc_auc on validation rows (0.6)")


def test_the_figures_of_a_run_that_an_earlier_refit_logged_are_still_read(project: Any) -> None:
    mlflow, experiment = client(project.store), tracking.ensure_experiment(project.store, "toy")
    run = mlflow.create_run(experiment).info.run_id
    earlier = dict.fromkeys(
        ["rows_per_second", "latency_ms_p50", "latency_ms_p95", "latency_1000_ms_p50", "latency_1000_ms_p95"], 2.0
    ) | {"cost_training": 0.5, "cost_per_1000": 0.25, "validation_roc_auc": 0.75}
    for name, value in earlier.items():
        mlflow.log_metric(run, name, value)
    mlflow.log_param(run, "cost.currency", "EUR")
    kpis = run_logging.kpis(project.store, run)
    assert (kpis.cost_training, kpis.cost_per_1000, kpis.latency_ms_p95, kpis.currency) == (0.5, 0.25, 2.0, "EUR")
    assert validation_score(earlier, "roc_auc") == 0.75


def test_a_candidate_has_one_latency_and_one_cost_of_predictions_wherever_they_are_shown(project: Any) -> None:
    project.judged()
    run_id = run_logging.log_training(project.context)
    evaluation = read_json(project.folder / artifacts.EVALUATION)
    evaluation["timings"]["latency_ms"]["p95"], evaluation["timings"]["cost"]["per_1000"] = 7.5, 0.125
    write_json(project.folder / artifacts.EVALUATION, evaluation)
    assert run_logging.kpis(project.store, run_id).latency_ms_p95 != 7.5
    run_logging.log_evaluation(project.context)
    kpis = run_logging.kpis(project.store, run_id)
    assert (kpis.latency_ms_p95, kpis.cost_per_1000) == (7.5, 0.125)


def test_the_tags_of_a_run_that_people_read_have_plain_names_and_all_others_one_prefix(project: Any) -> None:
    project.judged()
    context = replace(project.context, flow_run="abc", trigger="drift: performance")
    tags = client(project.store).get_run(run_logging.log_evaluation(context)).data.tags
    named = {name: value for name, value in tags.items() if not name.startswith(("refit.", "mlflow."))}
    as_of = read_json(project.folder / artifacts.SNAPSHOT)["as_of"]
    assert named == {
        "as_of": f"{as_of[:10]} {as_of[11:16]} UTC",
        "decision": "promote",
        "learner": "logistic",
        "trigger": "drift: performance",
    }


def logged_models(project: Any) -> list[Any]:
    mlflow = client(project.store)
    experiment = mlflow.get_experiment_by_name("toy").experiment_id
    return list(mlflow.search_logged_models([experiment]))


def test_a_candidate_is_one_logged_model_with_its_metrics_on_their_data_sets_and_no_second_copy_of_its_files(
    project: Any,
) -> None:
    project.judged()
    run_id = run_logging.log_training(project.context)
    (trained,) = logged_models(project)
    assert {metric.key for metric in trained.metrics} >= {"validation/roc_auc", "training/roc_auc"}
    for _ in range(2):
        assert run_logging.log_evaluation(project.context) == run_id
    (model,) = logged_models(project)
    run = client(project.store).get_run(run_id)
    assert (model.model_id, model.source_run_id, model.status.value) == (trained.model_id, run_id, "READY")
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    assert (model.name, model.params["learner"]) == (run.info.run_name, "logistic")
    judged = {(metric.key, metric.value, metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
    used = {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs}
    assert ("validation/roc_auc", 0.6, "toy", used["toy"]) in judged
    assert ("test/roc_auc", 0.7, "toy test rows", used["toy test rows"]) in judged
    assert not (project.store.artifacts / "toy/models").exists()


def test_a_logged_model_that_was_cut_off_is_completed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.judged()

    def cut_off(*_: Any) -> None:
        raise OSError("the power went off")

    for call in ("finalize_logged_model", "log_outputs", "log_batch"):
        with monkeypatch.context() as patched:
            patched.setattr(type(client(project.store)), call, cut_off)
            with pytest.raises(OSError, match="power"):
                run_logging.log_training(project.context, required=True)
    run_id = run_logging.log_training(project.context)
    (model,) = logged_models(project)
    assert model.status.value == "READY"
    assert len(client(project.store).get_run(run_id).outputs.model_outputs) == 1


def test_a_server_without_logged_models_shows_runs_only(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    def unknown(*_: Any, **__: Any) -> None:
        raise MlflowException("no such endpoint", ENDPOINT_NOT_FOUND)

    project.judged()
    monkeypatch.setattr(type(client(project.store)), "search_logged_models", unknown)
    run = client(project.store).get_run(run_logging.log_evaluation(project.context, required=True))
    assert run.data.metrics["test/roc_auc"] == 0.7
