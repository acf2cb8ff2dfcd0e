"""What is taken out of the registry, or loaded from it, is what was judged, and signed where that is asked for."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from quick import quick

import refit
from refit import config
from refit.errors import RefitError, UserError
from refit.files.artifacts import sha256, write_manifest
from refit.models import export, incumbent
from registry import signing, versions
from registry.client import client
from registry.store import RegistryError
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")
ROWS = pd.DataFrame({"distance": [1, 20, 300], "carrier": ["A", "B", None]})


def key_pair(folder: Path) -> tuple[Path, Path]:
    """A private key, and its public one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(parents=True, exist_ok=True)
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture
def signed(project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A project that asks for signatures, with a signed champion."""
    pytest.importorskip("model_signing")
    private, _ = key_pair(project.folder / "keys")
    monkeypatch.setenv("REFIT_SIGNING_KEY", str(private))
    asking(project, "keys/public.pem")
    project.registered()
    return project


def asking(project: Any, public_key: str) -> None:
    raw = project.context.params.model_dump(mode="json", by_alias=True)
    raw["registry"] = raw["registry"] | {"signing": {"public_key": public_key}}
    object.__setattr__(project.context, "params", config.parse(raw))


def stored(project: Any) -> Path:
    return next((project.folder / ".refit/mlartifacts").rglob("golden.parquet")).parent


def swap_and_cover(project: Any) -> None:
    """What write access to the artifacts and MLflow's database, but not the ledger's, allows: another model fits."""
    folder = stored(project)
    (folder / "data/candidate/model.json").write_text(
        (folder / "data/candidate/model.json").read_text().replace("logistic", "logistik")
    )
    write_manifest(folder / "data/candidate")
    write_manifest(folder)
    client(project.store).set_model_version_tag("toy", "1", "refit.manifest", sha256(folder / "manifest.json"))
    shutil.rmtree(project.folder / ".refit/models", ignore_errors=True)


def forget_ledger(project: Any) -> None:
    with closing(sqlite3.connect(project.folder / ".refit/ledger.db")) as connection, connection:
        connection.executescript("drop trigger ledger_no_update; update ledger set digests = '{}'")


USES: dict[str, Callable[[Any, Path], object]] = {
    "score": lambda project, _: incumbent.fetch_model(project.context, "1"),
    "doctor": lambda project, _: incumbent.check_champion(project.context),
    "export": lambda project, to: export.export(project.context, None, to),
    "promote": lambda project, _: register.promoting.check_again(project.context, project.store, project.version("1")),
}


def refused(project: Any, to: Path, expected: str) -> None:
    for use in USES.values():
        with pytest.raises((RefitError, RegistryError), match=expected) as said:
            use(project, to)
        assert "\n" not in str(said.value)
    assert not to.exists()


@pytest.mark.ci
def test_a_signed_version_is_used_exported_and_loaded_as_before(signed: Any, tmp_path: Path) -> None:
    for use in USES.values():
        use(signed, tmp_path / "out")
    done = json.loads(json.dumps(vars(export.export(signed.context, "1", tmp_path / "again"))))
    expected = incumbent.fetch_model(signed.context, "1")
    assert sha256(tmp_path / "again/manifest.json") == done["manifest"]
    from refit.learners.pyfunc import _load_pyfunc

    predicted = _load_pyfunc(str(expected)).predict(ROWS)
    for model in (
        refit.load(tmp_path / "out", manifest=done["manifest"]),
        refit.load(str(tmp_path / "out"), public_key=signed.folder / "keys/public.pem"),
    ):
        assert np.array_equal(model.predict(ROWS), predicted)


@pytest.mark.ci
def test_a_swapped_file_is_refused_everywhere(signed: Any, tmp_path: Path) -> None:
    (stored(signed) / "golden.parquet").write_bytes(b"another")
    shutil.rmtree(signed.folder / ".refit/models", ignore_errors=True)
    refused(signed, tmp_path / "out", r"golden.parquet is missing or differs")


def test_doctor_says_that_scoring_goes_on_with_the_copy_that_was_checked_and_only_with_that(project: Any) -> None:
    project.registered()
    (stored(project) / "golden.parquet").write_bytes(b"another")
    assert incumbent.fetch_model(project.context, "1").is_dir()
    goes_on = r"golden.parquet .*; `refit score` goes on here with the checked copy in .refit/models/1-"
    with pytest.raises(RefitError, match=goes_on):
        incumbent.check_champion(project.context)
    shutil.rmtree(project.folder / ".refit/models")
    with pytest.raises(RefitError, match=r"golden.parquet .*; nothing is scored with it"):
        incumbent.check_champion(project.context)
    with pytest.raises(RefitError, match=r"golden.parquet"):
        incumbent.fetch_model(project.context, "1")


def test_a_swapped_model_whose_digests_were_made_to_fit_is_refused_by_the_ledger(project: Any, tmp_path: Path) -> None:
    project.registered()
    swap_and_cover(project)
    refused(project, tmp_path / "out", "is not the one that was judged: the ledger recorded manifest")


@pytest.mark.ci
def test_a_swapped_model_that_even_the_ledger_agrees_with_is_refused_by_its_signature(
    signed: Any, tmp_path: Path
) -> None:
    swap_and_cover(signed)
    forget_ledger(signed)
    refused(signed, tmp_path / "out", r"version 1 of toy is not as the key .*public.pem signed it: ")


def test_a_signature_of_another_key_is_refused(signed: Any, tmp_path: Path) -> None:
    key_pair(signed.folder / "others")
    asking(signed, "others/public.pem")
    refused(signed, tmp_path / "out", r"version 1 of toy is not as the key .*others/public.pem signed it: ")


@pytest.mark.ci
@pytest.mark.parametrize("signature", quick(["", "{}", "no signature"], 2))
def test_a_version_without_a_signature_is_refused_until_it_is_signed(
    signed: Any, tmp_path: Path, signature: str
) -> None:
    client(signed.store).set_model_version_tag("toy", "1", signing.TAG, signature)
    refused(
        signed, tmp_path / "out", "is not as the key" if signature else "version 1 of toy is not signed, .*`refit sign"
    )
    assert "version 1 of toy is signed: the key" in export.sign(signed.context, "1")
    for use in USES.values():
        use(signed, tmp_path / "out")


@pytest.mark.slow
def test_a_version_that_is_not_the_one_that_was_judged_is_not_signed(signed: Any) -> None:
    swap_and_cover(signed)
    with pytest.raises(RefitError, match="is not the one that was judged: the ledger recorded manifest"):
        export.sign(signed.context, "1")


@pytest.mark.ci
def test_without_the_private_key_nothing_is_registered(signed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFIT_SIGNING_KEY")
    with pytest.raises(RefitError, match="REFIT_SIGNING_KEY names no private key"):
        signed.registered(1)
    assert versions.version(signed.store, "toy", "2") is None
    assert signed.aliases["champion"] == "1"


@pytest.mark.slow
def test_an_exported_folder_is_loaded_only_by_its_digest_or_its_signature(signed: Any, tmp_path: Path) -> None:
    done = export.export(signed.context, None, tmp_path / "out")
    key = signed.folder / "keys/public.pem"
    with pytest.raises(UserError, match=r"give manifest=.* or public_key="):
        refit.load(tmp_path / "out")
    with pytest.raises(RefitError, match=r"differs from the registry's record|recorded 000000000000"):
        refit.load(tmp_path / "out", manifest="0" * 64)
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export.export(signed.context, None, tmp_path / "out")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export.export(signed.context, None, tmp_path / "dangling")
    (tmp_path / "out/surplus.py").write_text("raise SystemExit")
    for asked in ({"manifest": done.manifest}, {"public_key": key}):
        with pytest.raises(RefitError, match=r"surplus.py"):
            refit.load(tmp_path / "out", **asked)
    write_manifest(tmp_path / "out")
    with pytest.raises(RefitError, match=r"is not as the key .* signed it: .*surplus.py"):
        refit.load(tmp_path / "out", public_key=key)
    (tmp_path / "out.sig").unlink()
    with pytest.raises(RefitError, match="is not signed"):
        refit.load(tmp_path / "out", public_key=key)
    with pytest.raises(UserError, match="is neither a project nor what `refit export` wrote"):
        refit.load(tmp_path)


@pytest.mark.slow
def test_a_signature_from_before_is_replaced_whole(
    signed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.sig").write_text("of an earlier export")
    os.link(tmp_path / "out.sig", tmp_path / "earlier")
    done = export.export(signed.context, None, tmp_path / "out")
    assert (tmp_path / "earlier").read_text() == "of an earlier export"
    assert done.signature == str(tmp_path / "out.sig")
    refit.load(tmp_path / "out", public_key=signed.folder / "keys/public.pem")
    monkeypatch.chdir(tmp_path / "out")
    refit.load(Path(), public_key=signed.folder / "keys/public.pem")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"identity": "ann@x.org"},
        {"public_key": "a", "identity": "b", "issuer": "c"},
        {"public_key": "a", "issuer": "c"},
    ],
)
def test_who_signs_is_said_in_one_way(project: Any, asked: dict[str, str]) -> None:
    raw = project.context.params.model_dump(mode="json", by_alias=True)
    with pytest.raises(UserError, match=r"registry.signing needs public_key, or identity and issuer, and not both"):
        config.parse(raw | {"registry": {"signing": asked}})
