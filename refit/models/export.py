"""Takes a registered version out of the registry, checked, and loads models that were shown to be what they should be.

MLflow's own `load_model` believes the artifact store: what lies there is run. Here the digests come first.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners import load
from refit.learners.pyfunc import TableModel
from refit.models import run_logging
from refit.models.incumbent import check_registered, check_trusted, downloaded, fetch_model, required_tag, signer_of
from refit.models.verification import MODEL, check_stored
from refit.runtime import run_file
from refit.runtime.context import Context
from registry import champion, signing, versions
from registry.store import RegistryError, Store
from registry.versions import Version

SIGNATURE = ".sig"  # beside an exported folder: for `model_signing verify`, and for `refit.load`


@dataclass(frozen=True)
class Exported:
    """A version that was taken out: where it lies, and the digest by which it is known."""

    model: str
    version: str
    folder: str
    manifest: str
    signature: str | None


def export(context: Context, number: str | None, to: Path) -> Exported:
    """Write a version's stored folder to the new folder `to`, once it is shown to be what was registered.

    Args:
        number: None: the champion.

    Raises:
        UserError: there is no such version, or `to` is there already.
        RefitError: its files are not those that were registered, or it is not signed as it has to be.
    """
    if to.exists():
        raise UserError(f"{to} is there already; name a new folder")
    with run_logging.opened(context) as store:
        of = _version(context, store, number)
        with downloaded(context, store, of) as folder:
            check_trusted(context, store, of, folder)
            with artifacts.atomic_folder(to) as scratch:
                shutil.copytree(folder, scratch, dirs_exist_ok=True)
        signature = of.tags.get(signing.TAG)
        if signature:
            with artifacts.atomic(beside(to)) as scratch_file:
                scratch_file.write_text(signature, encoding="utf-8")
    manifest = required_tag(of, "refit.manifest")
    return Exported(of.model, of.version, str(to), manifest, str(beside(to)) if signature else None)


def sign(context: Context, number: str | None) -> str:
    """Sign a version that was registered before signatures were asked for, once its files are shown to be its own."""
    if (signer := signer_of(context)) is None:
        raise UserError("registry.signing is not set: params.yaml has to say who signs")
    with run_logging.opened(context) as store:
        of = _version(context, store, number)
        with downloaded(context, store, of) as folder:
            check_registered(store, of, folder)
            signature = signing.sign(folder, signer)
            signing.verify(folder, signature, signer, f"version {of.version} of {of.model}")
        versions.set_tags(store, of, {signing.TAG: signature})
    return f"version {of.version} of {of.model} is signed: {signer}"


def loaded(
    path: Path,
    *,
    version: str | None = None,
    manifest: str | None = None,
    public_key: Path | None = None,
    trusted_types: tuple[str, ...] = (),
) -> TableModel:
    """See `refit.load`."""
    if (path / "params.yaml").is_file():
        if manifest or public_key:
            raise UserError("manifest and public_key are for an exported folder; a project has a ledger, and params")
        context = Context(project=path.resolve(), params=run_file.params_of(path.resolve()))
        with run_logging.opened(context) as store:
            of = _version(context, store, version)
        return TableModel(load(fetch_model(context, of.version), trusted_types=context.params.registry.trusted_types))
    if not (path / "manifest.json").is_file():
        raise UserError(f"{path} is neither a project nor what `refit export` wrote")
    if not (manifest or public_key):
        raise UserError(
            f"nothing says what {path} should hold: give manifest=, the digest that `refit export` printed, or "
            "public_key="
        )
    check_stored(path, manifest or artifacts.sha256(path / "manifest.json"))
    if public_key:
        signature = beside(path).read_text(encoding="utf-8") if beside(path).is_file() else None
        try:
            signing.verify(path, signature, signing.Signer(public_key), str(path))
        except RegistryError as error:
            raise RefitError(str(error)) from error
    return TableModel(load(path / MODEL, trusted_types=trusted_types))


def beside(folder: Path) -> Path:
    """Where the signature of an exported folder lies."""
    return folder.with_name(folder.name + SIGNATURE)


def _version(context: Context, store: Store, number: str | None) -> Version:
    model = context.params.project.name
    found = champion.champion(store, model) if number is None else versions.version(store, model, number)
    if found is None:
        missing = f"no version of {model} is in charge yet" if number is None else f"{model} has no version {number!r}"
        raise UserError(f"{missing}; `refit history` names those that were judged")
    return found
