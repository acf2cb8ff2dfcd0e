"""DVC's remote on S3: what is pushed comes back, and what S3 refuses is one line that says what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from servers import BUCKET, aws_client, aws_server

from refit.errors import RefitError
from refit.runtime import dvc_remote, dvc_runner


@dataclass(frozen=True)
class Bucket:
    """A bucket that only its user may read, and the keys of two users."""

    environ: Mapping[str, str]
    owner: tuple[str, str]
    stranger: tuple[str, str]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with aws_server() as environ:
        iam, keys = aws_client("iam", environ), []
        for name in ("owner", "stranger"):
            iam.create_user(UserName=name)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            keys.append((key["AccessKeyId"], key["SecretAccessKey"]))
        allowed = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
        iam.put_user_policy(UserName="owner", PolicyName="all", PolicyDocument=allowed)
        requests.post(f"{environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth", data="0")  # from now on it checks each
        yield Bucket(environ, *keys)


@dataclass(frozen=True)
class Shared:
    """A project with one output, and a remote on S3."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def use(self, keys: tuple[str, str], bucket: str = BUCKET) -> None:
        """Take these keys, and the remote of this bucket."""
        import s3fs

        for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys, strict=True):
            self.monkeypatch.setenv(name, value)
        (self.folder / ".dvc/config").write_text(
            f"[core]\n    no_scm = true\n    remote = shared\n['remote \"shared\"']\n    url = s3://{bucket}/dvc\n"
        )
        s3fs.S3FileSystem.clear_instance_cache()  # a process has one set of keys

    def lose(self) -> None:
        """Delete what this machine has."""
        shutil.rmtree(self.folder / ".dvc/cache", ignore_errors=True)
        (self.folder / "made").unlink(missing_ok=True)

    def refusals(self) -> Iterator[str]:
        """What pushing and pulling say."""
        for action in (dvc_remote.push, dvc_remote.pull):
            with pytest.raises(RefitError) as refused:
                action(self.folder)
            assert "\n" not in str(refused.value)
            yield str(refused.value)
            self.lose()


@pytest.fixture
def shared(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    dvc_runner.initialise(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages:\n  make:\n    cmd: echo 1 > made\n    outs: [made]\n")
    dvc_runner.run_stage(tmp_path, "make", lambda: (tmp_path / "made").write_text("1") and None)
    return Shared(tmp_path, monkeypatch)


@pytest.mark.ci
def test_what_one_machine_pushes_to_s3_another_pulls(bucket: Bucket, shared: Shared) -> None:
    shared.use(bucket.owner)
    assert dvc_remote.push(shared.folder)
    shared.lose()
    dvc_remote.pull(shared.folder)
    assert (shared.folder / "made").read_text() == "1"


@pytest.mark.slow
def test_keys_that_s3_refuses_are_one_line_that_says_which_to_check(bucket: Bucket, shared: Shared) -> None:
    for keys in (("AKIA0000000000000000", "unknown"), (bucket.owner[0], "wrong"), bucket.stranger):
        shared.use(keys)
        for refusal in shared.refusals():
            assert f"DVC's remote s3://{BUCKET}/dvc cannot be pu" in refusal
            assert "S3 refuses it (403): see that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are right" in refusal
            assert keys[1] not in refusal


@pytest.mark.slow
def test_a_bucket_that_does_not_exist_is_no_empty_one(bucket: Bucket, shared: Shared) -> None:
    shared.use(bucket.owner, "misspelt")
    for refusal in shared.refusals():
        assert "s3://misspelt/dvc" in refusal
        assert "the bucket does not exist (NoSuchBucket): create it, or mend its name" in refusal


def test_without_keys_or_an_answer_the_line_says_which_variables_to_set(bucket: Bucket, shared: Shared) -> None:
    shared.use(bucket.owner)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        shared.monkeypatch.delenv(name)
    shared.monkeypatch.setenv("HOME", str(shared.folder))  # nor in a file of this user
    assert all("S3 needs keys, and there are none: set AWS_ACCESS_KEY_ID" in each for each in shared.refusals())


def test_without_the_library_the_line_says_how_to_install_it(
    bucket: Bucket, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.use(bucket.owner)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("dvc_s3", "s3fs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert all("install -c constraints.txt -e '.[s3]'" in each for each in shared.refusals())
