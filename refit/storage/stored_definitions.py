"""Feature definitions as stored with models, so that their features can be computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from feature_store.definition import FeatureSet, Source
from refit.config.section import first_complaint
from refit.errors import RefitError


@dataclass(frozen=True)
class Definitions:
    """A feature set with the declarations of its sources: everything needed to compute the features again."""

    feature_set: FeatureSet
    sources: Mapping[str, Source]

    def dump(self) -> dict[str, Any]:
        return {
            "feature_set": self.feature_set.model_dump(mode="json"),
            "sources": {name: source.model_dump(mode="json") for name, source in self.sources.items()},
        }

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Definitions:
        """Load what `dump` wrote.

        Raises:
            RefitError: the stored text is not what `dump` wrote.
        """
        try:
            feature_set = FeatureSet.model_validate_json(json.dumps(stored["feature_set"]))
            cuts = {name: Source.model_validate_json(json.dumps(cut)) for name, cut in stored["sources"].items()}
        except (KeyError, TypeError, ValidationError) as error:
            raise RefitError(f"stored feature definitions cannot be read: {first_complaint(error)}") from None
        return cls(feature_set, cuts)
