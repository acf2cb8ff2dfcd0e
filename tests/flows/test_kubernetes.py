"""The manifests of infra/kubernetes against Kubernetes' own schemas, and its pool against Prefect's worker."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prefect_kubernetes", reason="the extra [kubernetes] is not installed")

import contextlib

from kubernetes_schemas import model_of, problems

from flows import deployments

RUN_AS_IMAGE = [{"flows.checkouts.image": {}}]


def documents(root: Path) -> Iterator[dict[str, Any]]:
    """What `kubectl apply -k` would send, as it is before kustomize sets namespace and image."""
    folder = root / "infra/kubernetes"
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((folder / name).read_text())


def pods(root: Path) -> dict[str, dict[str, Any]]:
    found = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in documents(root)
        if "template" in each.get("spec", {})
    }
    return found | {"run": pool(root)["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]}


def pool(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "infra/kubernetes/pool.json").read_text())
    return content


def test_every_field_of_the_manifests_is_one_of_kubernetes(root: Path) -> None:
    kinds = [each["kind"] for each in documents(root)]
    assert len(kinds) > 10
    for each in documents(root):
        kind = "RbacV1Subject" if each["kind"] == "Subject" else model_of(each)
        assert list(problems(each, kind)) == [], each["metadata"]["name"]


def test_the_manifests_pass_the_published_schemas_of_kubernetes(root: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (108 MB)")
    for each in documents(root):
        validate.validate(each, "1.33", strict=True)


def test_no_pod_runs_as_root_without_limits_or_with_a_right_that_it_does_not_need(root: Path) -> None:
    found = pods(root)
    assert set(found) == {"mlflow", "prefect", "worker", "run"}
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod.get("automountServiceAccountToken") is (None if name == "worker" else False), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
            assert name == "run" or {"startupProbe", "livenessProbe"} <= container.keys(), name
            tag = container["image"].partition(":")[2]
            assert tag not in ("", "latest"), "an image that changes under its name is not pinned"


def test_secrets_are_references_to_keys_that_the_example_lists(root: Path) -> None:
    example = (root / "infra/kubernetes/secret.env.example").read_text()
    keys = set(re.findall(r"^(\w+)=", example, re.M))
    used = set()
    for name, pod in pods(root).items():
        for variable in pod["containers"][0]["env"]:
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "refit"
                used.add(reference["key"])
            else:
                assert not re.search(
                    "PASSWORD|SECRET_ACCESS|AUTH_STRING$|_URI$", variable["name"].replace("TRACKING_URI", "")
                ), name
    assert used == keys
    assert "Secret" not in {each["kind"] for each in documents(root)}


async def _manifest(
    job_variables: dict[str, Any], template: dict[str, Any], of_run: dict[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """The job that Prefect's worker would make of a flow run, and the id of the run."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    async with get_client() as client:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name="k8s", type="kubernetes", base_job_template=template))
        work_pool = await client.read_work_pool("k8s")
        flow = await client.create_flow_from_name("batch-scoring")
        deployment = await client.create_deployment(
            flow,
            "demo.daily",
            entrypoint="flows.batch_scoring:batch_scoring",
            work_pool_name="k8s",
            pull_steps=RUN_AS_IMAGE,
            job_variables=job_variables,
        )
        run = await client.create_flow_run_from_deployment(deployment, job_variables=of_run)
        known = await client.read_deployment(deployment)
        configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
            base_job_template=work_pool.base_job_template,
            values=known.job_variables | (run.job_variables or {}),
            client=client,
        )
        configuration.prepare_for_flow_run(run, known, await client.read_flow(flow), work_pool, "worker")
    return configuration.job_manifest, str(run.id)


@pytest.mark.usefixtures("prefect_server")
def test_a_run_gets_the_resources_of_its_deployment_and_nothing_else_from_a_request(root: Path) -> None:
    job, run = asyncio.run(_manifest({"memory": "32Gi", "gpu": "1"}, pool(root)))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "32Gi", "nvidia.com/gpu": "1"}
    assert container["args"] == ["python", "-P", "-m", "flows.deployed_run"]
    assert container["image"] == "refit:0.2.0"
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["PREFECT__FLOW_RUN_ID"] == run
    assert values["PREFECT_API_URL"].startswith("http")
    assert values["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    for name in ("parallelism", "completions"):
        job["spec"]["template"]["spec"].pop(name)  # Prefect wants them where Kubernetes has no such fields
    assert list(problems(job, "V1Job")) == []

    from prefect.exceptions import PrefectHTTPStatusError

    for refused in ({"image": "evil"}, {"command": "sh"}, {"env": {"A": "b"}}, {"memory": "all"}, {"gpu": "99"}):
        with pytest.raises(PrefectHTTPStatusError, match=r"422|409"):
            asyncio.run(_manifest(refused, pool(root)))


@pytest.mark.ci
@pytest.mark.usefixtures("prefect_server")
def test_a_run_of_its_own_cannot_change_what_its_pod_runs(root: Path) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    for asked in ({"image": "evil"}, {"command": "sh -c evil"}, {"env": {"MLFLOW_TRACKING_URI": "http://evil"}}):
        with contextlib.suppress(PrefectHTTPStatusError):  # refused, or without effect
            job, _ = asyncio.run(_manifest({}, pool(root), asked))
            assert "evil" not in json.dumps(job)


@pytest.mark.usefixtures("prefect_server")
def test_what_a_deployment_asks_for_is_no_fault_in_a_process_pool(tmp_path: Path, root: Path) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    assert set(pool(root)["variables"]["properties"]) == set(deployments.RESOURCES)
    with get_client(sync_client=True) as client:
        template = deployments.job_template(tmp_path)
        client.create_work_pool(WorkPoolCreate(name="process", type="process", base_job_template=template))
        client.create_deployment(
            client.create_flow_from_name("batch-scoring"),
            "demo.here",
            work_pool_name="process",
            job_variables={"cpu": "8", "memory": "32Gi", "gpu": "1", "deadline_seconds": 60},
        )
