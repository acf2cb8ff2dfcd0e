"""Starts a training job on Amazon SageMaker, waits for it, and takes what it made as the outputs of `train`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.sagemaker.bundle import ARCHIVE, accept, pack, scratch_of, unpack
from refit.errors import RefitError, UserError, message_of
from refit.extras import not_installed
from refit.files.artifacts import digest
from refit.models.run_logging import log_training
from refit.plain_text import one_line
from refit.runtime import environments
from refit.runtime.context import Context
from registry.object_stores import s3_fault
from tasks.train import inputs_digest
from tasks.train.start import start_of

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


@dataclass(frozen=True)
class Machine:
    """Where and how a job runs, and what it may cost.

    Raises:
        UserError: the role or the folder is none.
    """

    image: str  # of Refit, in Amazon's registry
    role: str  # which the job has: it reads and writes the folder, and nothing else
    folder: str  # s3://BUCKET/PREFIX of inputs and outputs
    instance: str = "ml.m5.xlarge"
    volume_gb: int = 50
    max_hours: float = 6
    spot: bool = False
    wait_hours: float = 12  # for a spot machine and the training together
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ROLE.fullmatch(self.role):
            raise UserError(f"--role {self.role} is no role; arn:aws:iam::ACCOUNT:role/NAME was expected")
        if not self.bucket or urlsplit(self.folder).scheme != "s3":
            raise UserError(f"--folder {self.folder} is no folder of S3; s3://BUCKET/PREFIX was expected")
        if self.spot and self.wait_hours < self.max_hours:
            raise UserError(f"--wait-hours {self.wait_hours:g} is less than --max-hours {self.max_hours:g}")

    @property
    def bucket(self) -> str:
        return urlsplit(self.folder).netloc

    def key(self, *names: str) -> str:
        """Return the key of an object below the folder.

        >>> Machine("refit", "arn:aws:iam::123456789012:role/refit", "s3://models/jobs/").key("a", "b")
        'jobs/a/b'
        """
        return "/".join(filter(None, [urlsplit(self.folder).path.strip("/"), *names]))


def request(machine: Machine, name: str, archive: str, sha256: str, environment: str | None = None) -> dict[str, Any]:
    """Return the request for a training job. Its environment is empty: nothing in it is a secret.

    Args:
        archive: the key of the input.
        environment: whose params the stage has; None for `params.yaml` alone.
    """
    seconds = int(machine.max_hours * 3600)
    stopping = {"MaxRuntimeInSeconds": seconds}
    if machine.spot:
        stopping["MaxWaitTimeInSeconds"] = max(seconds, int(machine.wait_hours * 3600))
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://{machine.bucket}/{archive}",
        "S3DataDistributionType": "FullyReplicated",
    }
    checkpoints = {
        "S3Uri": f"s3://{machine.bucket}/{machine.key(name, 'checkpoints')}",
        "LocalPath": "/opt/ml/checkpoints",
    }
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": machine.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", "-P", "-m", "flows.sagemaker.container"],
        },
        "RoleArn": machine.role,
        "HyperParameters": {"sha256": sha256, **({"environment": environment} if environment else {})},
        "InputDataConfig": [{"ChannelName": "project", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{machine.bucket}/{machine.key()}".rstrip("/")},
        "ResourceConfig": {
            "InstanceType": machine.instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": machine.volume_gb,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": machine.spot,
        **({"CheckpointConfig": checkpoints} if machine.spot else {}),
        "Tags": [{"Key": key, "Value": value} for key, value in {"refit": "train", **machine.tags}.items()],
    }


@dataclass(frozen=True)
class Amazon:
    """The two services that a job needs."""

    s3: Any
    sagemaker: Any
    pause: Callable[[float], None] = time.sleep

    @classmethod
    def of_environment(cls) -> Amazon:
        """Connect by the keys, the region and the endpoint of the environment, or by this machine's role.

        Raises:
            UserError: boto3 is not installed.
            RefitError: there is no region.
        """
        try:
            import boto3
        except ModuleNotFoundError as error:
            raise not_installed(error, "training on SageMaker") or error from None
        with _faults("AWS"):
            return cls(boto3.client("s3"), boto3.client("sagemaker"))


def train_there(context: Context, machine: Machine, amazon: Amazon) -> None:
    """Do the work of the stage `train` as a training job.

    A job for the same input that is still under way is waited for, and not started a second time. If this process is
    interrupted, the job goes on, and the next call finds it.

    Raises:
        RefitError: AWS refused something, the job failed, or what it made is not what it should be.
    """
    inputs = inputs_digest(context, start_of(context))
    with scratch_of(context.project) as scratch:
        sha256 = pack(context.project, scratch / ARCHIVE)
        name = begin(context, machine, amazon, scratch / ARCHIVE, sha256)
        outcome = wait(context, amazon, name)
        fetched = scratch / "model.tar.gz"
        with _faults(f"the output of training job {name}"):
            where = urlsplit(outcome["ModelArtifacts"]["S3ModelArtifacts"])
            amazon.s3.download_file(where.netloc, where.path.lstrip("/"), str(fetched))
        unpack(fetched, scratch / "made")
        accept(context, scratch / "made", inputs)
    log_training(context)


def begin(context: Context, machine: Machine, amazon: Amazon, archive: Path, sha256: str) -> str:
    """Start the job for an archive, unless it is under way already; return its name."""
    base = job_name(context.params.project.name, digest([sha256, machine.image]))
    with _faults(f"the training job in {machine.folder}"):
        jobs = amazon.sagemaker.list_training_jobs(NameContains=base, MaxResults=100)["TrainingJobSummaries"]
        for job in jobs:
            if job["TrainingJobStatus"] == "InProgress":
                context.progress(f"training job {job['TrainingJobName']} is under way already")
                return str(job["TrainingJobName"])
        name, key = f"{base}-{len(jobs) + 1}", machine.key("inputs", sha256, ARCHIVE)
        amazon.s3.upload_file(str(archive), machine.bucket, key)
        amazon.sagemaker.create_training_job(**request(machine, name, key, sha256, environments.current()))
    context.progress(f"started training job {name} on {machine.instance}{' (spot)' if machine.spot else ''}")
    return name


def job_name(model: str, identity: str) -> str:
    """Return the beginning of a job's name: at most 50 letters, digits and hyphens.

    >>> job_name("flight_delays", "0123456789abcdef")
    'refit-flight-delays-0123456789ab'
    """
    return f"refit-{re.sub('[^A-Za-z0-9]+', '-', model).strip('-')[:30]}-{identity[:12]}"


def wait(context: Context, amazon: Amazon, name: str, every_seconds: float = 15) -> Mapping[str, Any]:
    """Return SageMaker's description of a job that has completed; report its states until then.

    Raises:
        RefitError: it failed, or was stopped by a person or at its time limit.
    """
    shown = ""
    while True:
        with _faults(f"training job {name}"):
            job: dict[str, Any] = amazon.sagemaker.describe_training_job(TrainingJobName=name)
        status, state = job["TrainingJobStatus"], str(job.get("SecondaryStatus", ""))
        if status == "Completed":
            return job
        if status in ("Failed", "Stopped"):
            reason = one_line(job.get("FailureReason") or state or "it gave no reason")
            raise RefitError(f"training job {name} is {status}: {reason}; its log is in CloudWatch")
        if state != shown:
            context.progress(f"training job {name}: {state}")
            shown = state
        amazon.pause(every_seconds)


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Turn boto3's errors inside the block into a one-line RefitError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("boto"):
            raise
        raise RefitError(f"{what}: {s3_fault(error) or message_of(error)}") from error
