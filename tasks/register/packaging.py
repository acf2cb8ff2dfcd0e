"""Builds the folder that the registry stores of a candidate: model, golden rows, provenance, manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from feature_store.definition import FeatureSet
from refit.config.section import free
from refit.errors import RefitError
from refit.files.artifacts import (
    CANDIDATE,
    DECISION,
    EVALUATION,
    FEATURE_SET,
    JUDGED,
    JUDGED_ROWS,
    METRICS,
    RELEASED,
    SNAPSHOT,
    TABLE,
    TRAINING,
    UNSEEN,
    WARM_START,
    FileRef,
    check_manifest,
    digest,
    read_json,
    sha256,
    write_json,
    write_manifest,
)
from refit.models.incumbent import PARENT, PARENT_DIGEST, RECIPE, STAND_IN, TEST_TAG, USES, signer_of
from refit.models.incumbent import TAG as COMPARAND_TAG
from refit.models.run_content import shown_moment
from refit.models.verification import BACKTEST, GOLDEN, PREDICTION
from refit.problems import output_names
from refit.runtime import project_requirements, provenance, run_file
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_table import FeatureTable
from refit.schemas.gate_decision import Decision
from refit.schemas.model_description import ModelDescription
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from refit.storage.columns import rows_of_window
from registry import signing
from registry.versions import save_pyfunc

if TYPE_CHECKING:
    import pyarrow as pa

LOADER = "refit.learners.pyfunc"
VERDICT = "decision"  # tag for people, as are those without `refit.`; commands read the decision in `refit.decision`
EXAMPLE_ROWS = 5
PROVENANCE = "provenance"  # folder of what a version was made from


@dataclass(frozen=True)
class Candidate:
    """The files of one candidate that `train` and `evaluate` wrote, read once and checked to belong together."""

    folder: Path
    training: Training
    decision: Decision
    metrics: Mapping[str, object]

    @classmethod
    def read(cls, context: Context) -> Candidate:
        """Read the candidate from the project's files.

        Raises:
            RefitError: a file is missing or differs, or the decision is about another model.
        """
        training, decision = Training.read(context.path(TRAINING)), Decision.read(context.path(DECISION))
        if decision.candidate != training.model_digest:
            raise RefitError(
                f"{DECISION} judges model {decision.candidate[:12]}, but {TRAINING} names "
                f"{training.model_digest[:12]}; `refit run` evaluates it"
            )
        check_manifest(context.path(CANDIDATE))
        return cls(context.path(CANDIDATE), training, decision, read_json(context.path(METRICS)))

    @property
    def identity(self) -> dict[str, str]:
        """The tags that name its run and its version."""
        return self.training.identity

    @property
    def judgement(self) -> dict[str, str]:
        """The tags of its latest evaluation; a champion keeps the tags that it was promoted with."""
        return {
            VERDICT: self.decision.verdict,
            "refit.decision": json.dumps(self.decision.to_json(), sort_keys=True),
            COMPARAND_TAG: json.dumps(self.decision.incumbent.to_json(), sort_keys=True),
            "refit.metrics": json.dumps(self.metrics, sort_keys=True),
            TEST_TAG: self.decision.test.digest,
        }


def build(context: Context, candidate: Candidate, folder: Path, *, run_id: str) -> dict[str, str]:
    """Write the stored form of a candidate into the new `folder`; returns the tags of the future version.

    It is an MLflow pyfunc (`data/candidate/` is the candidate's folder as it is), with `golden.parquet`,
    `backtest.parquet`, `provenance/` and a manifest of every file. Nothing in it is a pickle.
    """
    features = FeatureTable.read(candidate.folder / FEATURE_SET.name)
    description = ModelDescription.read(candidate.folder / "model.json")
    golden = golden_rows(context, features.key, features.features)
    save_pyfunc(
        folder,
        candidate.folder,
        run_id=run_id,
        loader=LOADER,
        features=list(features.features),
        example=golden.slice(0, EXAMPLE_ROWS).select(features.features).to_pandas(),
        requirements=_requirements(context, description.kind, candidate.folder),
        outputs=output_names(description.task, description.classes),
    )
    _write_parquet(golden, folder / GOLDEN)
    _write_parquet(_backtest(context, candidate), folder / BACKTEST)
    recorded = _write_provenance(context, candidate.training.started_from, folder / PROVENANCE)
    write_manifest(folder)
    signer = signer_of(context)
    snapshot = Snapshot.read(context.path(SNAPSHOT))
    tags = {
        "learner": candidate.training.learner,
        "as_of": shown_moment(snapshot.as_of, context.params.project.zone),
        **candidate.identity,
        **candidate.judgement,
        "refit.manifest": sha256(folder / "manifest.json"),
        **({signing.TAG: signing.sign(folder, signer)} if signer else {}),
        "refit.learner": candidate.training.learner,
        "refit.seen_until": utc_text(candidate.training.seen_until),
        "refit.snapshot": snapshot.digest,
        "refit.as_of": utc_text(snapshot.as_of),
        **_parent_tags(candidate.training.started_from),
        **_model_tags(features.definitions.feature_set),
        RECIPE: run_file.recipe_digest(context.project, context.params),
        **({"refit.split": split} if (split := candidate.training.split) else {}),
        **({STAND_IN: ", ".join(snapshot.stand_in)} if snapshot.stand_in is not None else {}),
        **{f"refit.{key}": value for key, value in recorded.items() if value is not None},
    }
    return {key: str(value) for key, value in tags.items()}


def _requirements(context: Context, kind: str, folder: Path) -> list[str]:
    """What the stored model needs in addition to Refit: what its learner does, and what the project asks for."""
    learner = provenance.requirements(kind, network=network_libraries(folder))
    return list(dict.fromkeys([*learner, *project_requirements.installed(context.project)]))


def golden_rows(context: Context, key: str, features: Sequence[str]) -> pa.Table:
    """Return features of test rows spread evenly over the window, with the predictions that were evaluated.

    Raises:
        RefitError: `evaluate` predicted other rows than those of the table's test window.
    """
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = FeatureTable.read(context.path(CANDIDATE) / FEATURE_SET.name).table.path(context.project)
    test = rows_of_window(table, "test", [key, *features])
    judged = pq.read_table(_predictions(context))
    key_column = free(key, JUDGED)
    keys = judged.column(key_column if key_column in judged.column_names else "key").combine_chunks()
    indices = pc.index_in(test.column(key).combine_chunks(), value_set=keys)
    if indices.null_count or not test.num_rows or len(keys) != test.num_rows:
        raise RefitError(
            f"{JUDGED_ROWS} and the test rows of {TABLE} differ in their keys; `refit run` evaluates again"
        )
    count = min(context.params.register_.golden_rows, test.num_rows)
    chosen = np.unique(np.linspace(0, test.num_rows - 1, count).astype(np.int64))
    golden = test.select(features).take(chosen)
    return golden.append_column(PREDICTION, judged.column("candidate").take(indices.take(chosen)))


def _backtest(context: Context, candidate: Candidate) -> pa.Table:
    """Return predictions with labels: of the validation window as `train` left them (`Trained.reference`), of the test
    window by the candidate itself. They are the reference for the predictions of the champion and its performance."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["event_time", "prediction", "label"]
    test = pq.read_table(_predictions(context), columns=["event_time", "candidate", "label"]).rename_columns(names)
    return pa.concat_tables([pq.read_table(candidate.folder / UNSEEN), test], promote_options="permissive")


def _predictions(context: Context) -> Path:
    """Return the path of the predictions that were evaluated.

    Raises:
        RefitError: the file is missing, differs from what `evaluate` wrote, or was written by an older Refit.
    """
    if (recorded := Evaluation.read(context.path(EVALUATION)).predictions) is None:
        raise RefitError(f"{EVALUATION} is of an older Refit, and names no predictions; `refit run` evaluates again")
    return FileRef(JUDGED_ROWS.as_posix(), sha256=recorded.sha256, rows=recorded.rows).resolve(context.project)


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _parent_tags(start: WarmStart) -> dict[str, str]:
    """The tags by which a version and its parent find each other."""
    return {PARENT: str(start.parent), PARENT_DIGEST: start.parent.model_digest} if start.parent else {}


def _model_tags(features: FeatureSet) -> dict[str, str]:
    """The tags by which a version and those of other models that compute its features find each other."""
    return {
        f"{USES}.{model.name}.{each.version}": each.model_digest for model in features.models for each in model.versions
    }


def _write_provenance(context: Context, started_from: WarmStart, folder: Path) -> dict[str, str | None]:
    """Write the files needed to reproduce a model; returns the values that become tags."""
    folder.mkdir()
    resolved = context.params.model_dump(mode="json", by_alias=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if context.path("dvc.lock").is_file():  # not dvc.yaml: DVC would take the copy for a pipeline of the project
        shutil.copyfile(context.path("dvc.lock"), folder / "dvc.lock")
    shutil.copyfile(context.path(SNAPSHOT), folder / SNAPSHOT.name)
    if context.path(RELEASED).is_file():
        shutil.copyfile(context.path(RELEASED), folder / RELEASED.name)
    else:  # where a version has no such file, an older Refit registered it
        write_json(folder / RELEASED.name, {"released": []})
    started_from.write(folder / WARM_START.name)
    shutil.copyfile(context.path(TRAINING), folder / TRAINING.name)  # by which it is judged in another environment
    if own := project_requirements.installed(context.project):
        (folder / project_requirements.RECORD).write_text("\n".join(own) + "\n", encoding="utf-8")
    commit = provenance.commit(context.project)
    if commit.patch is not None:
        (folder / "uncommitted.patch").write_bytes(commit.patch)
    recorded = {
        "git_commit": commit.hash,
        "git_patch": sha256(folder / "uncommitted.patch") if commit.patch is not None else None,
        "params": digest(resolved),
        "constraints": provenance.constraints_digest(),
        "release": provenance.release(),
        "processor": provenance.processor(),
    }
    write_json(folder / "provenance.json", {**recorded, "uncommitted_and_left_out": list(commit.left_out)})
    return recorded


def network_libraries(folder: Path) -> tuple[str, ...]:
    """The libraries that the networks in a candidate's folder need, those within other learners included."""
    libraries: dict[str, str] = {}
    for path in sorted(folder.rglob("model.json")):
        stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8")).get("libraries", {})
        if "torch" in stored:
            libraries |= {"torch": "", "safetensors": "", **stored}
    return tuple(libraries)
