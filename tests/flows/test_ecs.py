"""The pool of infra/ecs against Prefect's worker for ECS and Amazon's description of its requests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect_aws", reason="the extra [aws] is not installed")

from botocore.session import get_session
from botocore.validate import ParamValidator


def validate(operation: str, asked: dict[str, Any]) -> None:
    shape = get_session().get_service_model("ecs").operation_model(operation).input_shape
    report = ParamValidator().validate(asked, shape)
    assert not report.has_errors(), report.generate_report()


async def _requests(template: dict[str, Any], job_variables: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Prefect's worker would send for a flow run: the task's definition, and the request that runs it."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSWorker

    async with get_client() as client:
        name = f"ecs-{len(job_variables)}"
        await client.create_work_pool(WorkPoolCreate(name=name, type="ecs", base_job_template=template))
        flow = await client.create_flow_from_name("batch-scoring")
        deployment = await client.create_deployment(
            flow,
            f"{name}.daily",
            entrypoint="flows.batch_scoring:batch_scoring",
            work_pool_name=name,
            pull_steps=[{"flows.checkouts.image": {}}],
            job_variables=job_variables,
        )
        run = await client.create_flow_run_from_deployment(deployment)
        known = await client.read_deployment(deployment)
        configuration = await ECSJobConfiguration.from_template_and_values(
            base_job_template=(await client.read_work_pool(name)).base_job_template,
            values=known.job_variables,
            client=client,
        )
        configuration.env["PREFECT_API_AUTH_STRING"] = "refit:hunter2"  # as a worker's environment gives it
        configuration.prepare_for_flow_run(run, known, await client.read_flow(flow))
        worker = ECSWorker(work_pool_name=name)
        definition = worker._prepare_task_definition(configuration, "us-east-1", run)
        awsvpc = {"awsvpcConfiguration": {"subnets": ["subnet-0"]}}
        configuration.task_run_request["networkConfiguration"] = awsvpc  # a worker looks for those of the default VPC
        arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/refit:1"
        return definition, worker._prepare_task_run_request(configuration, definition, arn, False)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_run_is_the_pools_command_in_the_pools_image_with_secrets_by_reference(root: Path) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    template = json.loads((root / "infra/ecs/pool.json").read_text())
    definition, asked = asyncio.run(_requests(template, {"cpu": "8192", "memory": "32768"}))
    validate("RegisterTaskDefinition", definition)
    validate("RunTask", asked)
    assert (definition["cpu"], definition["memory"]) == ("8192", "32768")
    (container,) = definition["containerDefinitions"]
    assert container["user"] == "1000"
    assert {each["name"] for each in container["secrets"]} == {"REFIT_LEDGER_URI", "PREFECT_API_AUTH_STRING"}
    (override,) = asked["overrides"]["containerOverrides"]
    assert override["command"] == ["python", "-P", "-m", "flows.deployed_run"]
    assert "PREFECT__FLOW_RUN_ID" in {each["name"] for each in override["environment"]}
    assert "hunter2" not in json.dumps([definition, asked])
    with pytest.raises(PrefectHTTPStatusError, match="'image' was unexpected"):
        asyncio.run(_requests(template, {"image": "evil"}))
