"""What MLflow shows of a run: built from the files, the same however often it is built."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from refit.errors import RefitError
from refit.files import artifacts
from refit.files.artifacts import read_json, write_json
from refit.models import run_logging
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
    assert child.data.tags["refit.verdict"] == "fits"
    assert [run.info.status for run in (parent, child)] == ["FINISHED", "FINISHED"]
    history = client(project.store).get_metric_history(child.info.run_id, "curve_training")
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
        history = client(project.store).get_metric_history(child.info.run_id, "curve_training")
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
    assert run.data.metrics["test_roc_auc"] == 0.7
    assert run.data.metrics["validation_roc_auc"] == 0.6
    assert run.data.tags["refit.prefect_flow_run"] == "abc"
    assert run.data.tags["refit.prefect_url"] == "http://prefect:4200/runs/flow-run/abc"
    assert run.data.tags["refit.data_docs"] == (docs / "index.html").as_uri()
    assert "better than the baseline" in run.data.tags["mlflow.note.content"]
    snapshot = read_json(project.folder / artifacts.SNAPSHOT)["digest"]
    assert run.inputs.dataset_inputs[0].dataset.digest == snapshot[:36]
    listed = {file.path for file in client(project.store).list_artifacts(run_id)}
    assert {"model_card.html", "plots", "evaluation", "training"} <= listed


def test_a_new_evaluation_of_the_same_candidate_shows_its_own_numbers(project: Any) -> None:
    project.judged()
    run_id = run_logging.log_evaluation(project.context)
    write_json(project.folder / artifacts.METRICS, {"roc_auc": 0.65})
    assert run_logging.log_evaluation(project.context) == run_id
    assert client(project.store).get_run(run_id).data.metrics["test_roc_auc"] == 0.65


def test_a_run_that_was_lost_is_built_again_from_the_files(project: Any) -> None:
    project.judged()
    lost = run_logging.log_evaluation(project.context)
    client(project.store).delete_run(lost)
    built = run_logging.log_evaluation(project.context)
    assert built != lost
    assert client(project.store).get_run(built).data.metrics["test_roc_auc"] == 0.7


def test_a_registry_that_fails_is_a_warning_for_a_stage_and_an_error_for_register(project: Any) -> None:
    project.judged()
    shutil.rmtree(project.folder / ".refit")
    (project.folder / ".refit").write_text("in the way")
    said: list[str] = []
    context = replace(project.context, progress=lambda what, *_: said.append(what))
    assert run_logging.log_training(context) is None
    assert said[0].startswith("warning: MLflow was not told: ")
    with pytest.raises(RefitError, match=r"cannot write .*registry\.lock"):
        run_logging.log_training(context, required=True)
