"""A training job's request, input and output; the job itself runs here, in the place of Amazon's machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from driving import copy_project, drive
from servers import BUCKET, aws_client, aws_server

from flows.sagemaker import __main__ as command
from flows.sagemaker import bundle, container
from flows.sagemaker.job import Amazon, Machine, begin, request, wait
from flows.session import context_of
from refit.errors import RefitError, UserError
from refit.files.artifacts import CANDIDATE, TRAINING, read_json, write_manifest

MACHINE = Machine(
    image="123456789012.dkr.ecr.us-east-1.amazonaws.com/refit@sha256:0",
    role="arn:aws:iam::123456789012:role/refit",
    folder=f"s3://{BUCKET}/jobs",
    tags={"team": "growth"},
)


@pytest.fixture(scope="module")
def aws() -> Iterator[Mapping[str, str]]:
    with aws_server() as environ:
        yield environ


@dataclass(frozen=True)
class Platform:
    """SageMaker's interface as moto answers it; a job that is created runs at once, in a folder instead of /opt/ml."""

    sagemaker: Any
    s3: Any
    root: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sagemaker, name)

    def create_training_job(self, **asked: Any) -> None:
        self.sagemaker.create_training_job(**asked)
        job = self.sagemaker.describe_training_job(TrainingJobName=asked["TrainingJobName"])
        for folder in ("input/config", "input/data/project"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "input/config/hyperparameters.json").write_text(json.dumps(job["HyperParameters"]))
        source = urlsplit(job["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"])
        target = self.root / "input/data/project" / Path(source.path).name
        self.s3.download_file(source.netloc, source.path.lstrip("/"), str(target))
        python, *arguments = job["AlgorithmSpecification"]["ContainerEntrypoint"]
        assert python == "python"
        image = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(command.__file__).parents[2])}
        subprocess.run(
            [sys.executable, *arguments, "--root", str(self.root)],
            env=image | job.get("Environment", {}),
            cwd=self.root,
            check=True,
        )
        with tarfile.open(self.root / "model.tar.gz", "w:gz") as tar:
            tar.add(self.root / "model", ".")
        output = urlsplit(job["ModelArtifacts"]["S3ModelArtifacts"])
        self.s3.upload_file(str(self.root / "model.tar.gz"), output.netloc, output.path.lstrip("/"))


@pytest.mark.slow
def test_a_training_job_makes_the_same_model_as_the_stage_here_and_the_run_goes_on_with_it(
    aws: Mapping[str, str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both with the params of the environment that the command works in."""
    (project / "params.staging.yaml").write_text("project: {name: demo_staging}\ntrain: {seed: 7}\n")
    monkeypatch.setenv("REFIT_ENV", "staging")
    here = copy_project(project, tmp_path / "here")
    drive(here)
    s3 = aws_client("s3", aws)
    amazon = Amazon(s3, Platform(aws_client("sagemaker", aws), s3, tmp_path / "ml"))
    command.train(project, MACHINE, amazon)
    there, local = (read_json(each / TRAINING) for each in (project, here))
    assert there["model_digest"] == local["model_digest"]
    assert there["inputs"] == local["inputs"]
    files, same = (read_json(each / CANDIDATE / "manifest.json") for each in (project, here))
    for each in (files, same):
        each.pop("model.skops")  # skops writes other bytes each time; the digest is that of what they hold
    assert files == same
    assert not list((project / ".refit").glob("sagemaker-*"))
    summary = drive(project)
    assert summary["stages"]["train"]["state"] == "unchanged"
    assert summary["stages"]["register"]["state"] == "executed"
    command.train(project, MACHINE, amazon)
    assert len(amazon.sagemaker.list_training_jobs()["TrainingJobSummaries"]) == 1, (
        "what is known is not paid for again"
    )


def test_a_request_has_limits_and_tags_and_no_variables() -> None:
    asked = request(replace(MACHINE, spot=True, max_hours=2, wait_hours=3), "refit-demo-0-1", "jobs/a/project.tar", "0")
    assert "Environment" not in asked
    assert asked["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 10800}
    assert asked["EnableManagedSpotTraining"] is True
    assert asked["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert {"Key": "team", "Value": "growth"} in asked["Tags"]
    plain = request(MACHINE, "refit-demo-0-1", "jobs/a/project.tar", "0")
    assert plain["StoppingCondition"] == {"MaxRuntimeInSeconds": 21600}
    assert "CheckpointConfig" not in plain


def test_boto3_knows_every_field_of_a_request(aws: Mapping[str, str]) -> None:
    from botocore.validate import ParamValidator

    shape = aws_client("sagemaker", aws).meta.service_model.operation_model("CreateTrainingJob").input_shape
    for machine in (MACHINE, replace(MACHINE, spot=True)):
        asked = request(machine, "refit-demo-0-1", "jobs/a/project.tar", "0")
        assert not ParamValidator().validate(asked, shape).has_errors()


def test_what_is_sent_is_settings_code_and_features_and_the_same_bytes_each_time(project: Path, tmp_path: Path) -> None:
    (project / ".env").write_text("PASSWORD=hunter2\n")
    first, second = (bundle.pack(project, tmp_path / name) for name in ("a.tar", "b.tar"))
    assert first == second
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = {entry.name for entry in tar}
    assert {"params.yaml", "run.yaml", "dvc.yaml", "warm_start.json", "data/features/table.parquet"} <= names
    assert not [name for name in names if name.startswith(("raw", "data/batches", ".refit", ".dvc", ".git", ".env"))]


def test_another_input_than_the_one_that_was_sent_is_not_trained_on(project: Path, tmp_path: Path) -> None:
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/data/project").mkdir(parents=True)
    bundle.pack(project, tmp_path / "input/data/project" / bundle.ARCHIVE)
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps({"sha256": "0" * 64}))
    assert container.main(["--root", str(tmp_path)]) == 1
    assert "is not the archive that was sent (000000000000)" in (tmp_path / "output/failure").read_text()


def test_the_stage_in_a_container_reaches_no_registry(tmp_path: Path) -> None:
    environ = {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "REFIT_LEDGER_URI": "postgresql://refit@db/refit",
        "TZ": "UTC",
    }
    seen = container.environment(tmp_path, {"sha256": "0"}, environ)
    assert seen == {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/.refit/mlflow.db", "TZ": "UTC", "REFIT_ENV": ""}


def test_the_stage_in_a_container_has_the_params_of_the_environment_that_asked_for_it(tmp_path: Path) -> None:
    hyperparameters = request(MACHINE, "refit-demo-0-1", "jobs/a/project.tar", "0", "staging")["HyperParameters"]
    assert container.environment(tmp_path, hyperparameters, {"REFIT_ENV": "of the image"})["REFIT_ENV"] == "staging"


def test_an_output_that_is_not_what_its_manifest_says_changes_nothing(project: Path, tmp_path: Path) -> None:
    inputs = read_json(project / TRAINING)["inputs"]
    before = read_json(project / CANDIDATE / "manifest.json")
    for number, (spoil, expected) in enumerate(
        [
            (lambda made: (made / "candidate/features.json").write_text("{}"), "differs from its manifest"),
            (lambda made: (made / "candidate/more.json").write_text("{}"), "is not in its manifest"),
            (lambda made: (made / "training.json").unlink(), "it is no result of stage train"),
        ]
    ):
        made = tmp_path / f"made{number}"
        bundle.deliver(project, made)
        spoil(made)
        with pytest.raises(RefitError, match=expected):
            bundle.accept(context_of(project), made, inputs)
    bundle.deliver(project, tmp_path / "made")
    with pytest.raises(RefitError, match="and 0000 was wanted"):
        bundle.accept(context_of(project), tmp_path / "made", "0000")
    assert read_json(project / CANDIDATE / "manifest.json") == before
    assert bundle.accept(context_of(project), tmp_path / "made", inputs).inputs == inputs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seen_until", "2001-01-01T00:00:00Z"),
        ("split", "a third of the rows"),
        ("seed", 99),
        ("metric", "accuracy"),
        ("threshold", 0.123),
        ("rows", {"train": 1, "validation": 1}),
    ],
)
def test_what_a_job_says_of_its_training_has_to_be_what_this_project_says(
    field: str, value: object, project: Path, tmp_path: Path
) -> None:
    made, before = tmp_path / "made", (project / TRAINING).read_bytes()
    bundle.deliver(project, made)
    training = read_json(made / TRAINING.name)
    (made / TRAINING.name).write_text(json.dumps({**training, field: value}))
    with pytest.raises(RefitError, match=f"the training says {field} .*, and this project ") as error:
        bundle.accept(context_of(project), made, training["inputs"])
    assert "\n" not in str(error.value)
    assert (project / TRAINING).read_bytes() == before


def test_the_baseline_that_a_candidate_has_to_beat_is_made_here(project: Path, tmp_path: Path) -> None:
    bundle.deliver(project, tmp_path / "made")
    training = read_json(tmp_path / "made" / TRAINING.name)
    (tmp_path / "made" / TRAINING.name).write_text(json.dumps({**training, "baseline": {"rate": 0.999}}))
    bundle.accept(context_of(project), tmp_path / "made", training["inputs"])
    assert read_json(project / TRAINING) == training


@pytest.mark.parametrize("name", ["features.json", "profile.json"])
def test_a_candidate_that_describes_other_features_is_not_accepted(name: str, project: Path, tmp_path: Path) -> None:
    bundle.deliver(project, tmp_path / "made")
    described = tmp_path / "made" / CANDIDATE.name / name
    described.write_text(described.read_text() + "\n")
    write_manifest(tmp_path / "made" / CANDIDATE.name)
    with pytest.raises(RefitError, match=f"the job's candidate/{name} is not this project's"):
        bundle.accept(context_of(project), tmp_path / "made", read_json(project / TRAINING)["inputs"])


def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil", "../outside")
    with pytest.raises(RefitError, match=r"model\.tar\.gz cannot be unpacked"):
        bundle.unpack(tmp_path / "model.tar.gz", tmp_path / "made")
    assert not (tmp_path / "outside").exists()


@dataclass(frozen=True)
class States:
    """A job's states, one at each look."""

    states: list[dict[str, str]]

    def list_training_jobs(self, **asked: Any) -> dict[str, Any]:
        return {
            "TrainingJobSummaries": [
                {"TrainingJobName": f"{asked['NameContains']}-1", "TrainingJobStatus": "InProgress"}
            ]
        }

    def describe_training_job(self, **asked: Any) -> dict[str, str]:
        return self.states.pop(0)


def test_a_job_that_is_under_way_is_waited_for_and_one_that_fails_says_why(project: Path) -> None:
    said: list[str] = []
    context = replace(context_of(project), progress=lambda what, *_: said.append(what))
    going = [
        {"TrainingJobStatus": "InProgress", "SecondaryStatus": state} for state in ("Starting", "Training", "Training")
    ]
    failed = {
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: stage train failed:\nthe label is constant",
    }
    amazon = Amazon(None, States([*going, failed]), pause=lambda _: None)
    name = begin(context, MACHINE, amazon, Path("nothing is sent"), "0" * 64)
    with pytest.raises(
        RefitError, match=r"is Failed: AlgorithmError: stage train failed:.*the label is constant"
    ) as error:
        wait(context, amazon, name)
    assert "\n" not in str(error.value)
    assert said == [
        f"training job {name} is under way already",
        *(f"training job {name}: {state}" for state in ("Starting", "Training")),
    ]


def test_what_amazon_refuses_is_one_line(aws: Mapping[str, str], project: Path, tmp_path: Path) -> None:
    (tmp_path / "project.tar").write_text("x")
    amazon = Amazon(aws_client("s3", aws), aws_client("sagemaker", aws))
    with pytest.raises(RefitError, match="the bucket does not exist") as error:
        begin(context_of(project), replace(MACHINE, folder="s3://misspelt/jobs"), amazon, tmp_path / "project.tar", "1")
    assert str(error.value).startswith("the training job in s3://misspelt/jobs: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--image refit --role refit --folder s3://b/p", "arn:aws:iam::ACCOUNT:role/NAME was expected"),
        ("--image refit --role arn:aws:iam::123456789012:role/r --folder /tmp", "s3://BUCKET/PREFIX was expected"),
        ("--image refit --role arn:aws:iam::123456789012:role/r --folder s3://b --tag team", "KEY=VALUE was expected"),
        ("--image refit --role arn:aws:iam::123456789012:role/r --folder s3://b --spot --max-hours 20", "is less than"),
    ],
)
def test_a_mistake_on_the_command_line_says_what_would_be_right(arguments: str, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        command.options(arguments.split())
