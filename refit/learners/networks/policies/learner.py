"""Kind `policy`: a network that is trained by playing, and whose predictions are the returns that it earns."""

from __future__ import annotations

import time
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict

from refit.errors import RefitError, UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, project_files, safe
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
    stored_spec,
)
from refit.learners.networks.policies.network import PolicyForm, PolicyNetwork
from refit.learners.networks.policies.params import settings_of
from refit.learners.networks.surroundings import EpochReport, surroundings
from refit.problems.episodes import Act, Episode, open_environment
from refit.runtime.context import Progress, silent
from refit.schemas.artifact import Part
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners.networks.checkpoints import Checkpoint

__all__ = ["Policy"]

WEIGHTS = "model.safetensors"
CHECKPOINT_COST = 10.0  # times what a checkpoint took to write pass before the next, unless it is time for a check
TRAINING_EPISODES = 20  # played at each check, to show how the policy does in the episodes that it learns from


class StoredPolicy(Part):
    """Entries of `model.json`."""

    model_config = ConfigDict(extra="ignore")

    policy: PolicyForm
    weights: str
    trained_with: dict[str, str]  # versions; to play it, none of them but gymnasium is needed


class Policy:
    """Learns by playing episodes; plays one for each row to predict its return."""

    def __init__(self, spec: Spec, *, where: str = "") -> None:
        self.spec = spec
        self.threshold = 0.5
        self._where = where
        self._settings = settings_of(spec.params, spec.kind, where)
        self._network: PolicyNetwork | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(("reinforcement",), warm_start=True, labels=False, sequences=True, safe_format="safetensors")

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        return self._play(train, None, validation, iterations, progress)

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        """Go on from the layers of a policy; what its algorithm also knew, such as values, is learned again.

        With `validation` the policy stays as it was if no check is better.
        """
        assert isinstance(before, Policy)
        return self._play(train, before, validation, iterations, progress)

    def _play(
        self,
        train: pa.Table,
        before: Policy | None,
        validation: tuple[pa.Table, Labels] | None,
        iterations: int | None,
        progress: Progress,
    ) -> FitReport:
        from refit.learners.networks.policies.state import CheckHistory
        from refit.learners.networks.policies.training import StartingPolicy, TrainingControl, require_actions, trained

        own, gain = self._settings.own, self.spec.stopping_metric.gain
        history, around, started = CheckHistory(), surroundings.get(), time.monotonic()
        with open_environment(self.spec.problem) as environment:
            episodes = environment.episodes(train.select(list(self.spec.features)))
            unseen = [] if validation is None else environment.episodes(validation[0].select(list(self.spec.features)))
            environment.check(episodes[0])
            require_actions(own.algorithm, environment.env, environment.options.environment, self._where)

            def score(network: PolicyNetwork, played: list[Episode]) -> float:
                earned = environment.returns(played, network.agent)
                return self.spec.stopping_score(np.zeros(len(played), dtype=np.int64), earned)

            def check(network: PolicyNetwork, steps: int) -> bool:
                nonlocal started
                if not unseen:
                    return True
                point = CurvePoint(steps, score(network, episodes[-TRAINING_EPISODES:]), score(network, unseen))
                history.add(point, network, gain)
                self._report(history.curve, time.monotonic() - started)
                started = time.monotonic()
                return own.patience is None or len(history.curve) - 1 - history.taken < own.patience

            def judge() -> None:
                if around.judge is not None:
                    around.judge(history.curve, own.steps)

            def show(steps: int) -> None:
                score = (
                    f", {self.spec.stopping_metric.name} {history.curve[-1].validation:.4g} on validation"
                    if history.curve
                    else ""
                )
                progress(f"training {self.spec.name}, steps{score}", steps, own.steps)

            start = None if before is None else StartingPolicy(before._fitted, int(before.digest()[:8], 16))
            checkpoint = self._checkpoint(train, validation, iterations, before, progress)
            control = TrainingControl(check, history, iterations, show, checkpoint, judge)
            last = trained(self.spec.problem, episodes, self._settings, self.spec.seed, control, start)
        self._network, curve = history.best or last, tuple(history.curve)
        return FitReport(curve[history.taken].iteration if curve else iterations or own.steps, curve)

    def _checkpoint(
        self,
        train: pa.Table,
        validation: tuple[pa.Table, Labels] | None,
        iterations: int | None,
        before: Policy | None,
        progress: Progress,
    ) -> Checkpoint | None:
        """The checkpoint of this very training, if there is a folder for it."""
        from refit.learners.networks.checkpoints import Checkpoint, identity

        around = surroundings.get()
        if around.checkpoints is None:
            return None
        features = list(self.spec.features)
        rows = [train.select(features), *([] if validation is None else [validation[0].select(features)])]
        described = {
            **stored_spec(self.spec),
            "iterations": iterations,
            "before": None if before is None else before.digest(),
            "rows": [each.to_pydict() for each in rows],
            "libraries": _libraries(),
        }
        name = identity(described, ())
        return Checkpoint(
            around.checkpoints, name, self.spec.name, around.every_seconds, progress, cost=CHECKPOINT_COST
        )

    def _report(self, curve: list[CurvePoint], seconds: float) -> None:
        around, own = surroundings.get(), self._settings.own
        checks = -(-own.steps // self._settings.check_every)
        if around.on_epoch is not None:
            point = curve[-1]
            scores = {"training": point.training, "validation": point.validation}
            name, seed = self.spec.name, self.spec.seed
            around.on_epoch(EpochReport(name, seed, len(curve), checks, None, None, round(seconds, 3), **scores))
        if around.judge is not None:
            around.judge(curve, own.steps)

    def predict(self, table: pa.Table) -> Floats:
        if self._network is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        if missing := [name for name in self.spec.features if name not in table.column_names]:
            raise UserError(f"feature {missing[0]!r} is missing; there are {', '.join(table.column_names)}")
        with open_environment(self.spec.problem) as environment:
            episodes = environment.episodes(table.select(list(self.spec.features)))
            return environment.returns(episodes, self._network.agent)

    @cached_property
    def act(self) -> Act:
        """The function that gives the action for one observation of the environment."""
        with open_environment(self.spec.problem) as environment:
            return self._fitted.agent(environment.env, 0)

    def save(self, folder: Path) -> None:
        network = self._fitted
        safe.save_arrays(dict(network.arrays), folder / WEIGHTS)
        own = StoredPolicy(policy=network.form, weights=WEIGHTS, trained_with=_libraries())
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Policy:
        learner, stored = cls(spec), description.own(StoredPolicy)
        learner.threshold = description.threshold
        learner._network = PolicyNetwork(stored.policy, safe.load_arrays(folder / WEIGHTS))
        return learner

    def unsafe_reason(self) -> str | None:
        return project_files.untrusted_code(self.spec)

    def digest(self) -> str:
        network, spec = self._fitted, self.spec
        parts = {"arrays": network.arrays, "options": spec.options, "sources": spec.sources}
        digests = {name: canonical.digest(dict(part)) for name, part in parts.items()}
        return digest({"kind": spec.kind, "features": spec.features, "form": network.form.to_json(), **digests})

    @property
    def _fitted(self) -> PolicyNetwork:
        if self._network is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to store itself before it was fitted")
        return self._network


def _libraries() -> dict[str, str]:
    """Versions of what trains a policy."""
    return {name: metadata.version(name).split("+")[0] for name in ("gymnasium", "stable-baselines3", "torch")}
