"""`refit up` in one environment does not go on with the worker of another."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from flows.services import up
from flows.services.processes import Started
from refit.errors import UserError


def test_a_worker_of_another_environment_is_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**os.environ, "REFIT_ENV": "staging"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()  # it has its own environment from here on
        worker = Started("worker", child.pid, psutil.Process(child.pid).create_time(), "mark", "log")
        monkeypatch.setenv("REFIT_ENV", "staging")
        up._require_same_environment(worker)
        monkeypatch.setenv("REFIT_ENV", "")
        with pytest.raises(UserError, match=r"is up is in staging, not in params\.yaml alone; `refit down` first"):
            up._require_same_environment(worker)
        child.communicate(b"\n")
