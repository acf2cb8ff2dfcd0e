"""The learners that the params name, as specs of what to fit, and the mistakes in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from refit.config import Params
from refit.config.train import LearnerParams
from refit.errors import UserError
from refit.learners import Spec, make, project_files, recursive
from refit.learners.averaged import members_of
from refit.learners.contract import Start
from refit.learners.meta_learner import matching
from refit.learners.quantiles import quantile_of
from refit.schemas.feature_table import FeatureColumns
from tasks.train.folds import out_of_order
from tasks.train.problem import problem_in

__all__ = ["make_all", "specs_of"]


def specs_of(params: Params, features: FeatureColumns, project: Path, start: Start | None = None) -> list[Spec]:
    """Return the spec of each enabled learner; `features` and `categorical` are names of columns.

    Args:
        start: the model that all of them start from, except for baselines, which learn nothing.

    Raises:
        UserError: a project file that a learner names is missing, or `exclude` matches nothing or everything.
    """
    specs, problem = [], problem_in(params, project)
    for index, learner in enumerate(params.train.learners):
        if not learner.enabled:
            continue
        where, is_baseline = f"params.yaml: train.learners[{index}]", learner.kind == "baseline"
        columns = _seen(features, learner, where)
        specs.append(
            Spec(
                name=learner.name,
                kind=learner.kind,
                params=learner.params,
                features=columns.features,
                categorical=frozenset(columns.categorical),
                seed=params.train.seed,
                metric=params.train.metric,
                early_stopping_metric=params.train.early_stopping_metric or "",
                trusted_types=params.registry.trusted_types,
                task=params.task,
                classes=features.classes,
                text=columns.text,
                arrays=columns.arrays,
                vectoriser=(learner.text or params.train.text).model_dump() if columns.text else {},
                average=params.train.seeds if params.train.average and not is_baseline else 1,
                start=None if is_baseline else start,
                source=project_files.read_source(project, learner.kind, f"{where}.kind"),
                options=problem.options.model_dump(mode="json") if problem.options else {},
                sources=problem.sources,
            )
        )
    return specs


def _seen(features: FeatureColumns, learner: LearnerParams, where: str) -> FeatureColumns:
    """Return the columns that a learner sees: all but those that it excludes."""
    if not learner.exclude:
        return features
    hidden = set(matching(learner.exclude, features.features, f"{where}.exclude"))
    if hidden >= set(features.features):
        raise UserError(f"learner {learner.name!r}: exclude leaves no feature ({where}.exclude)")
    roles = ("features", "numeric", "categorical", "text")
    seen = {role: tuple(name for name in getattr(features, role) if name not in hidden) for role in roles}
    arrays = {name: array for name, array in features.arrays.items() if name not in hidden}
    return features.model_copy(update={**seen, "arrays": arrays})


def make_all(specs: list[Spec], params: Params) -> None:
    """Construct every learner once, so that mistakes in all of them are found before the first is fitted."""
    index_of = {learner.name: index for index, learner in enumerate(params.train.learners)}
    problems = []
    for spec in specs:
        where = f"params.yaml: train.learners[{index_of[spec.name]}]"
        try:
            learner = make(spec, where=where)
            first = members_of(learner)[0]
            declared = first.declaration
            if require_device := getattr(first, "require_device", None):  # of networks
                require_device()
            if params.train.intervals and params.train.intervals.by == "quantiles":
                make(quantile_of(spec, params.train.intervals.level, where=where), where=where)
        except UserError as error:
            problems.append(str(error))
            continue
        if why := project_files.untrusted_code(spec):
            problems.append(f"learner {spec.name!r}: {why} ({where})")
        if spec.kind == "recursive" and (why := recursive.unfit(spec, params.forecast)):
            problems.append(f"{why} ({where}.params)")
        steps = [name for name, array in spec.arrays.items() if array.kind == "sequence"]
        if steps and not declared.sequences:
            problems.append(
                f"learner {spec.kind!r} takes no sequences, which feature {steps[0]!r} is; gru, lstm and tcn do "
                f"({where}.kind)"
            )
        if declared.unlabelled == "needed" and not params.featurize.label.use_unlabelled:
            problems.append(
                f"learner {spec.kind!r} learns from rows without a label too, and none are kept: set "
                f"featurize.label.use_unlabelled: true ({where}.kind)"
            )
        if declared.pretrained and spec.start is None and params.train.warm_start is None:
            problems.append(
                f"learner {spec.kind!r} starts from a pretrained model: name a Hugging Face folder in "
                f"train.start_from, such as ../all-MiniLM-L6-v2 ({where}.kind)"
            )
        if declared.order and (why := out_of_order(params)):
            problems.append(f"learner {spec.kind!r} reads rows in order of time; {why} ({where}.kind)")
        if declared.order and params.train.max_rows is not None:
            problems.append(
                f"learner {spec.kind!r} learns each row once, and would never learn those that train.max_rows leaves "
                f"out: set train.max_rows: null ({where}.kind)"
            )
        if spec.task not in declared.tasks:
            problems.append(
                f"learner {spec.kind!r} declares {' and '.join(declared.tasks)}; train.task is {spec.task!r} "
                f"({where}.kind)"
            )
    problems += _of_other_features(specs, index_of)
    if problems:
        raise UserError(
            problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} learners are wrong:", *problems])
        )


def _of_other_features(specs: Sequence[Spec], index_of: Mapping[str, int]) -> Iterator[str]:
    """The faults where losses are of the features, or episodes are set by them, and some learners exclude some."""
    read = {name for spec in specs for name in spec.features}
    for spec in specs:
        of_features, played = spec.problem.of_features, spec.problem.played
        if (of_features or played) and (missing := sorted(read - set(spec.features))):
            what = "episodes are set by" if played else "losses are of"
            yield (
                f"learner {spec.name!r} excludes {missing[0]!r}, which others read; {what} the features, so that they "
                "are not comparable: leave it out for all learners (featurize.exclude), or for none "
                f"(params.yaml: train.learners[{index_of[spec.name]}].exclude)"
            )
