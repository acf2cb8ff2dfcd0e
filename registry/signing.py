"""Signs and verifies stored models in OpenSSF's format, with a key or keyless through Sigstore.

A digest shows that a model is the one that registry and ledger name. A signature also shows that an accepted signer
made it, to people who trust neither database. The library `model-signing` is imported only when it is needed.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.secrets import cut
from registry.store import RegistryError

TAG = "refit.signature"  # of a version: the signature of its stored folder
KEY_VARIABLE = "REFIT_SIGNING_KEY"
PASSWORD_VARIABLE = "REFIT_SIGNING_PASSWORD"


@dataclass(frozen=True)
class Signer:
    """The accepted signer of models: a public key, or an identity that an issuer confirms."""

    public_key: Path | None = None
    identity: str | None = None
    issuer: str | None = None

    def __str__(self) -> str:
        return f"the key {self.public_key}" if self.public_key else f"{self.identity} (by {self.issuer})"


def sign(folder: Path, signer: Signer, environ: Mapping[str, str] = os.environ) -> str:
    """The signature of every file in a folder.

    With a key, the variable `REFIT_SIGNING_KEY` names the file of the private key. Without one, the identity of the
    machine (such as a CI job) is used if it has one; otherwise a browser is opened.

    Raises:
        RegistryError: there is no private key, it cannot be used, or Sigstore cannot be reached.
    """
    library = _library()
    config = library.signing.Config().set_hashing_config(_every_file(library))
    if signer.public_key is not None:
        if not (key := environ.get(KEY_VARIABLE)):
            raise RegistryError(
                f"registry.signing asks for signed versions, and {KEY_VARIABLE} names no private key; export it, or "
                "train where it is set"
            )
        password = environ.get(PASSWORD_VARIABLE)
        configured = _attempt(
            lambda: config.use_elliptic_key_signer(private_key=Path(key), password=password),
            f"the private key {key} cannot be used",
        )
    else:
        configured = config.use_sigstore_signer(use_ambient_credentials=True)
    with tempfile.TemporaryDirectory() as scratch:
        signature = Path(scratch) / "model.sig"
        _attempt(lambda: configured.sign(folder, signature), f"{folder.name} cannot be signed")
        return signature.read_text(encoding="utf-8")


def verify(folder: Path, signature: str | None, signer: Signer, what: str) -> None:
    """Check that a folder holds exactly the files that were signed, and that the accepted signer signed them.

    Args:
        what: how error messages name the model.

    Raises:
        RegistryError: there is no signature, another signer made it, or a file was changed, added or removed since.
    """
    if not signature:
        raise RegistryError(
            f"{what} is not signed, and registry.signing accepts signed models only; `refit sign VERSION` signs one "
            "whose files are those that were registered"
        )
    library = _library()
    if signer.public_key is not None and not signer.public_key.is_file():
        raise RegistryError(
            f"{what} cannot be verified: {signer.public_key} (registry.signing.public_key) is not there"
        )
    config = library.verifying.Config().set_hashing_config(_every_file(library))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.sig"
        file.write_text(signature, encoding="utf-8")

        def check() -> None:
            if signer.public_key is not None:
                config.use_elliptic_key_verifier(public_key=signer.public_key)
            else:
                config.use_sigstore_verifier(identity=str(signer.identity), oidc_issuer=str(signer.issuer))
            config.verify(folder, file)

        _attempt(check, f"{what} is not as {signer} signed it")


def _every_file(library: Any) -> Any:
    """Hash all files, including those with names used by git, and refuse symbolic links."""
    return library.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _attempt(act: Any, otherwise: str) -> Any:
    try:
        return act()
    except Exception as error:  # the library passes on errors of many other libraries
        said = " ".join((str(error) or type(error).__name__).split())
        raise RegistryError(f"{otherwise}: {cut(said, 300)}") from error


def _library() -> Any:
    if importlib.util.find_spec("model_signing") is None:
        raise RegistryError(
            "registry.signing needs the package model-signing; uv pip install -c constraints.txt -e '.[signing]'"
        )
    import model_signing

    return model_signing
