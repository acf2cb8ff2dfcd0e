"""The params section `registry`: where versions are stored, and who signs them."""

from __future__ import annotations

from pydantic import Field, model_validator

from refit.config.section import Section


class SigningParams(Section):
    """The signer of versions. The private key is not a param: the variable `REFIT_SIGNING_KEY` names its file."""

    public_key: str | None = Field(None, description="PEM file, from the project's folder")
    identity: str | None = Field(None, description="keyless, instead of a key: the e-mail or workflow that signs")
    issuer: str | None = Field(
        None, description="keyless: the issuer of the identity, such as https://accounts.google.com"
    )

    @model_validator(mode="after")
    def _one_way(self) -> SigningParams:
        keyless = self.identity is not None, self.issuer is not None
        if (self.public_key is None) != all(keyless) or (self.public_key is not None and any(keyless)):
            raise ValueError("registry.signing needs public_key, or identity and issuer, and not both")
        return self


class RegistryParams(Section):
    tracking_uri: str | None = Field(None, description="default: SQLite in the project's .refit folder")
    ledger_uri: str | None = Field(
        None, description="of a server: the PostgreSQL database of the ledger and its lock, for all machines"
    )
    trusted_types: tuple[str, ...] = Field(
        (), description="types that a stored scikit-learn model may contain in addition to Refit's"
    )
    signing: SigningParams | None = Field(
        None, description="sign each version, and score, promote, export and load only what is signed"
    )
