"""Exports and signs registered versions, and loads models after checking their digests.

MLflow's own `load_model` trusts the artifact store and runs what it finds there. Here the digests are checked first.
"""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners import load
from refit.learners.pyfunc import TableModel
from refit.models.incumbent import check_registered, check_trusted, downloaded, fetch_model, required_tag, signer_of
from refit.models.verification import MODEL, check_stored
from refit.runtime import project_requirements, registry_store, run_file
from refit.runtime.context import Context
from registry import champion, signing, versions
from registry.store import RegistryError, Store
from registry.versions import Version

SIGNATURE = ".sig"  # suffix of the file next to an exported folder, for `model_signing verify` and `refit.load`


@dataclass(frozen=True)
class Exported:
    """An exported version: its folder, and the digest of its manifest."""

    model: str
    version: str
    folder: str
    manifest: str
    signature: str | None


def export(context: Context, number: str | None, to: Path) -> Exported:
    """Write the stored folder of a version to the new folder `to`, after checking that it is what was registered.

    A champion whose alias was set outside of Refit is exported with a warning.

    Args:
        number: the version; None means the champion.

    Raises:
        UserError: there is no such version, or `to` exists already.
        RefitError: its files are not those that were registered, or it lacks a required signature.
    """
    if os.path.lexists(to):
        raise UserError(f"{to} is there already; name a new folder")
    with registry_store.opened(context) as store:
        of = _version(context, store, number)
        if number is None and (mismatch := champion.alias_mismatch(store, of.model)):
            context.progress(f"warning: {mismatch}")
        with downloaded(context, store, of) as folder:
            check_trusted(context, store, of, folder)
            with artifacts.atomic_folder(to) as scratch:
                shutil.copytree(folder, scratch, dirs_exist_ok=True)
        signature = of.tags.get(signing.TAG)
        if signature:
            with artifacts.atomic(signature_path(to)) as scratch_file:
                scratch_file.write_text(signature, encoding="utf-8")
    manifest = required_tag(of, "refit.manifest")
    return Exported(of.model, of.version, str(to), manifest, str(signature_path(to)) if signature else None)


def sign(context: Context, number: str | None) -> str:
    """Sign a version that was registered before signatures were required, after checking its files."""
    if (signer := signer_of(context)) is None:
        raise UserError("registry.signing is not set: params.yaml has to say who signs")
    with registry_store.opened(context) as store:
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
        context = Context(project=path.resolve(), params=run_file.params_outside(path.resolve()))
        with registry_store.opened(context) as store:
            of = _version(context, store, version)
            mismatch = champion.alias_mismatch(store, of.model) if version is None else None
        if mismatch:
            warnings.warn(mismatch, stacklevel=3)
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
        signature = signature_path(path).read_text(encoding="utf-8") if signature_path(path).is_file() else None
        try:
            signing.verify(path, signature, signing.Signer(public_key), str(path))
        except RegistryError as error:
            raise RefitError(str(error)) from error
    for difference in project_requirements.check_recorded(path, str(path)):
        warnings.warn(difference, stacklevel=3)
    return TableModel(load(path / MODEL, trusted_types=trusted_types))


def signature_path(folder: Path) -> Path:
    """The path of the signature of an exported folder, which may be `.`."""
    whole = folder if folder.name else folder.resolve()
    return whole.with_name(whole.name + SIGNATURE)


def _version(context: Context, store: Store, number: str | None) -> Version:
    model = context.params.project.name
    version = champion.current_champion(store, model) if number is None else versions.version(store, model, number)
    if version is None:
        missing = f"no version of {model} is champion yet" if number is None else f"{model} has no version {number!r}"
        raise UserError(f"{missing}; `refit history` names those that were judged")
    return version
