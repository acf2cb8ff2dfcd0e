"""Searches for a learner's best arguments; the trials depend on the seed and on earlier results, never on time.

Trials are requested in batches. The sampler of a batch is seeded by its number and sees the batches before it, and a
trial is pruned by comparison with those only. Parallel processes therefore change nothing: a study that was killed and
resumed, or run again on a slower machine, ends with the same arguments.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from refit.config.train import Arguments, TuningParams, flat, placed
from refit.errors import RefitError, UserError, chain, machine_fault
from refit.files.artifacts import digest
from refit.learners import Spec, make
from refit.learners.averaged import members_of
from refit.learners.contract import CurvePoint, FitReport, stored_spec
from refit.learners.networks.surroundings import FitAbandoned, curves_judged_by, surroundings
from refit.problems import kind_of
from refit.runtime.context import Progress, silent
from refit.runtime.provenance import processor
from refit.runtime.stage_code import code_digest
from refit.runtime.workers import StartWorkers, Workers, processes
from refit.schemas.training import TrialReport, TuningReport
from registry.store import Store
from tasks.train.folds import Development, content
from tasks.train.search_space import PLACE, Search, enqueued, most_epochs, planned, suggested
from tasks.train.stored_trials import ATTRIBUTE, RUNG, StoredTrials, TrialResult
from tasks.train.trial import fit_cost, fit_fold

if TYPE_CHECKING:
    import optuna

_STARTUP = 10  # random trials before the sampler learns from them; a pruner waits for half as many
_FIRST_EPOCH = 2  # from which a pruner by epoch compares


def tune(
    spec: Spec,
    search: Search,
    development: Development,
    project: Path,
    progress: Progress = silent,
    start_workers: StartWorkers = processes,
    shared: Store | None = None,
) -> tuple[Spec, TuningReport]:
    """Search for the best arguments on the folds of `development`; returns the spec with them, and the search.

    The arguments of the given spec are tried first if they lie in the space. A space that has no more points than there
    are trials is tried whole, each point once. Trials that were finished before are read from the study in the database
    of `shared`, or where that is None in the project's `.refit/tuning.db`; where they cannot be stored, the search goes
    on without.

    Raises:
        UserError: no trial could be fitted.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = f"{spec.name} {_identity(spec, search, development, _machine(spec) if shared else ())[:16]}"
    study = optuna.create_study(direction=search.direction)
    stored = StoredTrials(project, shared, name, study, progress)
    began = time.monotonic()
    first, are_all = planned(spec, search)
    total = len(first) if are_all else search.tuning.trials
    done: list[TrialResult] = []
    of_best: set[Path] = set()  # checkpoints, by which it is not fitted again after the search
    with start_workers(search.tuning.parallel) if search.tuning.parallel > 1 else nullcontext() as workers:
        for start in range(0, total, search.tuning.parallel):
            size = min(search.tuning.parallel, total - start)
            study.sampler = _sampler(search.tuning, spec.seed, start)
            for index in range(start, min(start + size, len(first))):
                study.enqueue_trial(enqueued(first[index], search.space))
            trials = [study.ask() for _ in range(size)]
            wanted = [suggested(trial, search.space, flat(spec.params)) for trial in trials]
            progress(f"tuning {spec.name}", start, total)
            earlier = _checkpoints()
            before = study.get_trials(deepcopy=False)[:start]
            expected = [*(each.report.params for each in done), *wanted]
            results = stored.read(expected)[start:]
            if len(results) == size:
                _tell_all(study, trials, results, _direction(spec))
            else:
                tried = _try_all(spec, wanted, search, development, before, workers)
                with stored.writing():  # of two clones that search at once, the first to store a trial decides
                    results = stored.read(expected)[start:]
                    results += tried[len(results) :]
                    _tell_all(study, trials, results, _direction(spec))
                    stored.add(
                        next((start + each for each, result in enumerate(results) if result.machine_fault), None)
                    )
            done += results
            of_these = _checkpoints() - earlier
            if _best(study) in [trial.number for trial in trials]:
                of_best, of_these = of_these, of_best
            for path in of_these:  # of trials that are recorded and will not be the candidate: they may be large
                path.unlink(missing_ok=True)
    return _chosen(spec, study, [result.report for result in done], round(time.monotonic() - began, 3))


def _checkpoints() -> set[Path]:
    """The files of finished fits; processes of a parallel search leave none."""
    folder = surroundings.get().checkpoints
    return set(folder.glob("*.safetensors")) if folder else set()


def _best(study: optuna.Study) -> int | None:
    complete = any(trial.value is not None for trial in study.get_trials(deepcopy=False))
    return study.best_trial.number if complete else None


def _chosen(spec: Spec, study: optuna.Study, done: Sequence[TrialReport], seconds: float) -> tuple[Spec, TuningReport]:
    if not any(trial.state == "complete" for trial in done):
        problems = dict.fromkeys(trial.problem for trial in done if trial.problem)
        raise UserError(
            f"learner {spec.name!r}: none of {len(done)} trials could be fitted: {next(iter(problems), 'all pruned')}; "
            "correct its params or its search"
        )
    best = study.best_trial.number
    report = TuningReport(trials=tuple(done), best=best, importance=_importance(study), seconds=seconds)
    return replace(spec, params=placed(spec.params, done[best].params)), report


def _machine(spec: Spec) -> tuple[str, ...]:
    """What rounds the scores of this machine: its processor, and the device of a network."""
    require_device = getattr(members_of(make(spec))[0], "require_device", None)
    if require_device is None:
        return (processor(),)
    from refit.learners.networks.devices import device_name

    return processor(), device_name(require_device())


def _identity(spec: Spec, search: Search, development: Development, machine: Sequence[str] = ()) -> str:
    """Return the digest of everything that determines the study, so that only its own trials are resumed."""
    without, of_folds = development.whole.unlabelled, [fold.unlabelled.tolist() for fold in development.folds]
    return digest(
        {
            "spec": stored_spec(spec),
            "source": spec.source,
            **({"start": spec.start.digest} if spec.start else {}),
            **({"machine": list(machine)} if machine else {}),
            "code": code_digest("train"),
            "space": {name: space.model_dump(mode="json") for name, space in search.space.items()},
            "tuning": search.tuning.model_dump(mode="json"),
            "rows": content(development.whole.rows),
            "label": digest(development.whole.label.tolist()),
            **({} if without is None else {"unlabelled": [content(without), *of_folds]}),
            "folds": [digest([fold.fitted.tolist(), fold.scored.tolist()]) for fold in development.folds],
        }
    )


def _sampler(tuning: TuningParams, seed: int, start: int) -> optuna.samplers.BaseSampler:
    import optuna

    own = int(np.random.SeedSequence([seed, start]).generate_state(1)[0])
    if tuning.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=own, n_startup_trials=_STARTUP, constant_liar=tuning.parallel > 1)
    return optuna.samplers.RandomSampler(seed=own)


def _pruner(tuning: TuningParams) -> optuna.pruners.BasePruner:
    import optuna

    first = _FIRST_EPOCH if tuning.prune_after == "epoch" else 0
    if tuning.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP // 2, n_warmup_steps=first)
    if tuning.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, first), reduction_factor=2)
    return optuna.pruners.NopPruner()


def _try_all(
    spec: Spec,
    wanted: Sequence[Arguments],
    search: Search,
    development: Development,
    before: Sequence[optuna.trial.FrozenTrial],
    workers: Workers | None,
) -> list[TrialResult]:
    """Try each set of arguments, in parallel if there are several."""
    if workers is None or len(wanted) == 1:
        return [_try(spec, params, search, development, before) for params in wanted]
    return workers.map(partial(_try_given, spec, search, development, before), wanted)


def _try_given(
    spec: Spec,
    search: Search,
    development: Development,
    before: Sequence[optuna.trial.FrozenTrial],
    params: Arguments,
) -> TrialResult:
    return _try(spec, params, search, development, before)


def _try(
    spec: Spec,
    params: Arguments,
    search: Search,
    development: Development,
    before: Sequence[optuna.trial.FrozenTrial],
) -> TrialResult:
    """Fit the folds one after another, unless the pruner stops the trial by comparison with the trials `before`.

    A pruner by epoch compares within the fits of the learners that train in epochs, and between folds of the others.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=search.direction, pruner=_pruner(search.tuning))
    study.add_trials(before)
    trial = study.ask()
    trying = replace(spec, params=placed(spec.params, params))
    label, fits, steps = development.whole.label, [], []
    values: list[float] = []
    state: Literal["complete", "pruned", "failed"] = "complete"
    problem, of_machine = "", False
    epochs = _Epochs(trial, spec, most_epochs(search.space))
    by_epoch = search.tuning.prune_after == "epoch"
    began = time.monotonic()
    for number, fold in enumerate(development.folds):
        try:
            with curves_judged_by(epochs.judge) if by_epoch else nullcontext():
                fit = fit_fold(trying, development, fold, silent)
        except FitAbandoned:
            state = "pruned"
            break
        except RefitError as error:
            state, problem, of_machine = "failed", str(error), _is_of_machine(error)
            break
        fits.append(fit)
        epochs.end_fold(fit.report)
        values.append(spec.problem.score(spec.metric, label[fold.scored], fit.predicted))
        if not np.isfinite(values[-1]):
            state, problem = "failed", f"its {spec.metric} is {values[-1]} in fold {number + 1}"
            break
        steps.append(float(np.mean(values)))
        if epochs.scores:
            continue
        trial.report(steps[-1], number)
        if trial.should_prune() and number + 1 < len(development.folds):
            state = "pruned"
            break
    rungs = {key: value for key, value in study.trials[-1].system_attrs.items() if RUNG in key}
    report = TrialReport(
        params=params,
        state=state,
        value=steps[-1] if steps and state == "complete" else None,
        steps=tuple(steps),
        epochs=tuple(epochs.scores.items()),
        seconds=round(time.monotonic() - began, 3),
        problem=problem,
        cost=fit_cost(fits, development) if fits else None,
    )
    return TrialResult(report, rungs, of_machine)


def _is_of_machine(error: RefitError) -> bool:
    """Whether another machine could have fitted it: one with more memory, or a disk that is not full."""
    if machine_fault(error):
        return True
    # By name: torch is not loaded for a learner that does without.
    return any(type(each).__name__ == "OutOfMemoryError" or "bad_alloc" in str(each) for each in chain(error))


@dataclass
class _Epochs:
    """The scores of a trial after the epochs of its folds, compared with those of other trials.

    They are of the metric that chooses epochs, which may be better where that of the study is worse.
    """

    trial: optuna.Trial
    spec: Spec
    most: int  # epochs of a fit that the search space allows, so that a step is the same epoch in each trial
    scores: dict[int, float] = field(default_factory=dict)  # by step; means with those of the complete folds
    folds: list[float] = field(default_factory=list)  # the best scores of these

    def judge(self, curve: Sequence[CurvePoint], epochs: int) -> None:
        """Report the new points of a curve to the pruner; of several fits in a fold, those of the first.

        Raises:
            FitAbandoned: the pruner stops the trial.
        """
        for point in curve:
            step = len(self.folds) * max(self.most, epochs) + point.iteration
            if step not in self.scores:
                self.scores[step] = float(np.mean([*self.folds, point.validation]))
                self.trial.report(_direction(self.spec) * self.scores[step], step)
                if self.trial.should_prune():
                    raise FitAbandoned

    def end_fold(self, report: FitReport) -> None:
        """Take note of a fit's best score."""
        self.folds.extend(point.validation for point in report.curve if point.iteration == report.iterations)


def _direction(spec: Spec) -> float:
    """1 if the metric that chooses epochs is better where that of the study is; else -1."""
    return spec.stopping_metric.sign * kind_of(spec.task).metric(spec.metric).sign


def _tell_all(
    study: optuna.Study, trials: Sequence[optuna.Trial], results: Sequence[TrialResult], direction: float
) -> None:
    for trial, result in zip(trials, results, strict=True):
        _tell(study, trial, result, direction)


def _tell(study: optuna.Study, trial: optuna.Trial, result: TrialResult, direction: float) -> None:
    from optuna.trial import TrialState

    by_epoch = [(number, direction * value) for number, value in result.report.epochs]
    for number, value in by_epoch or enumerate(result.report.steps):
        trial.report(value, number)
    trial.set_user_attr(ATTRIBUTE, result.report.to_json())
    for key, note in result.rungs.items():
        study._storage.set_trial_system_attr(trial._trial_id, key, note)  # the only way to pass on a pruner's notes
    state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    study.tell(trial, result.report.value, state=state[result.report.state])


def _importance(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each argument for the score; empty if there are too few trials."""
    import optuna

    if sum(trial.state.name == "COMPLETE" for trial in study.trials) < _STARTUP:
        return {}
    try:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}
    found = {name.removesuffix(PLACE): float(value) for name, value in importances.items()}
    return {name: round(value, 4) for name, value in found.items() if np.isfinite(value)}
