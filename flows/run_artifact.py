"""What Prefect's page of a run shows of its decision, with links to the model card and to MLflow."""

from __future__ import annotations

from pathlib import Path

from flows.run_summary import RunSummary
from flows.services.service_state import home_page
from refit.files.artifacts import EVALUATION, MODEL_CARD
from refit.plain_text import as_markdown
from refit.schemas.evaluation import Evaluation


def publish_decision(summary: RunSummary, project: Path) -> None:
    """Show the decision on the candidate in Prefect's UI, with what the model card says first."""
    from prefect.artifacts import create_markdown_artifact

    from refit.reports.model_card import wording

    decided = _decided(summary)
    headline = " ".join(wording.summary(Evaluation.read(project / EVALUATION)))
    links = " · ".join(f"[{words}]({address})" for words, address in _links(project, summary).items())
    parts = [
        f"**{as_markdown(decided)}**: {as_markdown('; '.join(summary.reasons))}",
        as_markdown(headline),
        f"MLflow run `{summary.mlflow_run_id}` · model card {as_markdown(project / MODEL_CARD)}",
        *([links] if links else []),
    ]
    create_markdown_artifact(
        key="refit-mlflow",
        markdown="\n\n".join(parts),
        description=as_markdown(f"{summary.model.name}: {decided}"),
    )


def _decided(summary: RunSummary) -> str:
    """Say what became of the candidate, in some words."""
    model = summary.model
    if model.awaits_approval:
        return f"version {model.version} waits for approval"
    if model.is_champion:
        return f"version {model.version} is champion"
    return f"version {model.version} was {'not promoted' if summary.decision.promote else 'refused'}"


def _links(project: Path, summary: RunSummary) -> dict[str, str]:
    """Return the pages of this run on the project's MLflow server, if `refit up` runs one."""
    if (home := home_page(project)) is None:
        return {}
    return {
        "model card": f"{home}versions/{summary.model.version}/card",
        "MLflow run": f"{home}runs/{summary.mlflow_run_id}",
        "home page": home,
    }
