"""One secret for all that a project starts, made once, readable by its owner alone."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.services import credentials
from refit.errors import RefitError


def test_the_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    secret = credentials.auth_string(tmp_path)
    assert credentials.auth_string(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / credentials.AUTH).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / credentials.AUTH).parent.stat().st_mode) == 0o700
    assert credentials.auth_string(tmp_path / "another") != secret


def test_those_who_need_the_first_secret_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(credentials.auth_string, [tmp_path] * 32))) == 1
    assert [path.name for path in (tmp_path / credentials.AUTH).parent.iterdir()] == ["auth"], "nothing is left over"


def test_a_secret_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    secret = credentials.auth_string(tmp_path)
    (tmp_path / credentials.AUTH).chmod(0o644)
    assert credentials.auth_string(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / credentials.AUTH).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "refit:short", "admin:" + "a" * 43, "refit:" + "a" * 43 + "\nmore", "\x00"])
def test_a_file_that_holds_no_secret_of_ours_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    credentials.auth_string(tmp_path)
    (tmp_path / credentials.AUTH).write_text(content)
    with pytest.raises(RefitError, match=r"holds no secret that Refit made.*delete it") as error:
        credentials.auth_string(tmp_path)
    assert "\n" not in str(error.value)
