"""Loads the champion with what scoring needs: its learner and the feature definitions stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from feature_store.definition import Source
from refit import learners
from refit.config.column_types import ArrayColumn
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners import Learner
from refit.models import incumbent
from refit.models.feature_models import Find, stored_with
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.feature_definitions import Definitions
from refit.schemas.feature_table import FeatureTable
from registry.champion import alias_mismatch, current_champion
from registry.versions import Version


@dataclass(frozen=True)
class Champion:
    """A registered version, loaded from its checked local copy."""

    version: Version
    folder: Path  # the candidate's folder as it was registered
    learner: Learner
    definitions: Definitions
    arrays: Mapping[str, ArrayColumn] = field(default_factory=dict)  # features, whether or not its learner sees them
    warnings: tuple[str, ...] = ()  # what people should know who use its predictions

    @property
    def key(self) -> str:
        """The column that names a row."""
        return self.definitions.feature_set.spine.key

    @property
    def spine(self) -> Source:
        """How the rows to predict are selected from their raw table."""
        return self.definitions.sources[self.definitions.feature_set.spine.source]

    @property
    def table(self) -> str:
        """The raw source that holds the rows to predict."""
        return self.spine.table

    def find(self, context: Context) -> Find:
        """Where the versions of other models are that compute some of its features."""
        return stored_with(context, self.folder)

    @property
    def seen_until(self) -> datetime:
        """No data from this time on was used to make the model."""
        return datetime.fromisoformat(incumbent.required_tag(self.version, "refit.seen_until"))


def load_champion(context: Context) -> Champion:
    """Load the champion, with a warning where its alias was set outside of Refit.

    Raises:
        UserError: there is no champion yet.
        RefitError: its files are gone or differ from the registered ones, or the params no longer declare the source
            that it predicts.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        version = current_champion(store, model)
        mismatch = alias_mismatch(store, model)
    if mismatch:
        context.progress(f"warning: {mismatch}")
    if version is None:
        raise UserError(f"no version of {model} is champion yet; `refit run` trains and judges one")
    folder = incumbent.fetch_model(context, version.version)
    learner = learners.load(folder, trusted_types=context.params.registry.trusted_types)
    features = FeatureTable.read(folder / artifacts.FEATURE_SET.name)
    warnings = (mismatch,) if mismatch else ()
    champion = Champion(version, folder, learner, features.definitions, features.arrays, warnings)
    if champion.table not in context.params.ingest.sources:
        raise RefitError(
            f"version {version.version} of {model} predicts rows of source {champion.table!r}, which params.yaml no "
            "longer declares; put it back, or promote another version: refit promote VERSION"
        )
    return champion
