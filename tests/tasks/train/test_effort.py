"""Each fit is told its own memory, not what the process had held at some time before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.train import effort
from tasks.train.effort import measured


def peak_of(megabytes: int) -> float | None:
    """What is measured of a block that holds so much, and lets it go."""
    with measured() as found:
        np.ones(megabytes << 17)
    return found.peak_memory_mb


def test_memory_is_that_of_the_block_whatever_was_held_before_it() -> None:
    large, small = peak_of(200), peak_of(20)
    assert large is not None
    assert small is not None
    assert 190 < large < 260
    assert 15 < small < 60


def test_memory_that_an_earlier_block_let_go_does_not_make_a_later_one_cheap() -> None:
    above: list[bytearray] = []  # what lies above the freed pieces keeps malloc from returning them by itself

    def pieces() -> float | None:
        with measured() as found:
            held = [bytearray(1000) for _ in range(50_000)]  # too large for Python's own pools, too small for a mapping
            above.append(bytearray(1000))
            del held
        return found.peak_memory_mb

    first, second = pieces(), pieces()
    assert first is not None
    assert second is not None
    assert second > 0.5 * first > 20


def test_a_system_that_does_not_tell_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(effort, "PROC", tmp_path / "none")
    with measured() as found:
        pass
    assert found.peak_memory_mb is None
    assert found.seconds >= 0
