"""Makes torch compute the same bits on every run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["deterministic", "threads"]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run on some threads: on the CPU the order of sums depends on their number, and so would the model."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(seed: int, count: int) -> Iterator[None]:
    """Seed torch and use deterministic algorithms within the block; the process's own settings are restored."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # read when CUDA starts; without it cuBLAS is not deterministic
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(), threads(count):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
