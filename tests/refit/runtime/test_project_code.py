"""A Python file of a project runs as it is written now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from refit.runtime import project_code


def test_an_edit_that_keeps_size_and_time_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "features.py"
    for number in (1, 2):
        file.write_text(f"days = {number}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        loaded = project_code.load(tmp_path, file.name, "featurize.definitions")
        assert loaded.days == number
    assert [each.name for each in tmp_path.iterdir()] == [file.name], "no other file is written"
