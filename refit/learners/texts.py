"""Free text as a feature: tf-idf of words and word pairs by default, or any vectoriser named in the params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError, first_line
from refit.learners import canonical, safe
from refit.learners.blas import one_blas_thread
from refit.learners.contract import Spec
from refit.storage.columns import texts

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "text.skops"


def vectoriser(spec: Spec, where: str = "params.yaml: train.text") -> Any:
    """Build the vectoriser that the params name, not fitted.

    Raises:
        UserError: there is no such class, it does not turn texts into columns, or an argument is unknown.
    """
    from refit.learners.imports import build_object

    kind = str(spec.vectoriser["kind"])
    params = dict(spec.vectoriser["params"])
    if isinstance(ngrams := params.get("ngram_range"), list):
        params["ngram_range"] = tuple(ngrams)  # YAML and JSON have no tuples
    built = build_object(kind, params, seed=spec.seed, where=where)
    if not hasattr(built, "transform"):
        raise UserError(f"{kind!r} makes no columns of texts (it has no transform); name a vectoriser ({where}.kind)")
    return built


def column(table: pa.Table, name: str) -> Any:
    """Read a text feature as an array of strings; a missing text becomes an empty one.

    Raises:
        UserError: the column is missing, or has another type.
    """
    return texts(table, name).fill_null("").to_numpy(zero_copy_only=False)


def branches(spec: Spec, table: pa.Table, *, sparse: bool) -> list[tuple[str, Any, str]]:
    """Branches of a ColumnTransformer, one per text feature: its vectoriser and, unless sparse, its projection."""
    return [(f"text {name}", _branch(spec, name, column(table, name), sparse=sparse), name) for name in spec.text]


def _branch(spec: Spec, name: str, values: Any, *, sparse: bool) -> Any:
    """A vectoriser, followed by a truncated SVD if the rows have to be dense and would have too many columns."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.pipeline import Pipeline

    words, most = vectoriser(spec), int(spec.vectoriser["components"])
    if sparse:
        return words
    try:
        width = words.fit_transform(values).shape[1]
    except ValueError as error:
        raise UserError(
            f"learner {spec.name!r}: text feature {name!r}: {first_line(error)}; change train.text.params, or "
            "leave it out (featurize.exclude)"
        ) from error
    if width <= most:
        return words
    return Pipeline([("words", words), ("topics", TruncatedSVD(n_components=most, random_state=spec.seed))])


def plain(fitted: Any) -> Any:
    """Convert the vocabulary of a fitted vectoriser, alone or in a pipeline, to plain integers.

    scikit-learn leaves some as numpy integers, and skops writes a file for each of these: 24 s for 20,000 words.
    """
    words = fitted.named_steps["words"] if hasattr(fitted, "named_steps") else fitted
    if isinstance(vocabulary := getattr(words, "vocabulary_", None), dict):
        words.vocabulary_ = {word: int(index) for word, index in vocabulary.items()}
    return fitted


def plain_within(encoder: Any, spec: Spec) -> None:
    """Apply `plain` to the text branches of a fitted ColumnTransformer."""
    for name in spec.text:
        plain(encoder.named_transformers_[f"text {name}"])


def frame(spec: Spec, matrix: NDArray[np.float64], table: pa.Table) -> Any:
    """A pandas frame of the coded features and the texts, the input of a ColumnTransformer."""
    import pandas as pd

    rows = pd.DataFrame(matrix, columns=list(spec.columns))
    for name in spec.text:
        rows[name] = column(table, name)
    return rows


class FittedVectoriser(Protocol):
    """Turns texts into rows of numbers, as a vectoriser of scikit-learn does, or a pipeline that ends with one."""

    def transform(self, texts: Sequence[str], /) -> Any: ...


@dataclass(frozen=True)
class DenseTexts:
    """Encodes each text feature as a few numbers, for learners that accept only numbers."""

    fitted: Mapping[str, FittedVectoriser] = field(default_factory=dict)

    @classmethod
    def learn(cls, spec: Spec, table: pa.Table) -> DenseTexts:
        """Fit the vectoriser, and the projection, of each text feature."""
        with one_blas_thread():
            return cls(
                {
                    name: plain(_branch(spec, name, values := column(table, name), sparse=False).fit(values))
                    for name in spec.text
                }
            )

    def matrix(self, table: pa.Table) -> NDArray[np.float64]:
        """(rows, columns) float64; (rows, 0) if there is no text feature."""
        from scipy.sparse import issparse

        if not table.num_rows:
            return np.empty((0, self.width))
        parts = [np.empty((table.num_rows, 0))]
        for name, each in self.fitted.items():
            columns: Any = each.transform(column(table, name))
            parts.append(np.asarray(columns.toarray() if issparse(columns) else columns, dtype=np.float64))
        return np.hstack(parts)

    @cached_property
    def width(self) -> int:
        """The number of columns."""
        return sum(int(each.transform([""]).shape[1]) for each in self.fitted.values())

    def save(self, folder: Path) -> None:
        """Store the fitted vectorisers, if there are any."""
        if self.fitted:
            safe.save_skops(dict(self.fitted), folder / FILE)

    @classmethod
    def load(cls, folder: Path, spec: Spec) -> DenseTexts:
        """Load what `save` stored."""
        return cls(safe.load_skops(folder / FILE, spec.trusted_types)) if spec.text else cls()

    def unsafe_reason(self, trusted_types: tuple[str, ...]) -> str | None:
        """The reason why they cannot be stored without pickle; None if they can."""
        untrusted = safe.untrusted_types(dict(self.fitted), trusted_types) if self.fitted else []
        if isinstance(untrusted, str):
            return f"skops cannot store its vectoriser: {untrusted}"
        if untrusted:
            return f"its vectoriser holds types that are not trusted: {', '.join(untrusted)} (registry.trusted_types)"
        return None

    def digest(self) -> dict[str, str]:
        """Their part of a learner's digest; empty without a text feature."""
        return {"texts": canonical.digest(dict(self.fitted))} if self.fitted else {}
