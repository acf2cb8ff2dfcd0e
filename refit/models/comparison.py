"""Compares two registered versions: what was measured, and their params, features, data and code."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from refit.errors import RefitError, UserError
from refit.files.artifacts import EVALUATION, FEATURE_SET, SNAPSHOT, TRAINING, read_json
from refit.files.yaml_files import parse_yaml
from refit.models.incumbent import TEST_TAG
from refit.models.verification import MODEL
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import Artifact
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_table import FeatureTable
from refit.schemas.gate_decision import Decision, GainComparison
from refit.schemas.measured import Measured
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import Training
from refit.schemas.version_comparison import ComparedVersion, Difference, VersionComparison
from registry import run_files, versions
from registry.store import RegistryError, Store
from registry.versions import Version

__all__ = ["compared"]

A = TypeVar("A", bound=Artifact)
PROVENANCE = Path("provenance")
_OF_TWO = ("gain_over_", "error_reduction")  # metrics in a version's tag that are relative to another model


def compared(context: Context, first: str, second: str) -> VersionComparison:
    """Compare two versions.

    Raises:
        UserError: there is no such version.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        before, after = _version(store, model, first), _version(store, model, second)
        return _Reader(store).compared(before, after)


def _version(store: Store, model: str, number: str) -> Version:
    if (of := versions.version(store, model, number)) is None:
        raise UserError(f"{model} has no version {number!r}; `refit history` names those that were judged")
    return of


class _Reader:
    """Reads what is stored of versions, and notes what cannot be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes = dict[str, None]()

    def compared(self, before: Version, after: Version) -> VersionComparison:
        """Compare two versions of one model."""
        evaluations = self._evaluation(before), self._evaluation(after)
        measured = _measured(before, evaluations[0]), _measured(after, evaluations[1])
        gains, gate, judged = _judged((before, after), evaluations)
        tables = tuple(self._stored(of, MODEL / FEATURE_SET.name, FeatureTable) for of in (before, after))
        test = before.tags.get(TEST_TAG)
        return VersionComparison(
            model=before.model,
            of=(self._facts(before), self._facts(after)),
            metrics={
                name: (measured[0].get(name), measured[1].get(name)) for name in sorted({*measured[0], *measured[1]})
            },
            gains=gains,
            confidence=next((each.confidence for each in evaluations if each), None),
            gate=gate,
            judged=judged,
            same_test=test is not None and test == after.tags.get(TEST_TAG),
            params=_differences(self._params(before), self._params(after)),
            features=_differences(*map(_definitions, tables)) if all(tables) else (),
            shared_features=len({*tables[0].features} & {*tables[1].features}) if tables[0] and tables[1] else None,
            notes=tuple(self._notes),
        )

    def _facts(self, of: Version) -> ComparedVersion:
        snapshot = self._stored(of, PROVENANCE / SNAPSHOT.name, Snapshot)
        training = self._stored(of, PROVENANCE / TRAINING.name, Training)
        decision = _decision(of)
        aliases = versions.registered(self._store, of.model).aliases
        return ComparedVersion(
            version=of.version,
            aliases=tuple(sorted(alias for alias, number in aliases.items() if number == of.version)),
            created=of.created,
            learner=of.tags.get("refit.learner"),
            as_of=of.tags.get("refit.as_of"),
            seen_until=of.tags.get("refit.seen_until"),
            snapshot=of.tags.get("refit.snapshot"),
            batches=len(snapshot.batches) if snapshot else None,
            rows=sum(batch.rows for batch in snapshot.batches) if snapshot else None,
            fitted_rows=training.refit_rows if training else None,
            test_start=decision.test.start if decision else None,
            test_end=decision.test.end if decision else None,
            test_rows=decision.test.rows if decision else None,
            git_commit=of.tags.get("refit.git_commit"),
            uncommitted="refit.git_patch" in of.tags,
            release=of.tags.get("refit.release"),
            constraints=of.tags.get("refit.constraints"),
            candidate=of.tags.get("refit.candidate"),
            run_id=of.run_id,
        )

    def _evaluation(self, of: Version) -> Evaluation | None:
        """Return the evaluation of a version; None if that of its run is gone, or is that of another model."""
        if of.run_id is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / EVALUATION.name
            try:
                run_files.fetch(self._store, of.run_id, f"evaluation/{EVALUATION.name}", path)
                evaluation = Evaluation.from_json(read_json(path), f"the evaluation of version {of.version}")
            except (RefitError, RegistryError) as error:
                self._notes[str(error).partition("; ")[0]] = None
                return None
        return evaluation if evaluation.candidate.model_digest == of.tags.get("refit.model_digest") else None

    def _params(self, of: Version) -> dict[str, str]:
        name = (PROVENANCE / "params.yaml").as_posix()
        content = versions.read_file(self._store, of, name)
        if content is None:
            self._notes[f"version {of.version} is stored without {name}"] = None
            return {}
        try:
            return dict(_flat(parse_yaml(content.decode(), f"{name} of version {of.version}")))
        except (UserError, UnicodeDecodeError) as error:
            raise versions.changed(of, name, str(error)) from None

    def _stored(self, of: Version, path: Path, kind: type[A]) -> A | None:
        """Return a file of the stored model; None if it has no such file."""
        name = path.as_posix()
        content = versions.read_file(self._store, of, name)
        if content is None:
            self._notes[f"version {of.version} is stored without {name}"] = None
            return None
        try:
            return kind.from_json(versions.json_object(of, name, content), name)
        except RefitError as error:
            raise versions.changed(of, name, str(error).partition("; ")[0]) from None


def _decision(of: Version) -> Decision | None:
    content = versions.read_tag(of, "refit.decision")
    return None if content is None else Decision.from_json(content, f"the decision on version {of.version}")


def _judged(
    of: tuple[Version, Version], evaluations: tuple[Evaluation | None, Evaluation | None]
) -> tuple[Mapping[str, Measured], GainComparison | None, str | None]:
    """Return gains of the second over the first, the gate's own comparison, and which of the two it judged then."""
    for index in (1, 0):
        candidate, opponent, evaluation = of[index], of[1 - index], evaluations[index]
        decision = _decision(candidate)
        between = [each for each in decision.compared if each.version == opponent.version] if decision else []
        role = _role(evaluation, opponent.version) if evaluation else None
        if between or role:
            gains = evaluation.gains.get(role, {}) if evaluation and role else {}
            seen = gains if index else {name: _reversed(gain) for name, gain in gains.items()}
            return seen, between[0] if between else None, candidate.version
    return {}, None, None


def _role(evaluation: Evaluation, version: str) -> str | None:
    """Return the role in which a version was the opponent of an evaluated candidate."""
    return next((role for role, of in evaluation.incumbent.opponents.items() if of.version == version), None)


def _reversed(gain: Measured) -> Measured:
    """Return a gain as the other side sees it.

    >>> _reversed(Measured(value=0.25, lower=-0.5, upper=1.0))
    Measured(value=-0.25, lower=-1.0, upper=0.5)
    """
    value, lower, upper = (None if each is None else -each for each in (gain.value, gain.upper, gain.lower))
    return Measured(value=value, lower=lower, upper=upper)


def _measured(of: Version, evaluation: Evaluation | None) -> dict[str, Measured]:
    """Return the metrics of a version: those of its evaluation with their intervals, else what its tag holds."""
    if evaluation is not None:
        return dict(evaluation.metrics["candidate"])
    content = versions.read_tag(of, "refit.metrics") or {}
    numbers = {name: value for name, value in content.items() if isinstance(value, float)}
    return {
        name: Measured(value=value, lower=numbers.get(f"{name}_lower"), upper=numbers.get(f"{name}_upper"))
        for name, value in numbers.items()
        if not name.endswith(("_lower", "_upper")) and not name.startswith(_OF_TWO)
    }


def _definitions(table: FeatureTable | None) -> dict[str, str]:
    """Return the definition of each feature, as text."""
    assert table is not None
    described, origins = table.definitions.feature_set.described(), table.definitions.feature_set.origins()
    return {
        name: " ".join(
            [
                *([f"{origins[name]}:"] if name in origins else []),
                json.dumps(described[name].model_dump(mode="json", exclude_defaults=True), sort_keys=True),
            ]
            if name in described
            else ["?"]
        )
        for name in table.features
    }


def _differences(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Difference, ...]:
    """Return what differs between two mappings, in the order of the second.

    >>> [each.values for each in _differences({"a": "1", "b": "2"}, {"a": "1", "c": "3"})]
    [(None, '3'), ('2', None)]
    """
    names = [*second, *(name for name in first if name not in second)]
    return tuple(
        Difference(name=name, values=(first.get(name), second.get(name)))
        for name in names
        if first.get(name) != second.get(name)
    )


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each leaf of nested params with its dotted name; members of lists go by their own name, if they have one.

    >>> dict(_flat({"train": {"seed": 0, "learners": [{"name": "a", "kind": "x"}]}}))
    {'train.seed': '0', 'train.learners.a.kind': '"x"'}
    """
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        value = {str(each["name"]): {key: inner for key, inner in each.items() if key != "name"} for each in value}
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value, default=str, ensure_ascii=False)
