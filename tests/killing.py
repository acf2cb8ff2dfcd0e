"""Fits in processes that kill themselves, and what the next process does again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from refit.learners.networks.surroundings import EpochReport

TESTS = Path(__file__).parent


def noted(epochs: list[int], *, killed_after: int | None = None) -> Callable[[EpochReport], None]:
    """Note each epoch that ends; the process dies at the end of one of them."""

    def on_epoch(report: EpochReport) -> None:
        epochs.append(report.epoch)
        if report.epoch == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_epoch


def run_until_killed(module: str, names: str, call: str) -> None:
    """Make a call with some names of a test module, and `Path`, in a new process that has to kill itself."""
    code = f"import sys; sys.path[:0] = {[str(TESTS.parent), str(TESTS)]!r}; from pathlib import Path; "
    code += f"from {module} import {names}; {call}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
