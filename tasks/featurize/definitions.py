"""Resolves the features of a run: those that the project defines in Python, or else its declared columns."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from feature_store.definition import RESERVED, Expression, FeatureSet, Source, Spine
from feature_store.errors import DefinitionError
from feature_store.sql_text import quote
from refit.config import nearest
from refit.config.section import first_complaint, free
from refit.errors import UserError
from refit.files.artifacts import FEATURE_MODELS, VALIDATED
from refit.models import feature_models
from refit.runtime import project_code
from refit.runtime.context import Context
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_models import FeatureModels
from refit.schemas.validated import Validated
from tasks.featurize import forecasts
from tasks.featurize.model_features import view_of
from tasks.featurize.warehouse import cut_name, key_column, kinds_of_columns, sources

LOGGED = (
    "_key",
    "_event_time",
    "_prediction_time",
    "_prediction",
    "_version",
    "_model_digest",
    "_snapshot",
    "_as_of",
    "_predicted_at",
    "_day",
)  # columns of the prediction log other than features
TAKEN = (*RESERVED, *LOGGED)


def resolve(context: Context, as_of: datetime | None = None, champions: FeatureModels | None = None) -> Definitions:
    """Return the definitions that the params name, without excluded ones, with the declarations of their sources.

    Args:
        as_of: later versions of other models compute no features; that of `data/validated.json` if None.
        champions: of other models; those of `feature_models.json` if None.

    Raises:
        UserError: no such module, no FEATURES in it, an unknown source or label column, or a pattern without a match.
    """
    declared = sources(context.params)
    section = context.params.featurize
    label = section.label
    if label.source not in declared:
        raise UserError(
            f"params.yaml: featurize.label.source {label.source!r} is unknown{nearest(label.source, declared)}; "
            f"declared are {', '.join(sorted(declared))}"
        )
    if label.column is not None and label.column not in declared[label.source].columns:
        columns = declared[label.source].columns
        raise UserError(
            f"params.yaml: featurize.label.column {label.column!r} is unknown{nearest(label.column, columns)}; "
            f"source {label.source!r} has {', '.join(columns)}"
        )
    forecast = context.params.forecast
    if section.definitions:
        feature_set = _load(context, section.definitions)
    else:
        feature_set = forecasts.default(context.params, forecast) if forecast else _as_declared(context, declared)
    if forecast:
        feature_set = forecasts.completed(feature_set, context.params, forecast, declared)
    for name in feature_set.sources():
        if name not in declared:
            where = section.definitions or "featurize"
            raise UserError(
                f"{where}: source {name!r} is unknown{nearest(name, declared)}; params.yaml declares "
                f"{', '.join(sorted(declared))}"
            )
    feature_set = _with_models(context, feature_set, as_of, champions)
    try:
        feature_set = feature_set.without(section.exclude)
    except DefinitionError as error:
        raise UserError(f"params.yaml: featurize.exclude: {error}") from None
    if taken := [name for name in feature_set.names() if name in LOGGED]:
        raise UserError(
            f"{section.definitions or 'featurize'}: no feature may be called {', '.join(taken)}: the log of "
            "predictions has such a column; give it another name"
        )
    if forecast:
        forecasts.require_features(feature_set, forecast)
    return Definitions(feature_set=feature_set, sources={name: declared[name] for name in feature_set.sources()})


def _with_models(
    context: Context, feature_set: FeatureSet, as_of: datetime | None, champions: FeatureModels | None
) -> FeatureSet:
    """Add the features of other models."""
    if not (models := context.params.featurize.models):
        return feature_set
    champions = champions or FeatureModels.read(context.path(FEATURE_MODELS))
    as_of = as_of or Validated.read(context.path(VALIDATED)).as_of
    views = [view_of(each, feature_models.versions_of(each, champions, as_of)) for each in models]
    try:
        return FeatureSet(**{**dict(feature_set), "models": tuple(views)})
    except ValidationError as error:
        raise UserError(f"params.yaml: featurize.models: {first_complaint(error)}") from None


def _load(context: Context, definitions: str) -> FeatureSet:
    """Load FEATURES from a module by its import path, or from a file of the project."""
    try:
        module = (
            project_code.load(context.project, definitions, "featurize.definitions")
            if definitions.endswith(".py")
            else importlib.import_module(definitions)
        )
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"params.yaml: featurize.definitions {definitions!r}: there is no module {error.name!r}; name an "
            "importable module, or a .py file in the project"
        ) from None
    except Exception as error:
        raise UserError(f"{definitions} cannot be imported: {type(error).__name__}: {first_complaint(error)}") from None
    features = getattr(module, "FEATURES", None)
    if not isinstance(features, FeatureSet):
        what = "no FEATURES" if features is None else f"FEATURES as a {type(features).__name__}"
        raise UserError(
            f"{definitions} has {what}; it should say FEATURES = FeatureSet(...) (Refit's docs/features.md)"
        )
    return features


def _as_declared(context: Context, declared: Mapping[str, Source]) -> FeatureSet:
    """Use the columns of the label's source as features, except its key, its label and its time columns."""
    label = context.params.featurize.label
    source = declared[label.source]
    raw = context.params.ingest.sources[source.table]
    if source.event_time is None:
        raise UserError(
            f"params.yaml: source {label.source!r} has no event_time, so its rows cannot be put in order of time"
        )
    words = set(re.findall(r"\w+", f"{source.event_time} {source.available_at}"))
    key, _ = key_column(raw)
    kinds = kinds_of_columns(raw, source)
    own_times = {name for name in source.columns if name.lower() in ("event_time", "available_at")}
    left_out = {key, label.column, *own_times, *(cut_name(raw, name) for name in raw.key)}
    features: list[Expression] = []
    for column in source.columns:
        timed = kinds[column].startswith(("TIMESTAMP", "DATE"))
        if column in left_out or (timed and column in words):
            continue
        sql = f"epoch({quote(column)}) / 86400" if timed else quote(column)
        name = _feature_name(column, [*source.columns, *(feature.name for feature in features)])
        if name != column:
            context.progress(f"column {column!r} is a feature called {name!r}: no feature may have its name")
        features.append(Expression(name=name, sql=sql, description="as declared", missing="missing in the source"))
    if not features:
        raise UserError(
            f"params.yaml: source {label.source!r} has no columns other than key, label and times; declare what "
            "to learn from"
        )
    return FeatureSet(spine=Spine(source=label.source, key=key, features=tuple(features)))


def _feature_name(column: str, others: Sequence[str]) -> str:
    """Return a feature name for a column, with an underscore added if a table of features reserves the name."""
    plain = re.sub(r'[\x00-\x1f"]', "_", column)
    if plain == column and column.lower() not in TAKEN:
        return column
    return free(f"{plain}_" if plain.lower() in TAKEN else plain, [*others, *TAKEN])
