"""What other programs import of Refit: a model, loaded once it is shown to be the one that it should be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.learners.pyfunc import TableModel

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    version: str | None = None,
    manifest: str | None = None,
    public_key: str | Path | None = None,
    trusted_types: tuple[str, ...] = (),
) -> TableModel:
    """A model that predicts the rows of a pandas frame, its files checked before anything in them is loaded.

        model = refit.load("projects/churn")                             # the champion, by its ledger and registry
        model = refit.load("churn-7", manifest="8f3a...")                # what `refit export 7 --to churn-7` wrote
        model = refit.load("churn-7", public_key="keys/models.pub")      # the same, by its signature
        model.predict(frame)

    Args:
        path: a project's folder, or a folder that `refit export` wrote.
        version: of a project: another version than the champion.
        manifest: of an exported folder: the digest that `refit export` printed, kept apart from the folder.
        public_key: of an exported folder: whose signature, which lies beside it as FOLDER.sig, it has to bear.
        trusted_types: of an exported folder: `registry.trusted_types` of the params.

    Raises:
        tasks.errors.RefitError: a file is missing, was added or differs, or the signature is missing or another's.
    """
    from tasks.export import loaded

    return loaded(
        Path(path),
        version=version,
        manifest=manifest,
        public_key=None if public_key is None else Path(public_key),
        trusted_types=trusted_types,
    )
